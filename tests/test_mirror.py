"""Mirroring to a folder and to remote file systems that fail, corrupt, hang or vanish."""

import _thread
import shutil
import threading
import time
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from neurodense.errors import RunError
from neurodense.training.mirror import PACKAGES, Mirror, restore

FILES = {
    "run.json": b'{"state": "running"}',
    "log.jsonl": b'{"epoch": 1}\n',
    "checkpoints/epoch-001.safetensors": bytes(range(256)) * 300,
    "tensorboard/events": b"",
    "model/card.json": b"{}",
}


class Bucket(MemoryFileSystem):
    """An object store of its own, whose next writes can be made to fail or to arrive damaged, and that can hang."""

    protocol = "bucket"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    failing = 0  # writes that are refused from now on
    damaged = 0  # writes that arrive with a wrong byte
    writes: ClassVar[list[str]] = []  # every write that was tried
    gate = threading.Event()  # writes wait for it
    moves: ClassVar[list[str]] = []  # final names, in order

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.removeprefix("bucket://"))

    def _open(self, path, mode="rb", **kwargs):
        if mode == "wb":
            Bucket.writes.append(path)
            assert Bucket.gate.wait(20)
            if Bucket.failing:
                Bucket.failing -= 1
                raise OSError("the network is down")
        return super()._open(path, mode, **kwargs)

    def mv(self, path1, path2, **kwargs):
        Bucket.moves.append(path2)
        super().mv(path1, path2, **kwargs)

    def invalidate_cache(self, path=None):  # called between writing and reading back
        for name, file in self.store.items():
            if Bucket.damaged and name.endswith(".partial") and file.getbuffer():
                Bucket.damaged -= 1
                file.getbuffer()[0] ^= 1


@pytest.fixture
def bucket():
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    Bucket.store, Bucket.pseudo_dirs, Bucket.writes, Bucket.moves = {}, [""], [], []
    Bucket.failing = Bucket.damaged = 0
    Bucket.gate = threading.Event()
    Bucket.gate.set()
    Bucket.clear_instance_cache()
    return Bucket


@pytest.fixture
def run(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "run" / ".run-1a2b.json").write_bytes(b"half")
    return tmp_path / "run"


@pytest.fixture
def warnings():
    return []


def mirror(run, destination, warnings, attempts=3):
    return Mirror(run, str(destination), attempts=attempts, first_wait_s=0.01, warn=warnings.append)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def stored(prefix: str = "/runs/a/") -> dict[str, bytes]:
    return {name.removeprefix(prefix): file.getvalue() for name, file in Bucket.store.items()}


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_plain_folder_gets_whole_files_and_no_temporaries(run, tmp_path, warnings, scheme):
    copy = tmp_path / "drive [1]" / "run"
    made = mirror(run, f"{scheme}{copy}", warnings)
    made.push()
    until((copy / "run.json").exists)
    (run / "log.jsonl").write_bytes(b'{"epoch": 1}\n{"epoch": 2}\n')
    assert made.close()
    assert contents(copy) == {**FILES, "log.jsonl": b'{"epoch": 1}\n{"epoch": 2}\n'}
    assert made.close(), "closing twice is closing once"
    made.push()
    assert warnings == []


def test_memory_file_system(run, warnings):
    fs = fsspec.filesystem("memory")
    try:
        assert mirror(run, "memory://mirror-test/run", warnings).close()
        assert {p.removeprefix("/mirror-test/run/"): fs.cat_file(p) for p in fs.find("/mirror-test")} == FILES
    finally:
        fs.rm("/mirror-test", recursive=True)
    assert warnings == []


def test_run_json_goes_last(run, bucket, warnings):
    assert mirror(run, "bucket://runs/a", warnings).close()
    assert sorted(bucket.moves) == sorted(f"/runs/a/{name}" for name in FILES)
    assert bucket.moves[-1] == "/runs/a/run.json"


def test_only_what_changed_is_sent_again(run, bucket, warnings):
    made = mirror(run, "bucket://runs/a", warnings)
    made.push()
    until(lambda: "/runs/a/run.json" in bucket.moves)
    (run / "checkpoints/epoch-002.safetensors").write_bytes(b"new")
    (run / "model/card.json").unlink()  # the mirror only copies: what was deleted here stays there
    assert made.close()
    assert bucket.moves[len(FILES) :] == ["/runs/a/checkpoints/epoch-002.safetensors"]
    assert stored() == {**FILES, "checkpoints/epoch-002.safetensors": b"new"}


def test_failed_writes_are_retried(run, bucket, warnings):
    bucket.failing = 2
    assert mirror(run, "bucket://runs/a", warnings).close()
    assert stored() == FILES
    assert warnings == []


def test_damaged_copy_is_found_and_sent_again(run, bucket, warnings):
    bucket.damaged = 2
    assert mirror(run, "bucket://runs/a", warnings).close()
    assert len(bucket.writes) == len(FILES) + 2
    assert stored() == FILES
    assert warnings == []


def test_damage_that_stays_is_reported_and_leaves_nothing_behind(run, bucket, warnings):
    bucket.damaged = 1000
    assert not mirror(run, "bucket://runs/a", warnings).close()
    assert set(stored()) == {"tensorboard/events"}  # empty: nothing to damage
    assert "SHA-256" in warnings[0]


def test_destination_that_is_down_costs_one_warning_a_pass_and_recovers(run, bucket, warnings):
    made = mirror(run, "bucket://user:secret@runs/a", warnings)
    bucket.failing = 1000
    made.push()
    until(lambda: warnings)
    assert len(warnings) == 1
    assert len(bucket.writes) == 3 + len(FILES) - 1, "after one file that failed every try, the others get one each"
    for part in ("log.jsonl and 4 more", "bucket://runs/a", "the network is down"):
        assert part in warnings[0]
    assert "tried again at the next checkpoint" in warnings[0]
    assert "secret" not in warnings[0]
    bucket.failing = 0
    assert made.close()
    assert len(warnings) == 1


def test_permanent_failure_never_raises(run, bucket, warnings):
    bucket.failing = 1000

    def broken_warn(message):
        warnings.append(message)
        raise RuntimeError("nobody listens")

    made = Mirror(run, "bucket://runs/a", attempts=2, first_wait_s=0.01, warn=broken_warn)
    made.push()
    until(lambda: warnings)
    assert made.close() is False
    assert made.close() is False
    assert "by hand" in warnings[-1]
    assert stored() == {}


def test_vanished_folder_is_not_made_again(run, tmp_path, warnings):
    made = mirror(run, tmp_path / "drive/run", warnings)
    made.push()
    until((tmp_path / "drive/run/run.json").exists)
    shutil.rmtree(tmp_path / "drive")  # as when Google Drive is unmounted
    assert made.close() is False
    assert not (tmp_path / "drive").exists()
    assert "is gone" in warnings[0]


def test_emptied_store_is_filled_again_at_the_end(run, bucket, warnings):
    made = mirror(run, "bucket://runs/a", warnings)
    made.push()
    until(lambda: "/runs/a/run.json" in bucket.moves)
    until(lambda: made._served == 1)
    bucket.store.clear()
    assert made.close()
    assert stored() == FILES


def test_requests_coalesce(run, bucket, warnings):
    bucket.gate.clear()
    made = mirror(run, "bucket://runs/a", warnings)
    started = time.monotonic()
    made.push()
    until(lambda: bucket.writes)
    for number in range(50):  # all of them during the first pass
        (run / "log.jsonl").write_bytes(b"x" * number)
        made.push()
    assert time.monotonic() - started < 5, "push waits for nothing"
    passes = []
    copy_changed = made._copy_changed
    made._copy_changed = lambda last: passes.append(last) or copy_changed(last)
    bucket.gate.set()
    until(lambda: made._served == 51)
    assert passes == [False]
    assert made.close()
    assert stored()["log.jsonl"] == b"x" * 49


def test_file_replaced_while_it_is_sent_arrives_whole(run, bucket, warnings):
    first, second = b"1" * 9_000_000, b"2" * 9_000_000
    (run / "big").write_bytes(first)
    write, seen = fsspec.implementations.memory.MemoryFile.write, []

    def write_and_replace(self, data):
        if data[:1] == b"1" and not seen:
            seen.append(True)
            (run / ".big").write_bytes(second)
            (run / ".big").replace(run / "big")
        return write(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fsspec.implementations.memory.MemoryFile.write", write_and_replace)
        made = mirror(run, "bucket://runs/a", warnings)
        made.push()
        until(lambda: made._served == 1)
        assert stored()["big"] == first
        assert made.close()
    assert stored()["big"] == second
    assert warnings == []


def test_file_that_grows_while_it_is_sent_is_copied_as_long_as_it_was(run, bucket, warnings):
    bucket.gate.clear()
    (run / "log.jsonl").write_bytes(b"old\n")
    made = mirror(run, "bucket://runs/a", warnings)
    with (run / "log.jsonl").open("ab", buffering=0) as log:
        growing = threading.Event()
        write = fsspec.implementations.memory.MemoryFile.write

        def write_and_grow(self, data):
            if data.startswith(b"old") and not growing.is_set():
                growing.set()
                log.write(b"new\n")
            return write(self, data)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fsspec.implementations.memory.MemoryFile.write", write_and_grow)
            made.push()
            bucket.gate.set()
            until(lambda: made._served == 1)
        assert stored()["log.jsonl"] == b"old\n"
    assert made.close()
    assert stored()["log.jsonl"] == b"old\nnew\n"


def test_file_deleted_while_the_pass_runs_is_no_failure(run, bucket, warnings):
    bucket.gate.clear()
    made = mirror(run, "bucket://runs/a", warnings)
    made.push()
    until(lambda: bucket.writes)
    (run / "model/card.json").unlink()
    bucket.gate.set()
    assert made.close()
    assert warnings == []


def test_close_gives_up_when_the_store_hangs(run, bucket, warnings):
    bucket.gate.clear()
    made = mirror(run, "bucket://runs/a", warnings)
    started = time.monotonic()
    assert made.close(timeout_s=0.3) is False
    assert time.monotonic() - started < 5
    assert "not done after 0.3 s" in warnings[0]
    bucket.gate.set()
    made._thread.join(20)
    assert not made._thread.is_alive()
    assert made.close() is False


def test_ctrl_c_ends_the_waiting(run, bucket, warnings):
    bucket.gate.clear()
    made = mirror(run, "bucket://runs/a", warnings)
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        made.close()
    assert time.monotonic() - started < 5
    timer.join()
    bucket.gate.set()
    made._thread.join(20)
    assert not made._thread.is_alive()


@pytest.mark.parametrize(
    ("destination", "message", "hint"),
    [
        ("nowhere://x/y", "Protocol not known: nowhere", "Give a folder"),
        ("needy://x/y", "needs a package", "pip install needy-fs"),
        ("{run}/mirror", "inside the run folder", "Give a folder"),
        ("{run}/run.json/x", "cannot be used as a mirror", "Give a folder"),
        ("{run}.txt/x", "cannot be used as a mirror", "Give a folder"),
    ],
)
def test_unusable_destination_is_found_at_once(run, monkeypatch, destination, message, hint):
    fsspec.register_implementation("needy", "no_such_module.FS", clobber=True, errtxt="it needs a package")
    monkeypatch.setitem(PACKAGES, "needy", "needy-fs")
    run.with_suffix(".txt").write_text("a file")
    with pytest.raises(RunError, match=message) as caught:
        mirror(run, destination.format(run=run), [])
    assert hint in caught.value.hint
    assert not (run / "mirror").exists()


@pytest.mark.parametrize("scheme", ["bucket://runs/a", "{folder}/drive"])
def test_restore_brings_back_what_is_missing(run, tmp_path, bucket, warnings, scheme):
    destination = scheme.format(folder=tmp_path)
    assert mirror(run, destination, warnings).close()
    back = tmp_path / "back"
    (back / "model").mkdir(parents=True)
    (back / "model/card.json").write_bytes(b"newer")
    restore(destination, back)
    assert contents(back) == {**FILES, "model/card.json": b"newer"}


def test_restore_leaves_a_half_made_copy_without_run_json(run, tmp_path, bucket, warnings):
    assert mirror(run, "bucket://runs/a", warnings).close()
    bucket.store["/runs/a/.log.jsonl.partial"] = bucket.store["/runs/a/../../escaped"] = bucket.store[
        "/runs/a/run.json"
    ]
    with pytest.MonkeyPatch.context() as patch:
        get_file = bucket.get_file
        patch.setattr(
            bucket, "get_file", lambda self, path, *rest: None if "model" in path else get_file(self, path, *rest)
        )
        with pytest.raises(RunError, match="could not be copied back"):
            restore("bucket://runs/a", tmp_path / "back")
    assert "run.json" not in contents(tmp_path / "back")
    restore("bucket://runs/a", tmp_path / "back")
    assert contents(tmp_path / "back") == FILES
    assert not (tmp_path.parent / "escaped").exists()


def test_restore_says_what_it_found(tmp_path, bucket):
    with pytest.raises(RunError, match="Found: nothing"):
        restore(str(tmp_path / "empty"), tmp_path / "back")
    with fsspec.open("bucket://runs/b/run.json", "wb") as file:
        file.write(b"{}")
    with pytest.raises(RunError, match=r"Found: b/run\.json \(1 in all\)"):
        restore("bucket://runs", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    assert not (tmp_path / "empty").exists()
