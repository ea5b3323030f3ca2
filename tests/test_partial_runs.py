"""Runs that train on a folder whose classes are partly known too: what they compute, leave behind and say."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner
from conftest import Ears

import neurodense
from neurodense import atomic
from neurodense.cli import cli
from neurodense.data.catalogue import Record
from neurodense.data.phantom import write_phantoms
from neurodense.data.split import PARTS, Split
from neurodense.errors import DataError, RunError
from neurodense.evaluation.evaluate import evaluate_records
from neurodense.evaluation.partial import Called, call_partial, calls_as_dict, pool_calls
from neurodense.evaluation.predictions import write_predictions
from neurodense.inference.card import read_card
from neurodense.inference.prediction import Prediction
from neurodense.inference.predictor import Predictor
from neurodense.screen import Screen
from neurodense.training import checkpoint as checkpoints
from neurodense.training import execute, finish
from neurodense.training import run as runs
from neurodense.training.batches import epoch_order
from neurodense.training.journal import Journal
from neurodense.training.recipe import Recipe, parse_recipe
from neurodense.training.run import resume, train
from neurodense.training.sheet import RunSheet, read_sheet

HEAD = """
name = "head"
summary = "A frozen prefix with views, blended images."
image_size = 64
batch_size = 8
dropout = 0.1
label_smoothing = 0.1
keep = "last"
weights = "none"
views = 2

[augment]
flip = true

[[stage]]
name = "head"
trainable = ["classifier"]
learning_rate = 1e-2
mixup = 0.4
epochs = 3
"""

MAY_BE = ["glioma", "meningioma", "pituitary"]


@pytest.fixture(scope="module")
def head() -> Recipe:
    return parse_recipe(HEAD, "test")


@pytest.fixture(scope="module")
def unsorted(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 tumours of other synthetic patients in no order, and a copy of every eighth image of the phantoms."""
    made = tmp_path_factory.mktemp("made")
    write_phantoms(made / "others", patients_per_class=4, slices_per_patient=2, size=64, seed=7)
    folder = made / "unsorted"
    (folder / "deep" / "er").mkdir(parents=True)
    tumours = [path for path in sorted((made / "others").rglob("*.png")) if path.parent.name in MAY_BE]
    for k, path in enumerate(tumours):
        shutil.copyfile(path, folder / ("deep/er" if k % 2 else ".") / f"{k}.png")
    for path in sorted(phantoms.rglob("*.png"))[::8]:
        shutil.copyfile(path, folder / f"copy of {path.name}")
    (folder / "broken.png").write_bytes(b"\x89PNG no")
    return folder


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "split.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def losses(run: Path) -> list[float]:
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [event["loss"] for event in events if event["event"] == "batch"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return checkpoints.load(run / "checkpoints" / "last.safetensors").network


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def run(phantoms: Path, unsorted: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A whole run by the command line, and what it printed."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "head.toml").write_text(HEAD)
    words = ["train", phantoms, "--out", folder / "run", "--recipe", folder / "head.toml", "--seed", 3]
    words += ["--groups", phantoms / "groups.csv", "--partial", f"{unsorted}={','.join(MAY_BE)}"]
    words += ["--precision", "fp32", "--workers", 0, "--cache", folder / "cache"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finish, "_add_int8", lambda *_: None)  # which has its own tests
        result = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    return folder / "run", result.output


def test_twins_follow_data_and_data_is_split_as_without(
    run: tuple[Path, str], phantoms: Path, head: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {row["path"]: row for row in rows_of(run[0])}
    copies = {path: row for path, row in rows.items() if path.startswith("partial:unsorted/copy of ")}
    assert len(copies) == 5
    for path, row in copies.items():
        original = next(p for p in rows if p.endswith("/" + path.removeprefix("partial:unsorted/copy of ")))
        assert (row["part"], row["group"]) == (rows[original]["part"], rows[original]["group"])
        assert row["label"] == "glioma|meningioma|pituitary"
    free = Counter(row["part"] for path, row in rows.items() if path.startswith("partial:") and path not in copies)
    assert free.total() == 24
    assert free["test"] == 5
    assert "partial:unsorted/deep/er/1.png" in rows
    monkeypatch.setattr(runs, "execute", lambda run, *_: run)
    train(phantoms, tmp_path / "without", recipe=head, groups=phantoms / "groups.csv", seed=3, screen=Ears())
    assert rows_of(tmp_path / "without") == [row for path, row in rows.items() if not path.startswith("partial:")]


def test_the_run_says_what_it_trained_on(run: tuple[Path, str], phantoms: Path, unsorted: Path) -> None:
    folder, output = run
    count = Counter(row["part"] for row in rows_of(folder) if row["path"].startswith("partial:"))
    held = f"train {count['train']}, validation {count['validation']}, test {count['test']}"
    assert f"unsorted (glioma|meningioma|pituitary): {held}" in output
    assert "29 images in unsorted, each one of: glioma, meningioma, pituitary" in output
    assert "5 of 29 have a twin in phantoms" in output
    assert "are said to be of classes that their twins in phantoms are not of" in output
    sheet = read_sheet(folder)
    (one,) = sheet.partial
    assert (one.name, one.folder, list(one.classes)) == ("unsorted", str(unsorted), MAY_BE)
    assert [path for path, _ in sheet.unreadable] == ["partial:unsorted/broken.png"]
    card = read_card(folder / "model")
    (data,) = card.data.partial
    assert data.counts == {part: count[part] for part in PARTS}
    assert sum(sum(each.values()) for each in card.data.counts.values()) == 40, "the counts of DATA are without it"
    assert card.data.manifest_sha256 != neurodense.scan_folder(phantoms).manifest_sha256
    readme = (folder / "model" / "README.md").read_text(encoding="utf-8")
    assert (
        f"`unsorted`, of whose images only is known that each shows glioma, meningioma or pituitary: {held}" in readme
    )
    report = (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert "unsorted, test part" in report
    assert f"{count['train']} images of unsorted were trained on too" in report
    assert "--partial unsorted=glioma,meningioma,pituitary" in report


def test_the_held_back_images_are_counted_by_themselves(run: tuple[Path, str], unsorted: Path) -> None:
    folder, output = run
    metrics = json.loads((folder / "evaluation" / "metrics.json").read_text())
    assert metrics["n"] == sum(
        row["part"] == "test" for row in rows_of(folder) if not row["path"].startswith("partial:")
    )
    written = json.loads((folder / "evaluation" / "partial.json").read_text())["unsorted"]
    assert written["classes"] == MAY_BE
    predictor = Predictor(folder / "model", precision="fp32")
    called = read_card(folder / "model").data.partial[0].called
    assert set(written["parts"]) == set(called) == {"validation", "test"}
    for part, values in written["parts"].items():
        paths = [row["path"].removeprefix("partial:unsorted/") for row in rows_of(folder)
                 if row["part"] == part and row["path"].startswith("partial:")]  # fmt: skip
        answers = list(predictor.predict([unsorted / path for path in paths]))
        labels = [answer.label for answer in answers if isinstance(answer, Prediction)]
        assert values["images"] == len(labels) == len(paths)
        assert values["allowed"] == sum(label in MAY_BE for label in labels)
        assert values["share"] == pytest.approx(values["allowed"] / values["images"])
        assert {name: n for name, n in values["predicted"].items() if n} == Counter(labels)
        others = [f"partial:unsorted/{path}" for path, label in zip(paths, labels, strict=True) if label not in MAY_BE]
        assert values["others"] == others
        assert (called[part].images, called[part].allowed) == (values["images"], values["allowed"])
        assert f"unsorted, {part} part: {values['allowed']} of {values['images']}" in output


def test_the_images_train(run: tuple[Path, str], phantoms: Path, unsorted: Path, tmp_path: Path) -> None:
    """With and without the cache the same; without the folder another; and with one class only, as if labelled."""
    settings = {"recipe": parse_recipe(HEAD, "test"), "groups": phantoms / "groups.csv", "seed": 3,
                "precision": "fp32", "workers": 0, "cache": run[0].parent / "cache", "screen": Ears()}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execute, "finish", lambda run, *_: run / "model")
        train(phantoms, tmp_path / "plain", partial={unsorted: MAY_BE}, **{**settings, "cache": False})  # type: ignore[arg-type]
        train(phantoms, tmp_path / "without", **settings)  # type: ignore[arg-type]
        train(phantoms, tmp_path / "one", partial={str(unsorted): ["glioma"]}, **settings)  # type: ignore[arg-type]
    torch.testing.assert_close(
        torch.tensor(losses(run[0])), torch.tensor(losses(tmp_path / "plain")), atol=1e-5, rtol=1e-5
    )
    for folder in (run[0], tmp_path / "without"):
        trained = sum(row["part"] == "train" for row in rows_of(folder))
        assert len(losses(folder)) == 3 * -(-trained // 8), "three epochs of all of them"
    assert len(losses(run[0])) > len(losses(tmp_path / "without"))
    assert losses(run[0]) != losses(tmp_path / "one")


def test_one_allowed_class_trains_as_a_labelled_image_does(phantoms: Path, unsorted: Path, tmp_path: Path) -> None:
    from neurodense.data.partial import partial_folders
    from neurodense.scans.preprocess import Preprocess
    from neurodense.training.dataset import ImageRecords

    classes = neurodense.scan_folder(phantoms).classes
    records = neurodense.scan_folder(phantoms).records[:3]
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        shutil.copytree(unsorted, folder)
    partial = partial_folders({one: ["pituitary"], other: MAY_BE}, classes, phantoms)
    more = [Record(f"partial:{name}/0.png", "", "g", "") for name in ("one", "other")]
    images = ImageRecords(phantoms, classes, [*records, *more], Preprocess(size=64), partial)
    assert images.targets == [0, 0, 0, 3, 4]
    assert images.allowed.tolist() == [*torch.eye(4).bool().tolist(), [True, True, False, True]]
    pixels, label = images[4]
    assert (tuple(pixels.shape), label) == ((1, 64, 64), 4)


def test_a_stopped_run_goes_on_to_the_same_bits_and_its_folders_may_have_moved(
    run: tuple[Path, str], phantoms: Path, unsorted: Path, head: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "finish", lambda run, *_: run / "model")
    second = tmp_path / "a second"
    shutil.copytree(unsorted / "deep", second)
    partial = {unsorted: MAY_BE, second: ["glioma", "meningioma"]}
    settings = {"recipe": head.model_copy(update={"balance": "root"}), "groups": phantoms / "groups.csv", "seed": 3,
                "precision": "fp32", "workers": 0, "cache": run[0].parent / "cache", "screen": Ears()}  # fmt: skip
    train(phantoms, tmp_path / "whole", partial=partial, **settings)  # type: ignore[arg-type]
    real = Journal.batch

    def stop(self: Journal, number: int, *rest: object) -> None:
        real(self, number, *rest)  # type: ignore[arg-type]
        if number == 12:  # within the second epoch
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "batch", stop)
        with pytest.raises(KeyboardInterrupt):
            train(phantoms, tmp_path / "stopped", partial=partial, **settings)  # type: ignore[arg-type]
    moved = tmp_path / "moved" / "a second"
    shutil.move(second, moved)
    with pytest.raises(DataError, match="a second, which the run trains on, is not there") as caught:
        resume(tmp_path / "stopped")
    assert "--partial NEW_PLACE=" in str(caught.value)
    with pytest.raises(RunError, match="did not begin with --partial a second=glioma, but with unsorted=glioma,"):
        resume(tmp_path / "stopped", partial={moved: ["glioma"]})
    words = ["train", "--resume", tmp_path / "stopped", "--partial", f"{moved}=meningioma,glioma"]
    assert CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False).exit_code == 0
    assert read_sheet(tmp_path / "stopped").partial[1].folder == str(moved)
    assert same(tmp_path / "whole", tmp_path / "stopped")
    assert losses(tmp_path / "whole") == losses(tmp_path / "stopped")
    changed = moved / "er" / "1.png"
    changed.write_bytes(changed.read_bytes() + b"x")
    sheet = json.loads((tmp_path / "stopped" / "run.json").read_text())
    (tmp_path / "stopped" / "run.json").write_text(json.dumps({**sheet, "finished": False}))
    with pytest.raises(DataError, match=r"1\.png is not the file that the run began with"):
        resume(tmp_path / "stopped")


def test_the_split_can_be_given_back_with_the_folder_and_without(
    run: tuple[Path, str], phantoms: Path, unsorted: Path, head: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "execute", lambda run, *_: run)
    split, cache = run[0] / "split.csv", run[0].parent / "cache"
    ears = Ears()
    train(
        phantoms,
        tmp_path / "same",
        recipe=head,
        split=split,
        partial={unsorted: MAY_BE},
        seed=8,
        cache=cache,
        screen=ears,
    )
    assert (tmp_path / "same" / "split.csv").read_bytes() == split.read_bytes()
    train(phantoms, tmp_path / "without", recipe=head, split=split, seed=8, screen=ears)
    assert "not used: the images of unsorted, which the split lists and --partial lacks" in ears.said
    assert not any(row["path"].startswith("partial:") for row in rows_of(tmp_path / "without"))


def test_a_run_inside_such_a_folder_is_refused(phantoms: Path, unsorted: Path, head: Recipe) -> None:
    with pytest.raises(RunError, match="lies inside"):
        train(phantoms, unsorted / "run", recipe=head, partial={unsorted: MAY_BE})
    assert not (unsorted / "run").exists()


def test_folds_bring_their_counts_together(
    run: tuple[Path, str], phantoms: Path, unsorted: Path, head: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One model stands for those of both folds, so that none has to be exported; what is asked of it is real."""
    predictor = Predictor(run[0] / "model", precision="fp32")

    def measured(folder: Path, sheet: RunSheet, split: Split, *_: object) -> Path:
        evaluation = evaluate_records(predictor, phantoms, split.parts["test"], Screen())
        write_predictions(evaluation.predictions, folder / "evaluation" / "predictions.csv")
        atomic.write_json(folder / "evaluation" / "metrics.json", {"unreadable": []})
        shutil.copytree(run[0] / "model", folder / "model")
        calls = call_partial(predictor, sheet.partial, split.partial, Screen())
        atomic.write_json(folder / "evaluation" / "partial.json", calls_as_dict(sheet.partial, calls))
        return folder

    monkeypatch.setattr(execute.Fit, "run", lambda self, start: None)
    monkeypatch.setattr(execute, "finish", measured)
    ears = Ears()
    train(
        phantoms, tmp_path / "run", recipe=head, groups=phantoms / "groups.csv", partial={unsorted: MAY_BE}, folds=2,
        seed=2, precision="fp32", workers=0, cache=run[0].parent / "cache", screen=ears,
    )  # fmt: skip
    each = [
        json.loads((tmp_path / "run" / name / "evaluation" / "partial.json").read_text())
        for name in ("fold-1", "fold-2")
    ]
    whole = json.loads((tmp_path / "run" / "evaluation" / "partial.json").read_text())["unsorted"]["parts"]
    assert set(whole) == {"test"}
    tested = [row["path"] for name in ("fold-1", "fold-2") for row in rows_of(tmp_path / "run" / name)
              if row["part"] == "test" and row["path"].startswith("partial:")]  # fmt: skip
    assert len(tested) == len(set(tested)) == 29
    assert whole["test"]["images"] == 29
    assert whole["test"]["allowed"] == sum(one["unsorted"]["parts"]["test"]["allowed"] for one in each)
    assert sum(whole["test"]["predicted"].values()) == 29
    line = f"unsorted, test part: {whole['test']['allowed']} of 29"
    assert any(line in said for said in ears.said)
    report = (tmp_path / "run" / "report" / "index.html").read_text(encoding="utf-8")
    assert "--partial unsorted=glioma,meningioma,pituitary" in report
    assert f"{whole['test']['allowed']} of 29" in report
    assert read_sheet(tmp_path / "run").finished


def test_counts_come_back_from_json_and_add_up() -> None:
    one = Called(3, 2, {"a": 2, "b": 1}, ("x",), ({"source": "y", "error": {}},))
    assert Called.from_dict(json.loads(json.dumps(one.as_dict()))) == one
    none = Called(0, 0, {"a": 0, "b": 0}, ())
    assert none.share is None
    both = pool_calls([one, none, one])
    assert (both.images, both.allowed, both.share, both.others) == (6, 4, pytest.approx(2 / 3), ("x", "x"))
    assert both.predicted == {"a": 4, "b": 2}
    assert str(both) == "4 of 6 (66.7%)"


# ---- sampling -----------------------------------------------------------------------------------------------------

GROUPS = ["large"] * 90 + ["small"] * 9 + ["alone"]
ONE = [0] * len(GROUPS)  # label


def test_each_image_once_is_a_permutation() -> None:
    order = epoch_order(ONE, GROUPS, 8, "none", 0, "order", 0, 0)
    assert [len(batch) for batch in order] == [8] * 12 + [4]
    assert sorted(k for batch in order for k in batch) == list(range(100))


def test_balanced_draws_give_every_group_the_same_chance() -> None:
    drawn = [
        GROUPS[k] for epoch in range(300) for batch in epoch_order(ONE, GROUPS, 8, "group", 0, epoch) for k in batch
    ]
    assert len(drawn) == 30_000
    for count in Counter(drawn).values():
        assert count == pytest.approx(10_000, abs=5 * (30_000 * 2 / 9) ** 0.5)  # five standard deviations
    inside = Counter(
        k for epoch in range(300) for batch in epoch_order(ONE, GROUPS, 8, "group", 0, epoch) for k in batch if k < 90
    )
    assert len(inside) == 90
    assert max(inside.values()) < 2 * min(inside.values())


def test_draws_keep_the_share_of_each_label() -> None:
    labels = [0] * 90 + [1] * 10  # the first has one group, the other two
    for balance, of_nine in (("group", 1 / 2), ("root", 3 / 4)):
        order = [
            k for epoch in range(300) for batch in epoch_order(labels, GROUPS, 8, balance, 0, epoch) for k in batch
        ]  # type: ignore[arg-type]
        counts = Counter(GROUPS[k] for k in order)
        assert counts["large"] == pytest.approx(27_000, abs=5 * (30_000 * 0.09) ** 0.5)
        others = counts["small"] + counts["alone"]
        assert counts["small"] == pytest.approx(of_nine * others, abs=5 * (others / 4) ** 0.5)


def test_draws_depend_on_their_key_alone() -> None:
    one = epoch_order(ONE, GROUPS, 8, "group", 5, "order", 1, 2)
    torch.manual_seed(123)
    assert epoch_order(ONE, GROUPS, 8, "group", 5, "order", 1, 2) == one
    assert epoch_order(ONE, GROUPS, 8, "group", 5, "order", 1, 3) != one
