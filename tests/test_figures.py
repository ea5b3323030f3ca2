import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from neurodense.errors import MissingExtra
from neurodense.evaluation import figures
from neurodense.evaluation.colours import readable_on, white_to_blue
from neurodense.evaluation.figures import confusion_figure, curves_figure
from neurodense.evaluation.metrics import measure

pytest.importorskip("matplotlib")


def metrics_of(matrix, labels):
    matrix = np.array(matrix)
    true, predicted = (np.repeat(axis.ravel(), matrix.ravel()) for axis in np.indices(matrix.shape))
    return measure(labels, true, np.eye(len(matrix))[predicted])


def history_of(*stages, kept=1):
    names = [name for name, n_epochs in stages for _ in range(n_epochs)]
    return [
        {
            "stage": name,
            "epoch": epoch,
            "train_loss": 1 / epoch,
            "validation_loss": 1.2 / epoch,
            "validation_accuracy": 1 - 0.5 / epoch,
            "validation_macro_f1": 1 - 0.6 / epoch,
            "kept": epoch == kept,
        }
        for epoch, name in enumerate(names, 1)
    ]


@pytest.fixture
def drawn(monkeypatch):
    """The figures as matplotlib holds them, by file name, as well as written."""
    caught, save = {}, figures.save

    def catch(figure, path):
        caught[path.name] = figure
        save(figure, path)

    monkeypatch.setattr(figures, "save", catch)
    return caught


def texts_of(axes):
    return {tuple(int(v) for v in text.get_position()): text.get_text() for text in axes.texts}


def contrast(one, other):
    def luminance(colour):
        from matplotlib.colors import to_rgb

        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in to_rgb(colour)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_confusion_counts(tmp_path, drawn):
    path = tmp_path / "new" / "confusion.png"
    confusion_figure(metrics_of([[8, 2], [1, 29]], ["glioma", "no tumour"]), path, shares=False, title="Test")
    axes, bar = drawn["confusion.png"].axes
    # Position is (column, row): 2 images of the first class were taken for the second.
    assert texts_of(axes) == {(0, 0): "8", (1, 0): "2", (0, 1): "1", (1, 1): "29"}
    np.testing.assert_array_equal(axes.images[0].get_array(), [[8, 2], [1, 29]])
    assert axes.images[0].origin == "upper"
    assert (axes.get_ylabel(), axes.get_xlabel(), bar.get_ylabel()) == ("true", "predicted", "images")
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["glioma", "no tumour"]
    assert list(path.parent.iterdir()) == [path]
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)


def test_confusion_shares(tmp_path, drawn):
    matrix = [[9999, 1, 0], [3, 1, 0], [0, 0, 0]]
    confusion_figure(metrics_of(matrix, "abc"), tmp_path / "c.png", shares=True, title="")
    axes, bar = drawn["c.png"].axes
    assert list(texts_of(axes).values()) == [">99.9%", "<0.1%", "0", "75.0%", "25.0%", "0", "–", "–", "–"]
    assert bar.get_ylabel() == "% of the true class"
    confusion_figure(metrics_of(np.eye(2, dtype=int), "ab"), tmp_path / "c.png", shares=True, title="")
    assert list(texts_of(drawn["c.png"].axes[0]).values()) == ["100%", "0", "0", "100%"]


@pytest.mark.parametrize("shares", [False, True])
def test_numbers_stand_out_from_their_cells(tmp_path, drawn, shares):
    matrix = np.arange(400).reshape(20, 20)
    matrix[3] = 0
    confusion_figure(metrics_of(matrix, [str(i) for i in range(20)]), tmp_path / "c.png", shares=shares, title="")
    axes = drawn["c.png"].axes[0]
    image = axes.images[0]
    values = image.get_array().filled(np.nan)
    assert len(axes.texts) == 400
    for text in axes.texts:
        column, row = text.get_position()
        assert contrast(text.get_color(), image.to_rgba(values[row, column])[:3]) >= 4.5


@pytest.mark.parametrize("n_classes", [2, 5, 20])
def test_names_and_numbers_stay_in_their_place(tmp_path, drawn, n_classes):
    names = [f"a class with a rather long name, {i}" for i in range(n_classes)]
    matrix = np.full((n_classes, n_classes), 12345 if n_classes < 6 else 12)
    confusion_figure(metrics_of(matrix, names), tmp_path / "c.png", shares=True, title="A title " * 30)
    axes = drawn["c.png"].axes[0]
    cell = axes.get_window_extent().width / n_classes
    assert max(text.get_window_extent().width for text in axes.texts) < cell
    rows = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(rows))
    with Image.open(tmp_path / "c.png") as image:
        assert max(image.size) < 2200


def test_names_are_not_read_as_mathematics(tmp_path, drawn):
    confusion_figure(
        metrics_of([[1, 0], [0, 1]], [r"$\frac$", "a_$b^$"]), tmp_path / "c.png", shares=False, title="$^$"
    )
    curves_figure(history_of(("$^$", 2), ("b", 1)), tmp_path / "h.png", "$^$")
    assert {"c.png", "h.png"} == drawn.keys()


def test_curves(tmp_path, drawn):
    history = history_of(("classifier", 10), ("block", 5), ("all", 8), kept=17)
    curves_figure(history, tmp_path / "curves.png", "Run")
    left, right = drawn["curves.png"].axes
    lines = {line.get_label(): line for axes in (left, right) for line in axes.lines}
    for label, key in (
        ("training", "train_loss"),
        ("validation", "validation_loss"),
        ("accuracy", "validation_accuracy"),
        ("macro F1", "validation_macro_f1"),
    ):
        np.testing.assert_array_equal(lines[label].get_xdata(), range(1, 24))
        np.testing.assert_array_equal(lines[label].get_ydata(), [row[key] for row in history])
    for axes, ringed in ((left, [1.2 / 17]), (right, [1 - 0.5 / 17, 1 - 0.6 / 17])):
        (ring,) = [line for line in axes.lines if line.get_label() == "kept: epoch 17"]
        np.testing.assert_allclose(ring.get_xydata(), [(17, value) for value in ringed])
        borders = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
        assert borders == [10.5, 15.5]
        assert [(text.get_position()[0], text.get_text()) for text in axes.texts] == [
            (5.5, "classifier"),
            (13.0, "block"),
            (19.5, "all"),
        ]
        assert axes.get_xlim() == (0.5, 23.5)
    with Image.open(tmp_path / "curves.png") as image:
        assert image.width > 1400


def test_stage_names_that_do_not_fit_are_numbered_and_listed(tmp_path, drawn):
    curves_figure(history_of(("classifier", 20), ("denseblock4 + norm5", 3)), tmp_path / "h.png", "Run")
    figure = drawn["h.png"]
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2"]
    assert "Stages: 1 classifier, 2 denseblock4 + norm5" in [text.get_text() for text in figure.texts]


def test_one_epoch(tmp_path, drawn):
    curves_figure(history_of(("classifier", 1), kept=None), tmp_path / "h.png", "Run")
    for axes in drawn["h.png"].axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]
        for line in axes.lines:
            assert line.get_marker() == "o"  # one point has no line to be seen by
            bottom, top = axes.get_ylim()
            assert bottom < line.get_ydata()[0] < top
        assert not any("kept" in label for label in axes.get_legend_handles_labels()[1])


def test_sixty_epochs_and_a_run_that_diverged(tmp_path, drawn):
    history = history_of(("a", 40), ("b", 20), kept=60)
    curves_figure(history, tmp_path / "h.png", "Run")
    ticks = drawn["h.png"].axes[0].get_xticks()
    assert len(ticks) <= 12
    assert all(tick == int(tick) for tick in ticks)
    curves_figure([{**row, "train_loss": np.nan, "validation_loss": np.nan} for row in history], tmp_path / "n.png", "")
    assert (tmp_path / "n.png").stat().st_size > 10_000


def test_no_epochs(tmp_path):
    with pytest.raises(ValueError, match="history must hold at least one epoch"):
        curves_figure([], tmp_path / "h.png", "Run")
    assert not list(tmp_path.iterdir())


def test_the_colour_map_goes_evenly_from_white_to_dark():
    colours = white_to_blue()(np.linspace(0, 1, 256))[:, :3]
    np.testing.assert_allclose(colours[0], 1, atol=1e-3)
    assert readable_on(colours[0]) == "black"
    assert readable_on(colours[-1]) == "white"
    # CIE L*, which the map was not built on, falls all the way in nearly equal steps.
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    steps = -np.diff(116 * np.cbrt(linear @ (0.2126, 0.7152, 0.0722)))[:-1]
    assert steps.min() > 0
    assert steps.max() / steps.min() < 1.35


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(MissingExtra, match=r"neurodense\[report\]"):
        confusion_figure(metrics_of([[1, 0], [0, 1]], "ab"), tmp_path / "c.png", shares=False, title="")
    with pytest.raises(MissingExtra, match="matplotlib is not installed"):
        curves_figure(history_of(("a", 1)), tmp_path / "h.png", "")


def test_the_room_loads_no_heavy_library():
    rooms = "metrics, predictions, tables, figures, colours, report"
    code = (
        f"import sys; from neurodense.evaluation import {rooms}; "
        "print(*{'torch', 'sklearn', 'matplotlib', 'jinja2'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_pyplot_is_never_loaded(tmp_path):
    code = (
        "import sys, numpy as np; from neurodense.evaluation import figures, metrics; "
        "got = metrics.measure('ab', np.array([0, 1]), np.eye(2)); "
        "figures.confusion_figure(got, sys.argv[1], shares=True, title=''); "
        "print('matplotlib.figure' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "c.png"], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
