"""The page of an audit: one HTML file with the findings in words, pairs side by side, tables and galleries.

It stands alone: pictures are inside it as data URIs, the style too, there is no script, and a content security policy
keeps a browser from asking any other host for anything. Everything from outside is escaped. Only a fixed number of
images is shown, so that the page of 100,000 images is as small as that of a thousand.
"""

from __future__ import annotations

import base64
import io
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neurodense.atomic import write_text
from neurodense.data.audit.confounding import Partition
from neurodense.data.audit.phrases import many, share
from neurodense.data.audit.relations import Alike, Joined, Pair
from neurodense.data.audit.result import Audit
from neurodense.data.audit.run import Audited
from neurodense.data.fingerprint import turned
from neurodense.errors import MissingExtra, ScanError
from neurodense.notice import NOTICE
from neurodense.scans.study import read_image

TEMPLATE: Final = "page.html.j2"
STYLE: Final = "page.css"
PICTURE: Final = 144  # pixels of the longer side
_PAIRS: Final = 12
_GALLERY: Final = 28  # seven fit a line of a wide screen
_STRIP: Final = 14
_ODD: Final = 7
_REASONS: Final = 50


def write_page(result: Audited, path: Path) -> None:
    """Write audit.html, whole or not at all.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ModuleNotFoundError as error:
        raise MissingExtra("jinja2", "audit") from error
    source, style = (resources.files(__package__).joinpath(name).read_text("utf-8") for name in (TEMPLATE, STYLE))
    template = Environment(autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True).from_string(source)
    audit, album = result.audit, _Album(result.data.root, result.against)
    html = template.render(
        style=Markup(style),  # noqa: S704  (the file beside this one, not text from outside)
        notice=NOTICE,
        title=f"Audit of {audit.data.name}",
        answer=_answer(audit),
        facts=_facts(audit),
        audit=audit,
        same={
            "conflicts": album.pairs(audit.twins.across_classes, 2 * _PAIRS),
            "parts": album.pairs(audit.twins.across_parts),
            "data": album.pairs(audit.twins.across_data),
            "within": album.pairs(audit.twins.within_classes, _PAIRS // 2),
            "near": album.pairs(audit.neighbours.within_classes, _PAIRS // 2),
        },
        sources=[_partition(partition, result, album) for partition in audit.confounding.partitions],
        odd=[
            {
                "title": oddity.kind.capitalize(),
                "text": ", ".join(f"{name} {count:,}" for name, count in oddity.by_class.items()),
                "entries": album.gallery([(o.path, o.label, f"{o.path}: {o.detail}") for o in oddity.listed[:_ODD]]),
            }
            for oddity in audit.oddities
        ],
        mixtures=[
            {
                "title": f"{mixture.of.capitalize()}: {mixture.kinds:,} kinds",
                "caption": f"Images by {mixture.of}"
                + (", the commonest" if mixture.kinds > len(mixture.counts) else ""),
                **_heat(
                    mixture.of,
                    list(mixture.counts),
                    [list(row.values()) for row in mixture.counts.values()],
                    list(audit.data.classes),
                    [audit.data.classes[name] for name in audit.data.classes],
                ),
            }
            for mixture in audit.mixtures
        ],
        unreadable=_reasons(audit),
        outliers=album.gallery(
            [(o.path, o.label, f"{o.path}, score {o.score:.1f}") for o in audit.outliers.listed[:_GALLERY]]
        ),
        command=_command(audit),
    )
    write_text(path, html.encode(errors="replace").decode())  # names may hold bytes that are no UTF-8: shown as "?"


@dataclass
class _Album:
    """Pictures for the page, read again from their files."""

    data: Path
    against: Path | None
    known: dict[Path, NDArray[np.uint8] | None] = field(default_factory=dict)

    def pixels(self, path: Path) -> NDArray[np.uint8] | None:
        """The image, its longer side `PICTURE` pixels; None where the file is gone."""
        if path not in self.known:
            try:
                image = Image.fromarray((read_image(path).pixels * 255 + 0.5).astype(np.uint8))
            except ScanError:
                self.known[path] = None
            else:
                image.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
                self.known[path] = np.asarray(image)
        return self.known[path]

    def gallery(self, items: Sequence[tuple[str, str, str]]) -> list[dict[str, str]]:
        """Pictures of DATA from (path, label, text) each."""
        return [
            _picture(pixels, label, text)
            for path, label, text in items
            if (pixels := self.pixels(self.data / path)) is not None
        ]

    def pairs(self, found: Joined | Alike | None, most: int = _PAIRS) -> dict[str, Any]:
        """The pairs that show most, side by side."""
        listed = () if found is None else found.pairs
        entries = [entry for pair in _varied(listed, most) if (entry := self._pair(pair)) is not None]
        return {"entries": entries, "shown": f"Shown: {len(entries):,} of {many(len(listed), 'pair')} in audit.json."}

    def _pair(self, pair: Pair) -> dict[str, Any] | None:
        places = [
            (self.against if folder == "against" and self.against is not None else self.data) / path
            for path, folder in ((pair.a, pair.a_in), (pair.b, pair.b_in))
        ]
        a, b = map(self.pixels, places)
        if a is None or b is None:
            return None
        parts = [f", {part}" if part else "" for part in pair.parts or ("", "")]
        pictures = [_picture(a, pair.a_label, pair.a + parts[0]), _picture(b, pair.b_label, pair.b + parts[1])]
        if pair.turn:
            pictures.append(
                _picture(np.asarray(turned(b, pair.turn), dtype=np.uint8), "turned back", f"({pair.transform})")
            )
        how = pair.kind if pair.kind == "same bytes" else f"{pair.kind}, similarity {pair.similarity:.3f}"
        return {"pictures": pictures, "text": how}


def _varied(listed: Sequence[Pair], most: int) -> list[Pair]:
    """The pairs that show most: turned ones first, exact copies last, no image twice as far as there are others."""
    seen: set[str] = set()
    fresh: list[Pair] = []
    rest: list[Pair] = []
    for pair in sorted(listed, key=lambda pair: (pair.kind == "same bytes", pair.turn == 0)):
        (rest if {pair.a, pair.b} & seen else fresh).append(pair)
        seen |= {pair.a, pair.b}
    return (fresh + rest)[:most]


def _picture(pixels: NDArray[np.uint8], label: str, text: str) -> dict[str, str]:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=80)
    data = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"data": data, "label": label, "text": text, "alt": f"{label} {text}".strip()}


def _answer(audit: Audit) -> str:
    serious = sum(finding.weight == "serious" for finding in audit.findings)
    careful = sum(finding.weight == "caution" for finding in audit.findings)
    if serious:
        more = f" {careful} more need{'s' if careful == 1 else ''} a look." if careful else ""
        return f"{many(serious, 'serious finding')}: a score on these images cannot be taken at its word yet.{more}"
    if careful:
        return f"Nothing serious, {many(careful, 'finding')} to look at before a score is believed."
    return "Nothing was found that would make a score on these images too good."


def _facts(audit: Audit) -> dict[str, str]:
    facts = {
        "Images": f"{audit.data.images:,}",
        **{name: f"{count:,}" for name, count in audit.data.classes.items()},
        "Clusters of twins": f"{audit.twins.clusters:,}",
        "Groups": f"{audit.groups.found:,}",
        "Unreadable": f"{len(audit.data.unreadable):,}",
    }
    if audit.against is not None:
        facts[f"Images of {audit.against.name}"] = f"{audit.against.images:,}"
    if audit.data.synthetic:
        facts["Origin"] = "synthetic"
    return facts


def _partition(partition: Partition, result: Audited, album: _Album) -> dict[str, Any]:
    classes, columns = list(result.audit.data.classes), list(result.audit.data.classes.values())
    rows = [list(row) for row in partition.counts]
    if partition.against is not None and result.audit.against is not None:
        classes.append(f"{result.audit.against.name} (other folder)")
        columns.append(sum(partition.against))
        rows = [[*row, count] for row, count in zip(rows, partition.against, strict=True)]
    text = (
        f"Cramér's V {partition.cramers_v:.2f}, normalised mutual information {partition.mutual_information:.2f}; "
        f"shuffling whole groups gives a V of {partition.expected_v:.2f} (p {partition.p_value:.3f})."
    )
    strips = []
    if partition.by == "look":
        text += f" Number of looks: {result.audit.confounding.criterion}."
        rng = np.random.default_rng(0)
        for k, name in enumerate(partition.sources):
            members = np.flatnonzero(result.look == k)
            chosen = [
                result.data.records[i] for i in sorted(rng.choice(members, min(_STRIP, len(members)), replace=False))
            ]
            entries = album.gallery([(record.path, record.label, "") for record in chosen])
            strips.append(
                {"name": name, "note": f"{partition.described[k]}; images drawn at random", "entries": entries}
            )
    table = {
        "caption": f"Images by {partition.by} and class",
        **_heat(partition.by, list(partition.sources), rows, classes, columns, partition.described),
    }
    return {"title": f"By {partition.by}", "table": table, "text": text, "strips": strips}


def _heat(
    head: str,
    names: Sequence[str],
    rows: Sequence[Sequence[int]],
    columns: Sequence[str],
    totals: Sequence[int],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    return {
        "head": head,
        "columns": columns,
        "rows": [
            {
                "name": name,
                "note": notes[k] if notes else "",
                "cells": [
                    (count, count / max(total, 1), share(count / max(total, 1)))
                    for count, total in zip(rows[k], totals, strict=True)
                ],
            }
            for k, name in enumerate(names)
        ],
    }


def _reasons(audit: Audit) -> list[str]:
    reasons = audit.unreadable
    more = [f"and {len(reasons) - _REASONS:,} more; audit.json lists all"] if len(reasons) > _REASONS else []
    return reasons[:_REASONS] + more


def _command(audit: Audit) -> str:
    parts = ["neurodense", "audit", audit.data.path]
    for name in ("against", "groups", "split", "sources", "out"):
        if (value := getattr(audit.asked, name)) is not None:
            parts += [f"--{name}", value]
    return shlex.join(parts)
