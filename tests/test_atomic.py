"""Files appear whole or not at all."""

import errno
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from neurodense.atomic import replacing, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "deep" / "x.txt"
    write_text(path, "one\n")
    write_text(str(path), "zwei ü\n")
    assert path.read_bytes() == "zwei ü\n".encode()
    assert names(path.parent) == ["x.txt"]


def test_until_the_block_ends_the_old_file_stands(tmp_path):
    path = tmp_path / "x.tar.gz"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".gz"
        assert temporary.name.startswith(".")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["x.tar.gz"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_block_that_fails_leaves_the_old_file_and_no_temporary_one(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["x.txt"]


def test_a_full_disk_says_which_file_it_was(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=r"No space left on device: .*x\.txt") as caught, replacing(tmp_path / "x.txt"):
        raise full
    assert caught.value is full
    assert names(tmp_path) == []


def test_a_block_that_fails_first_makes_no_file(tmp_path):
    with pytest.raises(ValueError, match="early"), replacing(tmp_path / "x.txt"):
        raise ValueError("early")
    assert names(tmp_path) == []


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    (tmp_path / "x.txt").write_text("old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "x.txt"):
        pass
    assert (tmp_path / "x.txt").read_text() == "old"


def test_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(OSError, match="x"):
        write_text(tmp_path / "x", "text")
    assert names(tmp_path) == ["x"]


def test_text_keeps_its_line_ends(tmp_path):
    write_text(tmp_path / "x", "a\nb\r\nc\r")
    assert (tmp_path / "x").read_bytes() == b"a\nb\r\nc\r"


def test_json(tmp_path):
    value = {"name": "ü 脑", "list": [1, 2.5, None, True], "nested": {"[red]": "x"}}
    write_json(tmp_path / "x.json", value)
    written = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert json.loads(written) == value
    assert "ü 脑" in written
    assert written.endswith("}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, "\udcff"])
def test_what_json_lacks_leaves_the_old_file(tmp_path, value):
    write_json(tmp_path / "x.json", {})
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "x.json", {"value": value})
    assert names(tmp_path) == ["x.json"]
    assert (tmp_path / "x.json").read_text() == "{}\n"


def test_many_writers_leave_one_whole_file(tmp_path):
    texts = [f"{k}\n" * 5000 for k in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: write_text(tmp_path / "x", text), texts))
    assert (tmp_path / "x").read_text() in texts
    assert names(tmp_path) == ["x"]
