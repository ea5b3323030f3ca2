import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from neurodense.evaluation.evaluation import Evaluation
from neurodense.evaluation.metrics import measure
from neurodense.evaluation.operating import choose_thresholds
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.tables import print_evaluation
from neurodense.notice import NOTICE


def metrics_of(matrix, labels, **more):
    """An evaluation with this confusion matrix."""
    matrix = np.array(matrix)
    true, predicted = (np.repeat(axis.ravel(), matrix.ravel()) for axis in np.indices(matrix.shape))
    predictions = Predictions(tuple(labels), tuple(map(str, range(len(true)))), true, np.eye(len(matrix))[predicted])
    return Evaluation(predictions, measure(labels, true, predictions.probabilities), (), **more)


def printed(evaluation, width=100, title="Test set", notes=()):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_evaluation(evaluation, console, title, notes)
    return console.file.getvalue()


def cells(text, name):
    """The cells of each row that begins with `name`."""
    rows = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in text.splitlines() if "│" in line]
    return [row[1:] for row in rows if row[0] == name]


def test_what_is_printed():
    text = printed(metrics_of([[8, 2], [1, 29]], ["glioma", "notumor"]), notes=["The split is by image."])
    assert "40 images: accuracy 0.9250, loss 2.7033, macro F1 0.8965" in text
    assert cells(text, "glioma") == [["0.8889", "0.8000", "0.8421", "10"], ["8", "2"]]
    assert cells(text, "notumor") == [["0.9355", "0.9667", "0.9508", "30"], ["1", "29"]]
    assert cells(text, "macro average") == [["0.9122", "0.8833", "0.8965", "40"]]
    assert cells(text, "weighted average") == [["0.9238", "0.9250", "0.9236", "40"]]
    low, high = metrics_of([[8, 2], [1, 29]], ["glioma", "notumor"]).intervals.bounds["accuracy"]
    assert cells(text, "Accuracy") == [["0.9250", f"{low:.3f} to {high:.3f}"]]
    assert cells(text, "Log loss (nats)")[0][0] == "2.7033"
    assert "BCa bootstrap over 40 images, 2,000 resamples" in text
    assert "they are too narrow" in " ".join(text.split())
    assert "Operating points" not in text
    assert "Confusion matrix: rows true, columns predicted" in text
    assert "- The split is by image." in text
    assert text.rstrip().endswith(NOTICE)


def test_operating_points_of_a_tumour_or_of_each_class():
    evaluation = metrics_of([[8, 2], [1, 29]], ["glioma", "notumor"])
    thresholds = choose_thresholds(evaluation.predictions)
    text = printed(metrics_of([[8, 2], [1, 29]], ["glioma", "notumor"], thresholds=thresholds, healthy="notumor"))
    rows = cells(text, "any class but notumor")
    assert [row[:2] for row in rows] == [["90%", "0.5000"], ["95%", "0.5000"], ["99%", "–"]]
    assert rows[0][2].startswith("0.800 (0.")
    assert rows[2][2:] == ["0.000 (0.000 to 0.308)", "1.000 (0.884 to 1.000)"]
    assert "any class but" not in printed(metrics_of([[8, 2], [1, 29]], ["glioma", "notumor"], thresholds=thresholds))


def test_undefined_scores_are_said():
    text = printed(metrics_of([[5, 0], [5, 0]], ["a", "b"]))
    assert "- precision of 'b' is undefined: nothing was predicted as 'b'; 0 is used" in text


@pytest.mark.parametrize("name", ["[red]tumour[/red]", "[/]", ":brain:", "[link=http://x]y", "back\\", "$(x)"])
def test_markup_in_names_is_printed_as_it_stands(name):
    metrics = metrics_of([[3, 1], [0, 4]], [name, "other"])
    text = printed(metrics, title=f"Title {name}", notes=[f"Note {name}"])
    assert f"Title {name}" in text
    assert f"- Note {name}" in text
    assert len(cells(text, name)) == 2


def test_a_matrix_that_does_not_fit_is_numbered_then_listed():
    labels = [f"a rather long class name {i}" for i in range(6)]
    matrix = np.diag(np.full(6, 1000))
    matrix[4, 2], matrix[0, 5] = 7, 3
    metrics = metrics_of(matrix, labels)
    assert cells(printed(metrics, width=250), labels[4])[1] == ["0", "0", "7", "0", "1000", "0"]
    numbered = printed(metrics, width=100)
    assert cells(numbered, f"5 {labels[4]}") == [["0", "0", "7", "0", "1000", "0"]]
    assert cells(numbered, "true \\ predicted") == []  # heads are ruled with another character
    assert "┃    1 ┃    2 ┃" in numbered
    listed = printed(metrics, width=70)
    assert "The 2 largest of 2 kinds of error" in listed
    assert cells(listed, labels[4]) == [[labels[2], "7"]]  # in the table of scores the name is folded
    assert listed.index(labels[2] + " │      7") < listed.index(labels[5] + " │      3")
    assert "…" not in numbered + listed


def test_nothing_to_list():
    labels = [f"a rather long class name {i}" for i in range(6)]
    assert "Every image was given its true class" in printed(metrics_of(np.diag(np.full(6, 1000)), labels), width=70)


def test_what_is_lost_against_the_models_own_data_fits_a_terminal():
    evaluation = metrics_of([[8, 2], [1, 29]], ["glioma", "no tumour"])
    inside = {**evaluation.metrics.as_dict(), "intervals": evaluation.intervals.as_dict()}
    text = printed(replace(evaluation, inside=inside), width=80)
    assert "Against the test part of the model's own data" in text
    (row,) = cells(text, "Recall of glioma")
    assert row[:2] == ["0.8000", "0.8000"]
    assert row[2].startswith("+0.000 (-0.")
    assert cells(text, "Macro AUROC")
