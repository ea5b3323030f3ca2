"""Starting and resuming: what is refused before anything is touched, and what a resumed run may change."""

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import neurodense
from neurodense.errors import DataError, RunError, WeightsError
from neurodense.inference.prediction import Prediction
from neurodense.inference.predictor import Predictor
from neurodense.scans.study import Failure, find_studies
from neurodense.training import execute
from neurodense.training.journal import Journal, read_history
from neurodense.training.recipe import Recipe
from neurodense.training.run import resume, train


@pytest.fixture
def no_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything up to the loop, and nothing after it."""
    monkeypatch.setattr(execute.Fit, "run", lambda self, start: None)
    monkeypatch.setattr(execute, "finish", lambda run, *_: run / "model")


@pytest.mark.parametrize("what", ["model", "log.jsonl", "notes.txt"])
def test_a_folder_with_something_else_in_it_is_not_touched(
    phantoms: Path, tiny: Recipe, tmp_path: Path, what: str
) -> None:
    (tmp_path / what).write_text("mine")
    with pytest.raises(RunError, match=f"not empty: it holds {what}"):
        train(phantoms, tmp_path, recipe=tiny)
    assert [path.name for path in tmp_path.iterdir()] == [what]
    assert (tmp_path / what).read_text() == "mine"


def test_a_run_inside_the_data_is_refused(phantoms: Path, tiny: Recipe) -> None:
    with pytest.raises(RunError, match="inside"):
        train(phantoms, phantoms / "run", recipe=tiny)
    assert not (phantoms / "run").exists()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"weights": "nowhere.pth"}, WeightsError),
        ({"split": "nowhere.csv"}, DataError),
        ({"groups": "nowhere.csv"}, DataError),
        ({"device": "mps"}, RunError),
    ],
)
def test_what_is_cheap_to_check_is_checked_first(
    phantoms: Path, tiny: Recipe, tmp_path: Path, options: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        train(phantoms, tmp_path / "run", recipe=tiny, **options)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists(), "nothing is left behind"


def test_an_interrupted_start_can_be_started_again(no_fit: None, phantoms: Path, tiny: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "split.csv").write_text("half")
    with pytest.warns(UserWarning, match="groups are clusters of twins"):
        train(phantoms, run, recipe=tiny, cache=tmp_path / "cache")
    assert json.loads((run / "run.json").read_text())["finished"] is True


def test_images_that_the_split_does_not_list_are_counted(
    no_fit: None, phantoms: Path, tiny: Recipe, tmp_path: Path
) -> None:
    train(phantoms, tmp_path / "one", recipe=tiny, groups=phantoms / "groups.csv")
    lines = (tmp_path / "one" / "split.csv").read_text().splitlines()
    cut = tmp_path / "cut.csv"
    dropped = [line for line in lines if ",train," in line][:2]
    cut.write_text("\n".join(line for line in lines if line not in dropped))
    with pytest.warns(UserWarning, match="2 images of the folder are in no part"):
        train(phantoms, tmp_path / "two", recipe=tiny, split=cut)


def test_sources_of_the_table_stay_with_the_run(phantoms: Path, tiny: Recipe, tmp_path: Path) -> None:
    head, *rows = (phantoms / "groups.csv").read_text().splitlines()
    table, run = tmp_path / "table.csv", tmp_path / "run"
    sources = ["north" if k % 3 else "south" for k in range(len(rows))]
    table.write_text(
        "\n".join([f"{head},source", *(f"{row},{source}" for row, source in zip(rows, sources, strict=True))])
    )
    short = tiny.model_copy(update={"stage": (tiny.stage[0].model_copy(update={"epochs": 1}),)})
    train(phantoms, run, recipe=short, groups=table, precision="fp32", workers=0, cache=tmp_path / "cache")
    assert (run / "split.csv").read_text().splitlines()[0] == "path,label,group,part,sha256,source"
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert [one["name"] for one in metrics["by_source"]] == ["north", "south"]
    assert sum(one["images"] for one in metrics["by_source"]) == metrics["n"]
    assert "<h2>By source</h2>" in (run / "report" / "index.html").read_text()


def test_a_resumed_run_is_about_the_same_files(no_fit: None, phantoms: Path, tiny: Recipe, tmp_path: Path) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(phantoms, data)
    train(data, run, recipe=tiny, groups=data / "groups.csv")
    sheet = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**sheet, "finished": False}))
    image = next((data / "glioma").iterdir())
    moved = tmp_path / "moved"
    shutil.copytree(data, moved)
    image.write_bytes(image.read_bytes() + b"x")
    with pytest.raises(DataError, match="not the file that the run began with"):
        resume(run)
    image.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        resume(run)
    resume(run, data=moved, cache=False, workers=0)
    sheet = json.loads((run / "run.json").read_text())
    assert (sheet["data"], sheet["cache"], sheet["workers"]) == (str(moved), None, 0)


def test_epochs_are_added_to_a_finished_run_only(no_fit: None, phantoms: Path, tiny: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(phantoms, run, recipe=tiny, groups=phantoms / "groups.csv")
    sheet = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**sheet, "finished": False}))
    with pytest.raises(RunError, match="has not finished"):
        resume(run, continue_epochs=2)
    resume(run)
    resume(run, continue_epochs=2)
    stages = json.loads((run / "run.json").read_text())["recipe"]["stage"]
    assert [stage["name"] for stage in stages] == ["all", "block 4", "continued 1"]
    assert stages[-1]["epochs"] == 2


def test_a_missing_run_comes_back_from_its_mirror(no_fit: None, phantoms: Path, tiny: Recipe, tmp_path: Path) -> None:
    run, mirror = tmp_path / "run", tmp_path / "mirror"
    train(phantoms, run, recipe=tiny, groups=phantoms / "groups.csv", mirror=str(mirror))
    shutil.rmtree(run)
    resume(run, mirror=str(mirror))
    assert (run / "checkpoints" / "last.safetensors").exists()
    with pytest.raises(RunError, match="already holds a run"):
        train(phantoms, tmp_path / "other", recipe=tiny, mirror=str(mirror))
    shutil.rmtree(mirror)
    with pytest.warns(UserWarning, match="goes on without a mirror"):
        resume(run)


def test_a_password_is_not_written_down(phantoms: Path, tiny: Recipe, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="password"):
        train(phantoms, tmp_path / "run", recipe=tiny, mirror="sftp://me:secret@host/run")


def test_a_log_that_ends_within_a_line_is_cut_there(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"event": "epoch", "epoch": 1}\n{"event": "ba')
    journal = Journal(tmp_path, 10_000, 3)
    journal.event("resume")
    journal.close()
    assert [row["epoch"] for row in read_history(tmp_path)] == [1]


def test_a_part_is_evaluated_where_only_that_part_is(finished_run: Path, phantoms: Path, tmp_path: Path) -> None:
    rows = [line.split(",") for line in (finished_run / "split.csv").read_text().splitlines()]
    tests = [row[0] for row in rows if row[3] == "test"]
    for name in tests:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(phantoms / name, tmp_path / name)
    split = finished_run / "split.csv"
    result = neurodense.evaluate(tmp_path, finished_run / "model", split=split, part="test")
    own = json.loads((finished_run / "evaluation" / "metrics.json").read_text())
    assert json.loads(json.dumps(result.as_dict())) == own
    (tmp_path / tests[0]).unlink()
    result = neurodense.evaluate(tmp_path, finished_run / "model", split=split, part="test")
    assert [failure.source for failure in result.failures] == [tests[0]]
    assert result.metrics.n == len(tests) - 1


def test_an_empty_folder_among_the_inputs_is_a_row(finished_run: Path, phantoms: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    answers = list(Predictor(finished_run / "model").predict(find_studies([tmp_path / "empty", phantoms / "glioma"])))
    assert isinstance(answers[0], Failure)
    assert "holds no image" in answers[0].message
    assert len(answers) == 11
    assert all(isinstance(answer, Prediction) for answer in answers[1:])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_vanishes_is_named_without_a_traceback(phantoms: Path, tmp_path: Path, workers: int) -> None:
    from neurodense.errors import ScanError
    from neurodense.scans.preprocess import Preprocess
    from neurodense.training.dataset import ImageRecords, image_batches

    data = tmp_path / "data"
    shutil.copytree(phantoms, data)
    catalogue = neurodense.scan_folder(data)
    images = ImageRecords(data, catalogue.classes, catalogue.records, Preprocess(size=64))
    (data / catalogue.records[3].path).unlink()
    with pytest.raises(ScanError) as caught:
        list(image_batches(images, [[0, 1], [2, 3]], workers))
    assert "does not exist" in caught.value.message
    assert "\n" not in caught.value.message


def test_records_are_a_data_set_like_image_folder(phantoms: Path) -> None:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    from neurodense.scans.preprocess import Preprocess
    from neurodense.training.dataset import ImageRecords

    catalogue = neurodense.scan_folder(phantoms)
    ours = ImageRecords(phantoms, catalogue.classes, catalogue.records, Preprocess(size=64))
    theirs = ImageFolder(str(phantoms))
    assert ours.classes == theirs.classes
    assert ours.class_to_idx == theirs.class_to_idx
    assert [(Path(path), target) for path, target in ours.samples] == [(Path(p), t) for p, t in theirs.samples]
    assert ours.targets == theirs.targets
    pixels, targets = next(iter(DataLoader(ours, batch_size=5)))
    assert pixels.shape == (5, 1, 64, 64)
    assert pixels.dtype == torch.float32
    assert targets.tolist() == ours.targets[:5]
