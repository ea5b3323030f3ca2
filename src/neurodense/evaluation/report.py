"""The report: one HTML file that says what was found, how far it can be trusted and how to find it again.

It stands alone: figures are inside it as data URIs, the style too, there is no script, and a content security policy
keeps a browser from asking any other host for anything. Everything from outside is escaped: class names come from
folder names and may hold HTML.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from neurodense.atomic import write_text
from neurodense.errors import MissingExtra
from neurodense.evaluation.evaluation import Evaluation
from neurodense.evaluation.flow import Row, flow_svg
from neurodense.evaluation.metrics import HEADLINE, Metrics
from neurodense.evaluation.mistakes import Mistake
from neurodense.notice import NOTICE

TEMPLATE: Final = "report.html.j2"
STYLE: Final = "report.css"
PLACED: Final = ("decision-curve", "reliability", "selective")
"""Figures that stand beside the tables that they belong to."""
PIXELS_PER_CSS_PIXEL: Final = 1.5625
"""Figures have 150 dots an inch and CSS has 96: shown at their true size, sharp on dense screens and in print."""


def write_report(
    path: Path,
    *,
    title: str,
    summary: Sequence[str],
    warnings: Sequence[str],
    facts: Mapping[str, str],
    evaluation: Evaluation | None,
    history: Sequence[Mapping[str, Any]],
    figures: Sequence[tuple[str, Path, str]],
    commands: Sequence[str],
    flow: Sequence[Row] = (),
    mistakes: Sequence[Mistake] = (),
) -> None:
    """Write the report to `path`, whole or not at all. Parts that are empty are left out, with their headings.

    Args:
        path: The HTML file to write.
        title: Its heading, in plain text as is all that follows.
        summary: The answer in a few sentences, each with its full stop.
        warnings: What a reader must know before relying on it, one sentence or two each.
        facts: Headline name -> value, in the order to show them.
        evaluation: What was measured, or None where nothing was.
        history: One mapping an epoch, as `figures.curves_figure` takes them.
        figures: (caption, PNG file, text that says what the figure shows to those who cannot see it) each. The name of
            the file decides where it stands.
        commands: Shell commands that make the same again, in order.
        flow: Which images went where.
        mistakes: The worst ones.

    Raises:
        MissingExtra: jinja2 is not installed.
        OSError: A figure cannot be read.
        ValueError: A figure is not a PNG file.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise MissingExtra("jinja2", "report") from error
    metrics = None if evaluation is None else evaluation.metrics
    source, style = (resources.files(__package__).joinpath(name).read_text("utf-8") for name in (TEMPLATE, STYLE))
    template = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True).from_string(source)
    html = template.render(
        style=Markup(style),  # noqa: S704  (the file beside this one, not text from outside)
        notice=NOTICE,
        title=title,
        summary=summary,
        warnings=warnings,
        facts=facts,
        evaluation=evaluation,
        metrics=metrics,
        headline=HEADLINE,
        confusion=[] if metrics is None else _confusion(metrics),
        history=history,
        figures={png.stem: _figure(caption, png, alt) for caption, png, alt in figures},
        placed_figures=PLACED,
        commands=commands,
        flow=Markup(flow_svg(flow)) if flow else "",  # noqa: S704  (escaped where it is made)
        mistakes=[(one, _figure("", one.picture, one.alt)) for one in mistakes],
    )
    # A path in a command may hold bytes that are no UTF-8, which Python keeps as surrogates: shown as "?".
    write_text(path, html.encode(errors="replace").decode())


def _confusion(metrics: Metrics) -> list[tuple[str, list[tuple[int, float, bool]]]]:
    """Return the rows of the confusion matrix: the true class, then (images, share of the row, whether right) each."""
    return [
        (name, [(count, count / max(sum(row), 1), i == j) for j, count in enumerate(row)])
        for i, (name, row) in enumerate(zip(metrics.labels, metrics.confusion_matrix.tolist(), strict=True))
    ]


def _figure(caption: str, png: Path, alt: str) -> dict[str, str | int]:
    """Return what the template shows of one figure, its size in CSS pixels among it."""
    data = png.read_bytes()
    # PNG (ISO/IEC 15948), 5.2 and 11.2.2: eight bytes of signature, then the header chunk with width and height.
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR":
        raise ValueError(f"figures must be PNG files. Got {png}, which is not one.")
    width, height = (round(side / PIXELS_PER_CSS_PIXEL) for side in struct.unpack(">II", data[16:24]))
    return {"caption": caption, "alt": alt, "width": width, "height": height, "data": base64.b64encode(data).decode()}
