"""The diagram of which images went where: every number is in it, boxes do not overlap, nothing gets in unescaped."""

import xml.etree.ElementTree as ET
from itertools import combinations

import pytest

from neurodense.evaluation.flow import WIDTH, Box, Row, flow_svg, flow_text

EVIL = '<script>"x"</script>&'


def boxes_of(rows: list[Row]) -> list[tuple[float, float, float, float]]:
    root = ET.fromstring(flow_svg(rows))
    return [
        (x, y, x + float(one.get("width")), y + float(one.get("height")))  # type: ignore[arg-type]
        for one in root.iter("rect")
        for x, y in [(float(one.get("x")), float(one.get("y")))]  # type: ignore[arg-type]
    ]


RUN = [
    Row((Box("Images in data", ("1,200",)),), Box("Left out", ("7 that could not be read",))),
    Row((Box("Training", ("900 images", "glioma 450")), Box("Validation", ("100",)), Box("Test", ("200",)))),
    Row((Box("Measured", ("198 images",)),), Box("Left out", ("2 that could not be read",)), under=2),
    Row((Box("Named right / wrong", ("180 / 18",)),), under=0),
]  # fmt: skip
OTHER = [
    Row((Box("Images in other", ("263",)),), Box("Left out", ("1 of head, which the map does not name" * 3,))),
    Row((Box("Measured", ("262",)),)),
    Row((Box("Right", ("1",)), Box("Wrong", ("2",)))),
]


@pytest.mark.parametrize("rows", [RUN, OTHER])
def test_every_box_has_its_place(rows: list[Row]) -> None:
    boxes = boxes_of(rows)
    assert len(boxes) == sum(len(row.boxes) + (row.aside is not None) for row in rows)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= WIDTH
        assert 0 <= top < bottom
    for (l1, t1, r1, b1), (l2, t2, r2, b2) in combinations(boxes, 2):
        assert r1 <= l2 or r2 <= l1 or b1 <= t2 or b2 <= t1, "boxes overlap"
    root = ET.fromstring(flow_svg(rows))
    _, _, width, height = map(float, root.get("viewBox", "").split())
    assert width == WIDTH
    assert height >= max(bottom for *_, bottom in boxes)
    words = " ".join(one.text or "" for one in root.iter("text"))
    for row in rows:
        for box in row.boxes:
            assert box.title in words


def test_a_box_stands_under_the_one_that_it_comes_from() -> None:
    boxes = boxes_of(RUN)
    test, measured, named = boxes[4], boxes[5], boxes[7]
    assert test[0] + test[2] == pytest.approx(measured[0] + measured[2]) == pytest.approx(named[0] + named[2])
    assert boxes[6][2] < measured[0], "what was left out stands beside it, to the left, where there is room"


def test_it_says_the_same_in_words_and_escapes_them() -> None:
    text = flow_text(RUN)
    for part in ("Images in data, 1,200", "7 that could not be read", "Test, 200", "180 / 18"):
        assert part in text
    svg = flow_svg([Row((Box(EVIL, (EVIL,)),))])
    assert "<script" not in svg
    root = ET.fromstring(svg)
    assert EVIL in (root.findtext("title") or "")
    assert root.get("role") == "img"
