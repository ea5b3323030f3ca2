"""A heat map as a picture: the scan with the hottest tenth outlined, beside it the scan under the heat, and the scale.

Drawn with Pillow alone. The panels have one size, whatever the scan's, so that the text can be read beside a small one.
The scale is the same in every picture, 0 to `FULL_SCALE` calibrated logits: a pale picture is one with little evidence.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from neurodense.atomic import replacing
from neurodense.inference.colourmap import colours
from neurodense.inference.explain import Explanation, enlarge
from neurodense.inference.prediction import Prediction
from neurodense.notice import NOTICE
from neurodense.scans.study import Failure

FULL_SCALE: Final = 8.0
"""Calibrated logits at the upper end of the colour scale; what is hotter has the colour of the end."""
OUTLINED: Final = 0.1
"""Share of the picture that the line encloses: its hottest part."""

_PANEL = 440  # pixels of a panel's longer side
_NARROW = 0.25  # a scan that is longer and thinner than this is shown less so
_OPACITY = 0.7  # of the heat at the end of the scale
_GAP, _BAR = 16, 18
_LARGE, _SMALL = 24, 15  # font sizes, pixels
_BACKGROUND, _TEXT, _FAINT = "#101010", "#f2f2f2", "#b8b8b8"

Floats = NDArray[np.float32]


def panels(explanation: Explanation) -> Image.Image:
    """The scan with the hottest tenth outlined, and beside it the scan under the heat: RGB, without words."""
    plain, warm = _panels(explanation)
    return Image.fromarray(np.concatenate([plain, np.zeros_like(plain[:, :_GAP]), warm], axis=1))


def _panels(explanation: Explanation) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Both panels, uint8 (height, width, 3) each."""
    height, width = _panel_size(explanation)
    scan = _resized(explanation.scan.pixels, (height, width)).clip(0, 1)
    heat = _resized(explanation.heat, (height, width))
    grey = np.repeat(scan[..., None], 3, axis=2)
    positive = (heat / FULL_SCALE).clip(0, 1)
    opacity = (_OPACITY * positive)[..., None]
    warm = grey * (1 - opacity) + colours(positive) * opacity
    line, halo = _outline(heat)
    for panel in (grey, warm):
        panel[halo], panel[line] = 0.0, 1.0
    plain, hot = (np.rint(panel * 255).astype(np.uint8) for panel in (grey, warm))
    return plain, hot


def draw(explanation: Explanation) -> Image.Image:
    """The picture, RGB, about 1000 x 600 pixels."""
    plain, warm = _panels(explanation)
    height, width = plain.shape[:2]
    large, small = _font(_LARGE), _font(_SMALL)
    total = max(2 * width + 4 * _GAP + _BAR + 90, 640)
    foot = _wrapped(_sentences(explanation), total - 2 * _GAP, small)
    top = _GAP + _LARGE + _SMALL + 2 * _GAP
    below = top + height + _GAP
    picture = Image.new("RGB", (total, below + len(foot) * (_SMALL + 6) + _GAP), _BACKGROUND)
    pen = ImageDraw.Draw(picture)
    title = f"{_drawable(explanation.label, large)}  {explanation.probability:.3f}"
    pen.text((_GAP, _GAP), _fitted(title, total - 2 * _GAP, large), _TEXT, large)
    source = _drawable(explanation.scan.source, small)
    pen.text((_GAP, _GAP + _LARGE + 10), _fitted(source, total - 2 * _GAP, small, keep_end=True), _FAINT, small)
    for left, panel in ((_GAP, plain), (2 * _GAP + width, warm)):
        picture.paste(Image.fromarray(panel), (left, top))
    _scale(picture, pen, (3 * _GAP + 2 * width, top), height, small)
    for number, text in enumerate(foot):
        pen.text((_GAP, below + number * (_SMALL + 6)), text, _FAINT, small)
    return picture


def save(explanation: Explanation, path: str | Path) -> None:
    """Write the picture as PNG, whole or not at all; what it says stands in its Description as text, too."""
    words = PngInfo()
    title = f"{explanation.scan.source}: {explanation.label} {explanation.probability:.4f}"
    words.add_itxt("Description", "\n".join((_plain(title), *map(_plain, _sentences(explanation)))))
    with replacing(path) as temporary:
        draw(explanation).save(temporary, format="PNG", pnginfo=words)


def write_overlays(
    results: Iterable[tuple[Prediction, Iterable[Explanation]] | Failure], folder: Path
) -> Iterator[Prediction | Failure]:
    """Draw what `Predictor.explained` gives into `folder`; pass the answers on, each with the path of its picture."""
    for result in results:
        if isinstance(result, Failure):
            yield result
            continue
        answer, explanations = result
        paths = {}
        for explanation in explanations:
            path = folder / file_name(explanation.scan.source)
            save(explanation, path)
            paths[explanation.scan.source] = str(path)
        slices = tuple(replace(one, overlay=paths[one.source]) for one in answer.slices)
        yield replace(answer, slices=slices) if slices else replace(answer, overlay=paths[answer.source])


def file_name(source: str) -> str:
    """A file name for the picture of `source`: its last part, made harmless, and a hash of the whole.

    The same source always has the same name, and two sources have two, also where a file system ignores case.
    """
    last = source.replace("\\", "/").rpartition("/")[2]
    harmless = "".join(c if c.isalnum() or c in "._-#" else "_" for c in last).lstrip(".")
    short = harmless.encode("utf-8", "replace")[-100:].decode("utf-8", "ignore")
    return f"{short or 'scan'}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:12]}.png"


def _sentences(explanation: Explanation) -> list[str]:
    label, heat, (height, width) = explanation.label, explanation.heat, explanation.scan.pixels.shape
    top, left, bottom, right = explanation.window or (0, 0, height, width)
    top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, height), min(right, width)
    shown = heat[top:bottom, left:right]
    means = (
        f"Heat: evidence for {label} against the mean of all classes, in logits; the same scale in every picture. "
        f"Peak {shown.max():.1f}, mean {shown.mean():.1f}; below 0, which speaks against {label}, nothing is drawn."
    )
    line = f"White line: the hottest {OUTLINED:.0%} of the picture." if heat.max() > 0 else "No place speaks for it."
    coarse = f"One place of the map covers {explanation.place[1]:.0f} x {explanation.place[0]:.0f} pixels of the scan."
    beware = "It shows what the model went by, not where a tumour ends."
    part = f"The model was shown rows {top + 1} to {bottom} and columns {left + 1} to {right} of the scan."
    parts = [] if shown.shape == heat.shape else [part]
    return [means, f"{line} {coarse} {beware}", *parts, *explanation.notes, NOTICE]


def _wrapped(sentences: list[str], width: int, font: ImageFont.FreeTypeFont) -> list[str]:
    """Lines of at most `width` pixels, each sentence on new ones; a word that is too long is cut."""
    lines = []
    for sentence in sentences:
        line = ""
        for word in _drawable(sentence, font).split(" "):
            longer = f"{line} {word}" if line else word
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            line = _fitted(longer, width, font)
        lines.append(line)
    return lines


def _panel_size(explanation: Explanation) -> tuple[int, int]:
    """Height and width of a panel, in the proportions of the patient where the file states them."""
    height, width = explanation.scan.pixels.shape
    rows_mm, columns_mm = explanation.scan.spacing or (1.0, 1.0)
    ratio = min(max(width * columns_mm / (height * rows_mm), _NARROW), 1 / _NARROW)
    return (_PANEL, round(_PANEL * ratio)) if ratio < 1 else (round(_PANEL / ratio), _PANEL)


def _resized(pixels: Floats, shape: tuple[int, int]) -> Floats:
    return pixels if pixels.shape == shape else enlarge(pixels, shape)


def _outline(heat: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The line around the hottest part, two pixels wide, and the dark halo that makes it seen on white."""
    inside = heat >= np.quantile(heat, 1 - OUTLINED)
    if heat.max() <= 0 or inside.all():
        return np.zeros_like(inside), np.zeros_like(inside)
    line = _grown(inside) & ~inside
    line |= inside & _grown(~inside)
    return line, _grown(line)


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and its neighbours above, below, left and right."""
    wide = np.pad(mask, 1)
    around = wide[:-2, 1:-1] | wide[2:, 1:-1] | wide[1:-1, :-2] | wide[1:-1, 2:]
    return np.asarray(mask | around)


def _scale(
    picture: Image.Image, pen: ImageDraw.ImageDraw, corner: tuple[int, int], height: int, font: ImageFont.FreeTypeFont
) -> None:
    """The colour bar, with its ticks and unit."""
    left, top = corner
    shares = np.linspace(1, 0, height)[:, None].repeat(_BAR, axis=1)
    picture.paste(Image.fromarray(np.rint(colours(shares) * 255).astype(np.uint8)), corner)
    steps = 4 if height >= 150 else 1
    for number in range(steps + 1):
        value = FULL_SCALE * number / steps
        row = top + round((height - 1) * (1 - number / steps))
        pen.line([(left + _BAR, row), (left + _BAR + 4, row)], _TEXT)
        text = f"{value:.0f}" + ("+ logits" if number == steps else "")
        pen.text((left + _BAR + 8, row), text, _TEXT, font, anchor="lm")


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
    return font


def _drawable(text: str, font: ImageFont.FreeTypeFont) -> str:
    """The text as the font, which knows little beside ASCII, can show it: 'e' for 'é', an escape for what has no base.

    A box for each letter of a foreign script would make all names of a length look the same.
    """
    missing = bytes(font.getmask("\ue000"))  # a private code point: the box that stands for any missing glyph

    def shown(character: str) -> str:
        base = unicodedata.normalize("NFKD", character)[0]
        for one in (character, base):
            if one == " " or (one.isprintable() and bytes(font.getmask(one)) != missing):
                return one
        return "?" if character.isascii() else character.encode("ascii", "backslashreplace").decode("ascii")

    return "".join(shown(c) for c in text if not unicodedata.combining(c))


def _plain(text: str) -> str:
    """The text with escapes for what is no text, such as bytes of a file name that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "?")


def _fitted(text: str, width: int, font: ImageFont.FreeTypeFont, *, keep_end: bool = False) -> str:
    """The text, cut with dots where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    for count in range(len(text) - 1, 0, -1):
        short = f"...{text[-count:]}" if keep_end else f"{text[:count]}..."
        if font.getlength(short) <= width:
            return short
    return "..."
