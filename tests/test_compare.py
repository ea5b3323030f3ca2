"""Two models on the same images: paired differences, McNemar's test, the list of images, and the command."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console
from test_intervals import LABELS, sample

from neurodense.cli import cli
from neurodense.errors import DataError
from neurodense.evaluation.compare import binomial_p, compare, write_comparison
from neurodense.evaluation.intervals import intervals
from neurodense.evaluation.metrics import measure
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.tables import print_comparison


def blurred(predictions, seed=1, noise=0.8):
    """What a similar, worse model says of the same images."""
    rng = np.random.default_rng(seed)
    odds = predictions.probabilities * np.exp(noise * rng.normal(size=predictions.probabilities.shape))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    return Predictions(predictions.labels, predictions.sources, predictions.truth, probabilities, predictions.groups)


@pytest.mark.parametrize(("one", "other"), [(0, 0), (3, 3), (0, 9), (14, 5), (200, 260), (3000, 3100)])
def test_mcnemar_is_the_exact_binomial_test(one, other):
    stats = pytest.importorskip("scipy.stats")
    wanted = stats.binomtest(one, one + other, 0.5).pvalue if one + other else 1
    assert binomial_p(one, other) == binomial_p(other, one) == pytest.approx(wanted, rel=1e-9)


def test_differences_are_those_of_the_figures():
    first = sample(300, 100, easy=1.5)
    second = blurred(first)
    comparison = compare(first, second)
    figures = [measure(one.labels, one.truth, one.probabilities).figures for one in (first, second)]
    assert comparison.differences.keys() == figures[0].keys()
    for name, one in comparison.differences.items():
        assert one.first == pytest.approx(figures[0][name], abs=1e-12)
        assert one.second == pytest.approx(figures[1][name], abs=1e-12)
        assert one.difference == pytest.approx(figures[1][name] - figures[0][name], abs=1e-12)
    right = [one.predicted == one.truth for one in (first, second)]
    assert comparison.discordant == (int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum()))
    np.testing.assert_array_equal(comparison.differing, np.flatnonzero(first.predicted != second.predicted))


def test_what_both_share_cancels():
    """The interval of the difference is narrower than the two figures' own, and is that of a paired bootstrap."""
    stats = pytest.importorskip("scipy.stats")
    first = sample(400, easy=1.5)
    second = blurred(first, noise=0.4)
    one = compare(first, second).differences["accuracy"]
    apart = [np.diff(intervals(each).bounds["accuracy"])[0] for each in (first, second)]
    assert one.interval[1] - one.interval[0] < 0.7 * np.hypot(*apart)
    gain = (second.predicted == second.truth) * 1.0 - (first.predicted == first.truth)
    theirs = stats.bootstrap((gain,), np.mean, n_resamples=5000, method="BCa", rng=np.random.default_rng(0))
    interval = theirs.confidence_interval
    assert one.interval == pytest.approx((interval.low, interval.high), abs=0.008)


def test_groups_widen_the_interval():
    first = sample(300)
    second = blurred(first)
    rows = np.repeat(np.arange(300), 8)
    sides = []
    for side in (first, second):
        names = tuple(map(str, range(2400)))
        groups = tuple(first.sources[row] for row in rows)
        sides.append(Predictions(LABELS, names, side.truth[rows], side.probabilities[rows], groups))
    once, grouped = compare(first, second), compare(*sides)
    for name, one in once.differences.items():
        assert grouped.differences[name].interval == pytest.approx(one.interval, abs=1e-9)
    assert grouped.p_value < once.p_value, "eight copies make McNemar's p too small"
    assert any("takes images for independent" in note for note in grouped.notes)
    assert any("No groups are known" in note for note in once.notes)
    alone = [Predictions(LABELS, one.sources, one.truth, one.probabilities, one.sources) for one in (first, second)]
    assert len(compare(*alone).notes) == 1


def test_the_order_of_classes_and_images_is_free():
    first = sample(200, 50)
    second = blurred(first)
    rows, columns = np.random.default_rng(0).permutation(200), [2, 0, 1]
    turned = Predictions(
        tuple(LABELS[c] for c in columns),
        tuple(second.sources[row] for row in rows),
        np.array([columns.index(second.truth[row]) for row in rows]),
        second.probabilities[rows][:, columns],
        None,
    )
    assert compare(first, turned).as_dict() == compare(first, second).as_dict()


def test_only_images_that_both_answered_count():
    first = sample(50, 20)
    second = Predictions(LABELS, first.sources[10:], first.truth[10:], first.probabilities[10:], None)
    comparison = compare(first, second)
    assert comparison.as_dict()["n"] == 40
    assert comparison.first.groups == first.groups[10:]
    assert comparison.differences["accuracy"].interval is None, "the same answers: no resample differs"
    assert comparison.p_value == 1


def test_what_cannot_be_compared():
    first = sample(30)
    other = Predictions(("glioma", "notumor", "else"), first.sources, first.truth, first.probabilities)
    with pytest.raises(DataError, match=r"different classes: A has 'glioma', .*'pituitary'; B has .*'else'"):
        compare(first, other, ("A", "B"))
    elsewhere = Predictions(LABELS, tuple(f"x{i}" for i in range(30)), first.truth, first.probabilities)
    with pytest.raises(DataError, match="no image in common"):
        compare(first, elsewhere)
    relabelled = Predictions(LABELS, first.sources, (first.truth + 1) % 3, first.probabilities)
    with pytest.raises(DataError, match=r"00000\.png has one label for A and another for B"):
        compare(first, relabelled, ("A", "B"))


def test_what_is_written_and_printed(tmp_path):
    first = sample(120, 40)
    comparison = compare(first, blurred(first), ("[red]A[/red]", "B"))
    write_comparison(comparison, tmp_path / "new")
    written = json.loads((tmp_path / "new" / "comparison.json").read_text(encoding="utf-8"))
    assert written == json.loads(json.dumps(comparison.as_dict()))
    assert written["mcnemar"]["p"] == comparison.p_value
    with (tmp_path / "new" / "differences.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["source"] for row in rows] == [first.sources[k] for k in comparison.differing]
    for row in rows:
        assert row["first"] != row["second"]
        assert row["right"] == {row["first"]: "first", row["second"]: "second"}.get(row["true"], "neither")
        assert row["group"] == first.groups[first.sources.index(row["source"])]
    console = Console(file=io.StringIO(), width=110, color_system=None)
    print_comparison(comparison, console, ["A note."])
    text = console.file.getvalue()
    assert "first: [red]A[/red]" in text
    for name in LABELS:
        assert f"recall of {name}" in text
    low, high = comparison.differences["macro.f1"].interval
    assert f"{low:+.4f} to {high:+.4f}" in text
    assert f"p = {comparison.p_value:.3g}" in text
    assert "- A note." in text


def test_the_command(finished_run: Path, phantoms: Path, tmp_path: Path) -> None:
    """A model against itself in bytes, and against one of other classes."""
    model, twin, foreign = (tmp_path / name for name in ("model", "twin", "foreign"))
    for folder in (model, twin, foreign):
        shutil.copytree(finished_run / "model", folder)
    card = json.loads((foreign / "card.json").read_text(encoding="utf-8"))
    card["classes"][0] = "astrocytoma"
    (foreign / "card.json").write_text(json.dumps(card), encoding="utf-8")

    words = ["compare", phantoms, "--model", model, "--model", twin, "--groups", phantoms / "groups.csv"]
    words += ["--out", tmp_path / "out", "--format", "json", "--split", finished_run / "split.csv", "--part", "test"]
    result = CliRunner().invoke(cli, [*map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["models"] == [str(model), str(twin)]
    assert found["mcnemar"] == {"only_first_right": 0, "only_second_right": 0, "p": 1.0}
    assert found["differences"]["accuracy"]["difference"] == 0
    assert found["drawn"] == "groups"
    assert json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8")) == found
    assert len((tmp_path / "out" / "differences.csv").read_text(encoding="utf-8").splitlines()) == 1

    with pytest.raises(DataError, match=r"different classes: .*'astrocytoma'"):
        CliRunner().invoke(
            cli, ["compare", str(phantoms), "--model", str(model), "--model", str(foreign)], catch_exceptions=False
        )
