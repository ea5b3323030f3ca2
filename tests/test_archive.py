import json
import os
import shutil
import signal
import subprocess
import time
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

if find_spec("ray") is None or find_spec("pyarrow") is None:
    pytest.skip("neurodense[ray] is not installed", allow_module_level=True)

import pyarrow as pa
from conftest import head_slices, write_dicom_slice, write_volume
from pyarrow import parquet

from benchmarks.nodes import ENVIRONMENT, command, descendants, finished, listening, twice_and_lost, two_nodes
from neurodense import predict_archive
from neurodense.errors import DataError, MissingExtra, ModelError, RunError
from neurodense.inference import archive, listing, shard
from neurodense.inference.predictor import Predictor
from neurodense.inference.remote import fetch, find

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor("brain", threads=1)


@pytest.fixture
def folder(phantoms: Path, tmp_path: Path) -> Path:
    """40 phantoms, a volume, a DICOM slice, an empty picture, and one whose name is no text."""
    folder = tmp_path / "scans"
    shutil.copytree(phantoms, folder, ignore=shutil.ignore_patterns("*.csv", "*.json", "*.md", "*.txt"))
    heads = head_slices(6)
    write_volume(folder / "volume.nii.gz", heads)
    write_dicom_slice(folder / "IM0001", heads[2], 1.0)
    (folder / "empty.png").touch()
    shutil.copy(next(phantoms.rglob("*.png")), os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png"))
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, predictor: Predictor) -> list[int]:
    """Shards are answered in this process; gives the numbers of those that were."""
    answered: list[int] = []

    def run(plan: shard.Plan, numbers: list[int], *_: Any) -> Iterator[tuple[int, int]]:
        for number in numbers:
            answered.append(number)
            yield shard.answer_shard(plan, predictor, number)

    monkeypatch.setattr(archive, "run_shards", run)
    return answered


def names(path: Path) -> list[str]:
    return [os.fsdecode(name) for name in parquet.read_table(path)["source"].to_pylist()]


def rows(out: Path, kind: str) -> list[dict[str, Any]]:
    return [row for part in sorted((out / kind).glob("*.parquet")) for row in parquet.read_table(part).to_pylist()]


def test_names_are_sorted_and_once_whatever_fits_into_memory(tmp_path: Path) -> None:
    given = [b"%d" % number for number in np.random.default_rng(0).integers(0, 500, 1000)]
    for run in (7, 5000):
        (room := tmp_path / str(run)).mkdir()
        assert list(listing.in_order(given, room, run)) == sorted(set(given))


def test_a_listing_is_the_same_however_the_files_are_named(folder: Path, tmp_path: Path) -> None:
    plain = [str(path) for path in sorted(folder.rglob("*")) if path.is_file()]
    (tmp_path / "list.txt").write_bytes(b"\r\n\n".join(map(os.fsencode, plain)))
    parquet.write_table(pa.table({"path": [os.fsencode(name) for name in plain]}), tmp_path / "list.parquet")
    (tmp_path / "list.csv").write_bytes(b"label,path\n" + b"".join(b'x,"%s"\n' % os.fsencode(name) for name in plain))
    ways = [
        [str(folder)], [f"{folder}/**"], [str(folder), f"{folder}/*/*.png", plain[0]],
        *([f"@{tmp_path / name}"] for name in ("list.txt", "list.csv", "list.parquet")),
    ]  # fmt: skip
    found = [listing.write_listing(way, tmp_path / "listing.parquet", 7) for way in ways]
    assert len(plain) == 44
    assert names(tmp_path / "listing.parquet") == sorted(plain, key=os.fsencode)
    assert {(one.files, one.sha256) for one in found} == {(44, found[0].sha256)}
    assert listing.read_shard(tmp_path / "listing.parquet", 6) == sorted(plain, key=os.fsencode)[42:]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nowhere", "nowhere does not exist"),
        ("@nowhere.txt", "nowhere.txt cannot be read: No such file"),
        ("@wrong.csv", "has the columns a, b; one must be source or path"),
        ("@wrong.parquet", "is no Parquet file"),
        ("empty", "no image there"),
        ("file:///nowhere/at/all", "does not exist"),
        ("nothing://x/y", "cannot be listed"),
    ],
)
def test_what_is_no_archive_is_said(given: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.csv").write_text("a,b\n1,2\n")
    Path("wrong.parquet").write_text("no")
    Path("empty").mkdir()
    with pytest.raises(DataError, match=said):
        listing.write_listing([given], tmp_path / "out.parquet", 5)
    assert not (tmp_path / "out.parquet").exists()


def test_urls_are_found_and_fetched(phantoms: Path, tmp_path: Path) -> None:
    below = tmp_path / "a b%20c"
    shutil.copytree(phantoms, below)
    plain = sorted(below.rglob("*.png"))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        for path in plain:
            packed.write(path, path.relative_to(below))
    for url in (f"{below.as_uri()}/", f"zip://::{(tmp_path / 'all.zip').as_uri()}"):
        found = list(find(url))
        assert [fetch(one).content for one in found] == [path.read_bytes() for path in plain]
        assert list(find(found[0])) == found[:1]


def test_an_archive_says_what_predict_says(folder: Path, tmp_path: Path, here: list[int], predictor: Predictor) -> None:
    out = tmp_path / "out"
    done = predict_archive([folder], out, shard=9)
    assert (done.files, done.predictions, done.errors, done.shards, done.answered_now) == (44, 43, 1, 5, 44)
    (error,) = rows(out, "errors")
    assert error == {"source": str(folder / "empty.png"), "type": "ScanError", "message": error["message"]}
    said = {row["source"]: row for row in rows(out, "predictions")}
    files = [Path(name) for name in names(out / "listing.parquet") if not name.endswith("empty.png")]
    for path, answer in zip(files, predictor.predict(files), strict=True):
        row = said[shard.text(str(path))]
        assert [row[f"p:{name}"] for name in predictor.card.classes] == pytest.approx(
            list(answer.probabilities.values()), abs=1e-6
        )
        assert (row["label"], row["named"], row["verdict"]) == (answer.label, answer.named, answer.verdict)
        assert tuple(row["prediction_set"]) == answer.prediction_set
        assert row["ood_score"] == pytest.approx(answer.ood_score, rel=1e-5)
        assert (row["slices"], row["total"]) == (len(answer.slices), answer.total)
        assert row["model"] == json.loads((out / "manifest.json").read_text())["model"]
    assert said[str(folder / "volume.nii.gz")]["total"] == 6
    assert any(name.endswith("caf\\xe9.png") for name in said)


def test_what_is_done_stays_and_the_rest_is_done(folder: Path, tmp_path: Path, here: list[int]) -> None:
    out = tmp_path / "out"
    predict_archive([folder], out, shard=9)
    before = {path: path.stat().st_mtime_ns for path in (out / "predictions").iterdir()}
    (out / "predictions" / "part-000003.parquet").unlink()
    (out / "errors" / "part-000003.parquet").write_text("of an attempt that was ended")
    here.clear()
    assert predict_archive([folder], out, shard=9).answered_now == 9
    assert here == [3]
    kept = {path: path.stat().st_mtime_ns for path in before if path.name != "part-000003.parquet"}
    assert kept.items() <= before.items()
    here.clear()
    assert predict_archive([f"@{out / 'listing.parquet'}"], out, shard=9).answered_now == 0
    parquet.write_table(parquet.read_table(path := max(before)).slice(1), path)
    with pytest.raises(RunError, match="7 rows for 8 files") as caught:
        predict_archive([folder], out, shard=9)
    assert "Delete it" in str(caught.value.hint)


def test_another_model_and_other_files_are_refused(folder: Path, tmp_path: Path, here: list[int]) -> None:
    out = tmp_path / "out"
    predict_archive([folder], out, shard=9)
    other = tmp_path / "other"
    shutil.copytree(Predictor("brain").folder, other)
    card = json.loads((other / "card.json").read_text())
    (other / "card.json").write_text(json.dumps(card | {"name": "other"}))
    for changed in ({"model": other}, {"precision": "fp32"}, {"slices": "all"}, {"error": 0.2}, {"shard": 8}):
        with pytest.raises(RunError, match=f"{next(iter(changed))} is .*, was "):
            predict_archive([folder], out, **({"shard": 9} | changed))
    (folder / "empty.png").unlink()
    with pytest.raises(RunError, match="files is 43, was 44") as caught:
        predict_archive([folder], out, shard=9)
    assert f"@{out / 'listing.parquet'}" in str(caught.value.hint)
    with pytest.raises(ModelError, match="holds another model than"):
        shard.Plan(out, str(other), "0" * 64, "int8", "brain", None).predictor()
    (out / "manifest.json").unlink()
    with pytest.raises(RunError, match=r"holds predictions but no manifest\.json"):
        predict_archive([folder], out)


def test_a_file_that_ends_its_worker_twice_is_an_error(phantoms: Path, tmp_path: Path, predictor: Predictor) -> None:
    """As Ray starts a shard again whose worker died: the file is found, written down, and the rest is done."""
    listing.write_listing([str(phantoms)], tmp_path / shard.LISTING, 50)
    plan = shard.Plan(tmp_path, "brain", "x", predictor.precision, "brain", None)
    fatal = names(tmp_path / shard.LISTING)[17]

    class Mortal:
        card = predictor.card

        def predict(self, inputs: Any, slices: Any) -> Iterator[Any]:
            for path in inputs:
                if str(path) == fatal:
                    raise SystemExit
                yield from predictor.predict([path], slices)

    for _ in range(3):
        with pytest.raises(SystemExit):
            shard.answer_shard(plan, Mortal(), 0)  # type: ignore[arg-type]
        assert not plan.part(shard.PREDICTIONS, 0).exists()
    assert shard.answer_shard(plan, Mortal(), 0) == (39, 1)  # type: ignore[arg-type]
    (row,) = rows(tmp_path, "errors")
    assert row["source"] == fatal
    assert "ended, 2 times" in row["message"]
    assert not list((tmp_path / "attempts").iterdir())


def test_a_reader_that_fails_oddly_costs_one_file_but_a_broken_engine_the_run(
    phantoms: Path, tmp_path: Path, predictor: Predictor
) -> None:
    listing.write_listing([str(phantoms)], tmp_path / shard.LISTING, 50)
    plan = shard.Plan(tmp_path, "brain", "x", predictor.precision, "brain", None)

    class Odd:
        card = predictor.card

        def __init__(self, bad: set[str]) -> None:
            self.bad = bad

        def predict(self, inputs: Any, slices: Any) -> Iterator[Any]:
            for path in inputs:
                if str(path) in self.bad:
                    raise ZeroDivisionError("odd")
                yield from predictor.predict([path], slices)

    every = names(tmp_path / shard.LISTING)
    assert shard.answer_shard(plan, Odd(set(every[5:7])), 0) == (38, 2)  # type: ignore[arg-type]
    assert [row["type"] for row in rows(tmp_path, "errors")] == ["ZeroDivisionError"] * 2
    with pytest.raises(ZeroDivisionError):
        shard.answer_shard(plan, Odd(set(every)), 0)  # type: ignore[arg-type]


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archive, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"neurodense\[ray\]"):
        predict_archive(["x"], tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--engine", "ray"], "needs --out DIR"),
        (["--engine", "ray", "--out", "o", "--format", "csv"], "no --format"),
        (["--out", "o"], "go with --engine ray"),
        (["--address", "x:1"], "go with --engine ray"),
        (["--engine", "ray", "--out", "o"], "x.png does not exist"),
    ],
)
def test_wrong_use(options: list[str], said: str, command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [*command, "predict", "x.png", *options], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes by /proc")
def test_a_killed_command_goes_on_and_a_killed_worker_loses_nothing(tmp_path: Path) -> None:
    """Begun on this machine alone, where the command is killed; ended on two nodes, where a worker is."""
    folder, out, log = tmp_path / "scans", tmp_path / "out", tmp_path / "log"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(300):
        Image.fromarray(rng.integers(0, 256, (64, 64), np.uint8)).save(folder / f"{number:03}.png")
    (folder / "017.png").write_bytes(b"no picture")
    words = command([str(folder)], out, "--shard", "10")

    with log.open("w") as handle:
        driver = subprocess.Popen([*words, "--threads", "1"], stdout=handle, stderr=handle)
    _until(lambda: finished(out) >= 3 or driver.poll() is not None)
    assert driver.poll() is None, log.read_text()
    processes = descendants(driver.pid)
    addresses = {address for pid in (driver.pid, *processes) for address in listening(pid)}
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert any("MapWorker" in title for title in processes.values())
    assert all("--disable-frontend" in title for title in processes.values() if "dashboard.py" in title)
    assert addresses
    assert addresses <= LOOPBACK
    _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
    assert 3 <= finished(out) < 30
    before = {path: path.stat().st_mtime_ns for path in (out / "predictions").glob("part-*")}

    with two_nodes() as nodes:
        driver = subprocess.Popen(
            [*words, "--address", nodes.address], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        nodes.kill_worker(out, len(before) + 2)
        said, noise = driver.communicate()
    assert driver.returncode == 1, noise  # one file is no picture
    assert "300 files in 30 shards: 299 answered, 1 errors. Every file is there once" in said
    assert f"{len(before)} of 30 shards are there already" in noise
    assert twice_and_lost(out) == (0, 0, 0)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert [row["source"] for row in rows(out, "errors")] == [str(folder / "017.png")]
    assert not list((out / "attempts").iterdir())


def _until(condition: Any, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
