import base64
import html.parser
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from neurodense.errors import MissingExtra
from neurodense.evaluation.certainty import Certainty
from neurodense.evaluation.evaluation import Evaluation
from neurodense.evaluation.flow import Box, Row
from neurodense.evaluation.metrics import measure
from neurodense.evaluation.mistakes import Mistake
from neurodense.evaluation.operating import choose_thresholds
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.report import write_report
from neurodense.inference.shift import Shift
from neurodense.notice import NOTICE

pytest.importorskip("jinja2")

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "img", "link", "br", "hr"}


class Page(html.parser.HTMLParser):
    """What the tests ask of a page: elements with their attributes, the text of each kind of element, and balance."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1], data.strip()))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag):
        return [text for name, text in self.texts if name == tag]


def evaluation_of(matrix, labels, **more):
    matrix = np.array(matrix)
    true, predicted = (np.repeat(axis.ravel(), matrix.ravel()) for axis in np.indices(matrix.shape))
    predictions = Predictions(tuple(labels), tuple(map(str, range(len(true)))), true, np.eye(len(matrix))[predicted])
    return Evaluation(predictions, measure(labels, true, predictions.probabilities), (), **more)


def epoch(number, kept=False, stage="classifier"):
    keys = ("train_loss", "validation_loss", "validation_accuracy", "validation_macro_f1")
    return {"stage": stage, "epoch": number, "kept": kept, **dict.fromkeys(keys, number / 10)}


def report(tmp_path, **changes):
    figure = tmp_path / "confusion.png"
    Image.new("RGB", (300, 150)).save(figure)
    parts = {
        "title": "Run 7",
        "summary": ["The model is right for 37 of 40 images.", "It errs on glioma."],
        "warnings": ["The split is by image."],
        "facts": {"Accuracy": "0.9250", "Images": "40"},
        "evaluation": evaluation_of([[8, 2], [1, 29]], ["glioma", "notumor"]),
        "history": [epoch(1), epoch(2, kept=True)],
        "figures": [("Confusion", figure, "8 of 10 glioma are found.")],
        "commands": ["neurodense evaluate runs/7"],
    }
    write_report(tmp_path / "report.html", **(parts | changes))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


def test_order_of_the_parts(tmp_path):
    text, page = report(tmp_path)
    assert page.text("h1") == page.text("title") == ["Run 7"]
    assert page.text("h2") == [
        "Before you rely on it",
        "At a glance",
        "Scores",
        "Scores of each class",
        "Confusion matrix",
        "Figures",
        "Epochs",
        "To run it again",
    ]
    body = text[text.index("<body>") :]
    places = [body.index(part) for part in (NOTICE, "<h1>", "37 of 40 images. It errs", "by image.", "<dt>Accuracy")]
    assert places == sorted(places)
    assert page.text("code") == ["neurodense evaluate runs/7"]


def test_tables(tmp_path):
    _, page = report(tmp_path)
    assert len(page.all("caption")) == len(page.all("table")) == 4
    assert all(cell.get("scope") in {"row", "col", "colgroup", "rowgroup"} for cell in page.all("th"))
    numbers = page.text("td")
    low, high = evaluation_of([[8, 2], [1, 29]], ["glioma", "notumor"]).intervals.bounds["accuracy"]
    assert numbers[:2] == ["0.9250", f"{low:.3f} to {high:.3f}"]
    place = numbers.index("0.8889")  # the first class follows the ten figures of all images
    assert numbers[place : place + 3] == ["0.8889", "0.8000", "0.8421"]
    assert numbers[place + 6] == "10"
    assert any(re.fullmatch(r"0\.\d{3} to 0\.\d{3}", text) for text in page.text("small"))
    place = numbers.index("8")
    assert numbers[place : place + 4] == ["8", "2", "1", "29"]  # rows true
    assert "Macro average" in page.text("th")
    shares = [cell["style"] for cell in page.all("td") if "style" in cell]
    assert shares == ["--share: 0.800", "--share: 0.200", "--share: 0.033", "--share: 0.967"]
    assert [cell for cell in page.all("td") if cell.get("class") == "diagonal"] == [
        {"class": "diagonal", "style": shares[0]},
        {"class": "diagonal", "style": shares[3]},
    ]
    assert [row.get("class") for row in page.all("tr")].count("kept") == 1
    assert numbers.count("kept") == 1
    assert "details" in [tag for tag, _ in page.elements]


def test_figures_are_inside(tmp_path):
    _, page = report(tmp_path)
    (image,) = page.all("img")
    assert image["alt"] == "8 of 10 glioma are found."
    kind, data = image["src"].split(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(data) == (tmp_path / "confusion.png").read_bytes()
    assert (image["width"], image["height"]) == ("192", "96")


def test_nothing_comes_from_elsewhere(tmp_path):
    text, page = report(tmp_path)
    assert "://" not in re.sub(r"base64,[^\"]+", "", text)
    assert not {"script", "link", "iframe", "object", "embed", "form", "base", "a"} & {tag for tag, _ in page.elements}
    assert not re.search(r"url\(|@import", text)
    for _, attributes in page.elements:
        assert not {"href", "srcset", "action"} & attributes.keys()
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:").startswith("data:")
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_text_from_outside_is_escaped(tmp_path):
    figure = tmp_path / "f.png"
    Image.new("RGB", (8, 8)).save(figure)
    quote = f'"{EVIL}'
    evil = evaluation_of([[3, 0], [1, 0]], [EVIL, "{{ 7 * 7 }}"])
    evil = replace(evil, thresholds=choose_thresholds(evil.predictions), healthy=EVIL)
    text, page = report(
        tmp_path,
        title=EVIL,
        summary=[EVIL],
        warnings=[EVIL],
        facts={EVIL: EVIL},
        evaluation=evil,
        history=[epoch(1, stage=EVIL)],
        figures=[(quote, figure, quote)],
        commands=[EVIL],
    )
    assert not page.all("script")
    assert "<script" not in text
    for tag in ("title", "h1", "p", "li", "dt", "dd", "th", "span", "td", "figcaption", "code"):
        assert any(EVIL in found for found in page.text(tag)), tag
    assert page.all("img")[0]["alt"] == quote
    assert "{{ 7 * 7 }}" in page.text("th")


def test_empty_parts_leave_no_heading(tmp_path):
    empty = {
        "summary": [],
        "warnings": [],
        "facts": {},
        "evaluation": None,
        "history": [],
        "figures": [],
        "commands": [],
    }
    text, page = report(tmp_path, **empty)
    assert page.text("h1") == ["Run 7"]
    assert page.text("h2") == []
    assert NOTICE in page.text("p")
    assert "None" not in text[text.index("<body>") :]


def test_undefined_scores_are_said(tmp_path):
    _, page = report(tmp_path, evaluation=evaluation_of([[3, 0], [1, 0]], ["a", "b"]))
    assert "precision of 'b' is undefined: nothing was predicted as 'b'; 0 is used" in page.text("li")


def test_operating_points(tmp_path):
    evaluation = evaluation_of([[8, 2], [1, 29]], ["glioma", "notumor"])
    evaluation = replace(evaluation, thresholds=choose_thresholds(evaluation.predictions))
    _, page = report(tmp_path, evaluation=evaluation)
    assert "Operating points" in page.text("h2")
    assert page.text("th").count("glioma") == 3  # scores, operating points, confusion matrix
    assert any("--healthy NAME" in text for text in page.text("span"))
    _, page = report(tmp_path, evaluation=replace(evaluation, healthy="notumor"))
    assert page.text("th").count("any class but notumor") == 1
    assert not any("--healthy NAME" in text for text in page.text("span"))
    assert any("chosen on the 40 validation images" in text for text in page.text("span"))


def test_language_and_small_screens(tmp_path):
    text, page = report(tmp_path)
    assert text.startswith("<!DOCTYPE html>")
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    for query in ("prefers-color-scheme: dark", "max-width: 36rem", "@media print"):
        assert query in text


def test_names_that_are_not_utf8(tmp_path):
    _, page = report(tmp_path, commands=["neurodense evaluate caf\udce9"])
    assert page.text("code") == ["neurodense evaluate caf?"]


def test_a_figure_that_is_not_png(tmp_path):
    (tmp_path / "f.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"figures must be PNG files\. Got .*f\.png"):
        report(tmp_path, figures=[("Figure", tmp_path / "f.png", "")])
    assert not (tmp_path / "report.html").exists()


def test_without_jinja2(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtra, match=r"jinja2 is not installed"):
        report(tmp_path)


def sure_evaluation():
    """An evaluation of a calibrated model on other data than its own: 40 images of 20 groups."""
    whole = evaluation_of([[8, 2], [1, 29]], ["glioma", "notumor"])
    p = whole.predictions
    groups = tuple("abcdefghijklmnopqrst") * 2
    predictions = Predictions(p.labels, p.sources, p.truth, p.probabilities * 0.9 + 0.05, groups)
    known = np.arange(40) > 3
    sets = {0.1: predictions.probabilities > 0.5, 0.2: predictions.probabilities > 0.96}
    certainty = Certainty(predictions, p.probabilities, sets, {0.1: False, 0.2: True}, known)
    moved = Shift(p=0.001, distance=0.2, usual=0.05, units=20, reference=60, grouped=True)
    inside = {**whole.metrics.as_dict(), "intervals": whole.intervals.as_dict()}
    return Evaluation(
        predictions, measure(p.labels, p.truth, predictions.probabilities), (), certainty=certainty, shift=moved,
        inside=inside, source_of={source: EVIL if int(source) < 30 else "other" for source in p.sources},
    )  # fmt: skip


def test_certainty_is_shown(tmp_path):
    evaluation = sure_evaluation()
    text, page = report(tmp_path, evaluation=evaluation)
    heads = page.text("h2")
    for head in ("Against the model's own data", "Can its probabilities be believed?", "By source",
                 "Does it know when it does not know?"):  # fmt: skip
        assert head in heads
    assert evaluation.shift.sentence in page.text("li")
    assert page.text("th").count("10%*") == 1, "of all classes together"
    assert page.text("th").count("20%") == 1
    assert "marked * of all classes together" in text
    assert any("given one class at an error of 10%" in item for item in page.text("li"))
    assert EVIL in page.text("th")
    assert not page.all("script")
    first = evaluation.drops[0]
    assert (first.name, first.change.value) == ("accuracy", 0)
    assert "+0.0000" in page.text("td")


def test_the_diagram_and_the_mistakes_are_inside(tmp_path):
    picture = tmp_path / "m.png"
    Image.new("RGB", (200, 100)).save(picture)
    mistake = Mistake(EVIL, "g", "glioma", EVIL, 0.01, 0.98, "No class fits", picture)
    flow = [Row((Box("Images", ("40",)),), Box("Left out", (EVIL,)))]
    text, page = report(tmp_path, evaluation=sure_evaluation(), mistakes=[mistake], flow=flow)
    assert {"Which images went where", "The worst mistakes"} <= set(page.text("h2"))
    assert "<script" not in text
    (svg,) = page.all("svg")
    assert svg["role"] == "img"
    assert f"Images, 40. Left out, {EVIL}." in page.text("title")
    assert any(image["alt"] == mistake.alt for image in page.all("img"))
    assert any("truly glioma (0.010)" in caption for caption in page.text("figcaption"))
    assert not re.search(r"://", re.sub(r"base64,[^\"]+", "", text))
