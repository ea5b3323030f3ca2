"""Which images went where, as a diagram in the manner of STARD 2015 (Bossuyt et al., BMJ 351, 2015), in inline SVG.

Colours are classes of `report.css`, so that the diagram follows light, dark and print; a line of text says the same for
those who cannot see it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 780
_GAP, _DROP = 20, 34  # between boxes side by side, and below one another
_WIDE, _THIRD = 330.0, (WIDTH - 2 - 2 * _GAP) / 3  # of a box alone in its row, and of one of three
_LINE, _PAD, _CHARACTER = 18, 10, 7.3  # pixels of a line, around the text, and of a character


@dataclass(frozen=True)
class Box:
    """A number of images: a heading, and lines below it."""

    title: str
    lines: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The box as text."""
        return ", ".join((self.title, *self.lines))


@dataclass(frozen=True)
class Row:
    """Boxes side by side, which come from the row above.

    Attributes:
        boxes: One to three.
        aside: What left here; beside a single box.
        under: Which box of the row above they come from, and stand under; its only one where None.
    """

    boxes: tuple[Box, ...]
    aside: Box | None = None
    under: int | None = None


def flow_text(rows: Sequence[Row]) -> str:
    """The diagram in words."""
    said = []
    for row in rows:
        said.append("; ".join(box.words for box in row.boxes))
        if row.aside is not None:
            said.append(row.aside.words)
    return ". ".join(said) + "."


def flow_svg(rows: Sequence[Row]) -> str:
    """The diagram as an SVG element; every text is escaped."""
    parts: list[str] = []
    top, parents = 1.0, list[tuple[float, float]]()  # centres and lower ends of the boxes above
    aside = any(row.aside is not None and row.under is None for row in rows)
    width = 0.0
    for row in rows:
        count = len(row.boxes)
        if count > 1 or row.under is None:
            width = _THIRD if count > 1 else _WIDE
        whole = count * width + (count - 1) * _GAP
        middle = WIDTH / 2 if row.under is None else parents[row.under][0]
        if aside and count == 1 and row.under is None:  # room on the right for what leaves
            middle = _WIDE / 2 + 1
        lines = [_wrapped(box, width) for box in row.boxes]
        height = max(map(_height, lines))
        centres = [middle - whole / 2 + k * (width + _GAP) + width / 2 for k in range(count)]
        sources = parents if row.under is None else parents[row.under : row.under + 1]
        for x, bottom in sources if len(sources) == 1 else []:
            bar = top - _DROP / 2
            parts += [_arrow([(x, bottom), (x, bar), (centre, bar), (centre, top)]) for centre in centres]
        for centre, words in zip(centres, lines, strict=True):
            parts.append(_box(centre - width / 2, top, width, height, words))
        if row.aside is not None:
            words = _wrapped(row.aside, _WIDE)
            right = row.under is None
            left = WIDTH - _WIDE - 1 if right else middle - width / 2 - _GAP - _WIDE
            aside_height = _height(words)
            y, aside_top = top + height / 2, max(top, top + height / 2 - aside_height / 2)
            ends = [(middle + width / 2, y), (left, y)] if right else [(middle - width / 2, y), (left + _WIDE, y)]
            parts.append(_arrow(ends, "aside"))
            parts.append(_box(left, aside_top, _WIDE, aside_height, words, "aside"))
            height = max(height, aside_height)
        parents = [(centre, top + max(map(_height, lines))) for centre in centres]
        top += height + _DROP
    tall = top - _DROP + 1
    return (
        f'<svg class="flow" role="img" viewBox="0 0 {WIDTH} {tall:.0f}" width="{WIDTH}" height="{tall:.0f}">'
        f"<title>{escape(flow_text(rows))}</title>{''.join(parts)}</svg>"
    )


def _wrapped(box: Box, width: float) -> list[str]:
    fits = int((width - 2 * _PAD) / _CHARACTER)
    return [line for text in (box.title, *box.lines) for line in textwrap.wrap(text, fits) or [""]]


def _height(lines: Sequence[str]) -> float:
    return len(lines) * _LINE + 2 * _PAD


def _box(left: float, top: float, width: float, height: float, lines: Sequence[str], kind: str = "box") -> str:
    middle = left + width / 2
    first = top + (height - len(lines) * _LINE) / 2 + _LINE - 5
    words = "".join(
        f'<text class="{"line" if k else "head"}" x="{middle:.1f}" y="{first + k * _LINE:.1f}">{escape(line)}</text>'
        for k, line in enumerate(lines)
    )
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="4"/>{words}'
    )


def _arrow(points: Sequence[tuple[float, float]], kind: str = "") -> str:
    """A line with a head at its end, along the axes."""
    (x0, y0), (x1, y1) = points[-2:]
    dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
    head = [(x1, y1), (x1 - 7 * dx - 4 * dy, y1 - 7 * dy - 4 * dx), (x1 - 7 * dx + 4 * dy, y1 - 7 * dy + 4 * dx)]
    line, tip = (" ".join(f"{x:.1f},{y:.1f}" for x, y in those) for those in (points, head))
    return f'<polyline class="{kind}" points="{line}"/><polygon points="{tip}"/>'
