"""README.md and checklist.md of a model folder: filled in where the card knows, open where it cannot."""

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")  # for the run whose model is described

from neurodense.evaluation.checklist import ITEMS, OPEN, checklist
from neurodense.evaluation.limits import limits
from neurodense.evaluation.readme import model_readme
from neurodense.inference.card import Card, read_card


@pytest.fixture(scope="module")
def card(finished_run: Path) -> Card:
    return read_card(finished_run / "model")


def test_a_training_writes_both(finished_run: Path, card: Card) -> None:
    assert (finished_run / "model" / "README.md").read_text(encoding="utf-8") == model_readme(card)
    assert (finished_run / "model" / "checklist.md").read_text(encoding="utf-8") == checklist(card)


def test_the_readme_is_a_model_card(card: Card) -> None:
    text = model_readme(card)
    heads = re.findall(r"^## (.*)", text, flags=re.MULTILINE)
    assert heads == [
        "What it is for", "Data", "Results on the test part", "What it says of its own certainty", "Limits",
    ]  # fmt: skip
    assert "Not for diagnosis" in text
    assert card.notice in text
    assert card.metrics is not None
    low, high = card.metrics["intervals"]["figures"]["accuracy"]
    assert f"| Accuracy | {card.metrics['accuracy']:.3f} ({low:.3f} to {high:.3f}) |" in text
    assert f"| Macro AUROC | {card.metrics['macro']['auroc']:.3f}" in text
    assert "no figure says anything about patients" in text
    assert "prediction sets with an error of 20% hold the true class of" in text


def test_an_older_card_has_a_readme_as_well(card: Card) -> None:
    assert card.metrics is not None
    new = {"intervals", "certainty", "mcc", "kappa", "brier", "ece", "balanced_accuracy"}
    metrics = {name: value for name, value in card.metrics.items() if name not in new}
    text = model_readme(card.model_copy(update={"metrics": metrics, "calibration": None}))
    assert f"| Accuracy | {metrics['accuracy']:.3f} |" in text
    assert "Matthews" not in text
    assert "certainty" not in text
    assert OPEN in checklist(card.model_copy(update={"metrics": metrics}))


def test_every_item_is_there_once_and_open_where_nobody_can_know(card: Card) -> None:
    text = checklist(card)
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", text, flags=re.MULTILINE))
    assert list(map(int, rows)) == list(range(1, 45))
    assert sum(map(len, ITEMS.values())) == 44
    for number in (1, 5, 8, 11, 13, 15, 16, 18, 21, 34, 36, 41, 44):
        assert OPEN in rows[str(number)], number
    assert "seed 3" in rows["19"]
    assert "no group is in two parts" in rows["20"]
    assert card.versions["torch"] in rows["23"]
    assert "BCa bootstrap over 4 groups" in rows["29"]
    assert OPEN in rows["33"], "nobody tested it on other data"
    nothing = checklist(card.model_copy(update={"metrics": None}))
    assert "trained on all images" in nothing


def test_limits_follow_the_card(card: Card) -> None:
    data = card.data
    assert any("one folder" in one or "same folder" in one for one in limits(card))
    unknown = card.model_copy(update={"data": data.model_copy(update={"groups": None, "groups_from": None})})
    assert any("may be on both sides of the split" in one for one in limits(unknown))
    twins = card.model_copy(update={"data": data.model_copy(update={"groups_from": "twins"})})
    assert any("not patients" in one for one in limits(twins))
    leaked = card.model_copy(update={"data": data.model_copy(update={"leaked": 12})})
    assert any("12 test images have a twin" in one for one in limits(leaked))
    source = card.model_copy(update={"data": data.model_copy(update={"left_out": "source=x"})})
    assert not any("same folder" in one for one in limits(source))
