"""Heat maps as arrays, small enough to send: whoever shows them chooses class, opacity and window without asking again.

The evidence of each class comes on the model's own grid of places (7 x 7 for an input of 224 pixels), from which
`inference/explain.enlarge` makes the map on the scan; beside it the scan's pixels, shrunk where they are many.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from neurodense.inference.colourmap import colours
from neurodense.inference.explain import evidence
from neurodense.inference.overlay import FULL_SCALE
from neurodense.inference.predictor import Predictor
from neurodense.inference.scaling import calibrated
from neurodense.scans.scan import Scan
from neurodense.scans.study import Failure

if TYPE_CHECKING:
    from neurodense.serving.service import Answered

_TOP: Final = 65535
_COLOURS: Final = 33


@dataclass(frozen=True)
class Picture:
    """What is shown of a slice.

    Attributes:
        source: Of the scan.
        shape: Rows and columns of `pixels`.
        spacing: Millimetres between rows and columns of the scan as it was read, or None.
        window: Top, left, bottom and right of what the model was shown, as shares of the scan's height and width.
        pixels: Base64 of rows of little-endian uint16, 0 black, 65535 white.
    """

    source: str
    shape: tuple[int, int]
    spacing: tuple[float, float] | None
    window: tuple[float, float, float, float]
    pixels: str


def picture(scan: Scan, predictor: Predictor, side: int) -> Picture:
    """The scan, its longer side at most `side` pixels."""
    height, width = scan.pixels.shape
    top, left, bottom, right = predictor.card.preprocess.window(scan)
    scale = min(1.0, side / max(height, width))
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    pixels = scan.pixels
    if shape != pixels.shape:
        pixels = np.asarray(Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.BOX))
    raw = np.rint(pixels.clip(0, 1) * _TOP).astype("<u2").tobytes()
    return Picture(
        scan.source,
        shape,
        scan.spacing,
        (top / height, left / width, bottom / height, right / width),
        base64.b64encode(raw).decode("ascii"),
    )


def as_dict(answer: Answered | Failure, predictor: Predictor) -> dict[str, Any]:
    """A study's prediction, and for each slice that was looked at its picture and the evidence for each class.

    `evidence` is in calibrated logits, rows of places from top to bottom of `window`.
    """
    if isinstance(answer, Failure):
        return {"prediction": answer.as_dict()}
    card = predictor.card
    maps = calibrated(card, answer.outputs.activation_maps).astype(np.float32)
    grids = evidence(maps).astype(np.float64).round(3)
    return {
        "prediction": answer.prediction.as_dict(),
        "slices": [
            {
                "source": one.source,
                "rows": one.shape[0],
                "columns": one.shape[1],
                "spacing": one.spacing,
                "window": one.window,
                "pixels": one.pixels,
                "evidence": dict(zip(card.classes, grid.tolist(), strict=True)),
            }
            for one, grid in zip(answer.kept, grids, strict=True)
        ],
    }


def scale() -> dict[str, Any]:
    """The colours of the heat: from 0 to `full_scale` calibrated logits, evenly spaced; sRGB as #rrggbb."""
    table = np.rint(colours(np.linspace(0, 1, _COLOURS)) * 255).astype(int)
    return {"full_scale": FULL_SCALE, "colours": [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in table.tolist()]}
