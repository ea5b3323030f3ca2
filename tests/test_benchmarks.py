"""The table of `python -m benchmarks all`: the arithmetic of floors, and the cheap jobs on phantoms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import pytest

pytest.importorskip("torch")

from benchmarks import everything, floors, growth, jobs
from benchmarks.plain import Clock
from neurodense.data.catalogue import scan_folder
from neurodense.training.recipe import STEPS, Recipe, load_recipe

CEILINGS = floors.Ceilings({"fp32": 100.0, "bf16": 500.0}, gb_s=10.0, pictures_s=1000.0)


def test_macs_of_densenet121() -> None:
    each = floors.macs(224, classes=1000)
    # Huang et al. give 2.83e9 (5.67 GFLOP at two each) for an image of 224 px; torchvision's table says 2.83 too.
    assert sum(each.values()) == pytest.approx(2.83e9, rel=0.02)
    assert each["classifier"] == 1024 * 1000
    assert each["stem"] == 112 * 112 * 64 * 3 * 49
    layers = [49 * ((512 + 32 * k) * 128 + 128 * 9 * 32) for k in range(16)]
    assert each["denseblock4"] == sum(layers)
    assert floors.macs_between(0, len(STEPS), 224) == sum(floors.macs(224).values())
    assert floors.row_values(STEPS.index("denseblock4"), 224) == 512 * 7 * 7
    assert floors.row_values(STEPS.index("classifier"), 224) == 1024


@pytest.mark.parametrize(
    ("work", "seconds", "kind"),
    [
        (floors.Work({"bf16": 1e12, "fp32": 1e11}, 1e9, 100), 3.0, "matrix products"),
        (floors.Work({"int8": 1e11}, 5e10, 100), 5.0, "memory"),  # an unmeasured precision counts as fp32
        (floors.Work({}, 0, 2500), 2.5, "decoding"),
    ],
)
def test_floor_is_the_longest_kind_of_work(work: floors.Work, seconds: float, kind: str) -> None:
    assert work.floor(CEILINGS) == (pytest.approx(seconds), kind)


def test_work_of_a_cached_training(tmp_path: Path) -> None:
    setting = jobs.Setting(tmp_path, tmp_path, 10, 1, "cpu", True)
    recipe = load_recipe("notebook")
    work = jobs._work(setting, recipe, 100, 10)
    suffix = floors.macs_between(STEPS.index("denseblock4"), len(STEPS), 224)
    prefix = floors.macs_between(0, STEPS.index("classifier"), 224)
    expected = 110 * prefix + 10 * 310 * 4096 + 13 * 310 * suffix
    assert work.macs == {setting.precision: expected}
    assert work.pictures == 110
    first = jobs._work(setting, recipe, 100, 10, epochs=4)
    assert first.macs == {setting.precision: 110 * prefix + 4 * 310 * 4096}


def test_a_pass_that_is_cut_short_is_extended() -> None:
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.zeros(320, 1), torch.zeros(320))
    loader = torch.utils.data.DataLoader(data, batch_size=32)
    clock = Clock(loader, 96)
    seen = sum(len(batch) for batch, _ in clock)
    assert seen == 96
    assert clock.seconds > 0
    whole = Clock(loader)
    assert sum(len(batch) for batch, _ in whole) == 320


SECONDS = {"head": 1.0, "block 4": 3.0}
"""Of an epoch that `fake_train` writes down; those without the cache take ten times as long."""


def fake_train(data: Path, run: Path, *, recipe: Recipe, cache: Path | Literal[False], **_: object) -> None:
    """The log of a training whose seconds are known: the best of its epochs is the last but one."""
    run.mkdir()
    slow = 10 if cache is False else 1
    if cache is not False:
        cache.mkdir(exist_ok=True)
    each = [
        (stage.name, SECONDS[stage.name.split(",")[0]] * slow) for stage in recipe.stage for _ in range(stage.epochs)
    ]
    scores = [0.5] * (len(each) - 2) + [0.9, 0.8]
    events: list[dict[str, object]] = [{"event": "start", "time": 100.0}]
    for number, ((stage, seconds), score) in enumerate(zip(each, scores[-len(each) :], strict=True), 1):
        row = {
            "stage": stage,
            "epoch": number,
            "seconds": seconds,
            "validation_loss": 1.0,
            "validation_macro_f1": score,
        }
        events.append({"event": "epoch", **row})
    events.append({"event": "trained", "time": 105.0 + sum(seconds for _, seconds in each)})
    (run / "log.jsonl").write_text("\n".join(map(json.dumps, events)), encoding="utf-8")


class FakeLoop:
    """A plain loop whose epochs take known times."""

    def __init__(self, *_: object) -> None: ...

    def epoch(self, stage: str, images: int) -> float:
        return {"head": 40.0, "block 4": 50.0}[stage]

    def evaluation(self) -> float:
        return 8.0


@pytest.fixture
def setting(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> jobs.Setting:
    monkeypatch.setattr(jobs, "train", fake_train)
    monkeypatch.setattr(jobs, "PlainLoop", FakeLoop)
    return jobs.Setting(phantoms, tmp_path, 40, 2, "cpu", True)


def test_epochs_of_the_notebook_are_summed(setting: jobs.Setting) -> None:
    times = jobs.notebook(setting)
    assert times.ours == [5 + 10 * 1 + 13 * 3] * 2
    assert times.peer == [10 * 40 + 13 * 50 + 23 * 8] * 2
    assert (setting.room / "notebook-plain" / "train").is_dir()
    assert times.work.floor(CEILINGS)[0] > 0


def test_both_are_timed_to_the_epoch_that_is_kept(setting: jobs.Setting) -> None:
    times = jobs.finetune(setting)
    assert times.about["best_epoch"] == [23, 23]
    assert times.ours == [5 + 8 * 1 + 15 * 3] * 2
    assert times.peer == [8 * 10 + 15 * 30] * 2


def test_a_second_head_is_held_against_the_first(setting: jobs.Setting) -> None:
    times = jobs.second(setting)
    assert times.ours == times.peer == [5 + 8 * 1] * 2
    assert times.work.macs == {}


def test_folds_are_held_against_runs(setting: jobs.Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    times = jobs.folds(setting)
    assert len(times.ours) == len(times.peer) == 2
    assert all(seconds > 0 for seconds in (*times.ours, *times.peer))
    ((without, _),) = times.others.values()
    # What is not training takes a moment here, less the seconds that the log claims: the sum is by the log.
    assert without == pytest.approx(2 * (10 * 10 + 13 * 30 - (5 + 10 * 1 + 13 * 3)), abs=5)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_quick_table(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(setting: jobs.Setting) -> jobs.Times:
        raise OSError("no room")

    monkeypatch.setitem(everything.JOBS, "folds", everything.Job("5 folds", "5 runs", 3, broken))
    monkeypatch.setattr(everything, "measure_ceilings", lambda *_: CEILINGS)
    out, page = tmp_path / "all.json", tmp_path / "page.md"
    page.write_text(f"before\n{everything.BEGIN}\nstale\n{everything.END}\nafter\n", encoding="utf-8")
    assert not everything.measure(phantoms, 40, ["decode", "folds"], 1, "cpu", True, out, page)
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert rows["folds"]["error"] == "OSError: no room"
    decode = rows["decode"]
    assert decode["about"]["images"] == 40
    assert decode["floor_s"] == pytest.approx(0.04)
    assert decode["ratio"] == pytest.approx(decode["peer_s"]["median"] / decode["measured_s"]["median"])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith(f"{everything.END}\nafter\n")
    assert "stale" not in text
    assert "failed: OSError: no room" in text
    # A job that is measured again leaves the rows of the others.
    assert not everything.measure(phantoms, 40, ["folds"], 1, "cpu", True, out, None)
    assert json.loads(out.read_text(encoding="utf-8"))["rows"]["decode"] == decode


def test_copies_differ(phantoms: Path, tmp_path: Path) -> None:
    catalogue = scan_folder(phantoms)
    growth.write_copies(catalogue, 90, tmp_path / "copies")
    copies = scan_folder(tmp_path / "copies")
    assert len(copies.records) == 90
    assert len({record.sha256 for record in copies.records}) == 90
    assert copies.classes == catalogue.classes
    assert growth.peak_mib() > 1
