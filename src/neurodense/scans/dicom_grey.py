"""From stored values to grey in [0, 1]: the one rule, in the order of Part 3, C.11 and Part 4, N.2.

1. Modality LUT: the table of the Modality LUT Sequence, else value x Rescale Slope + Rescale Intercept (C.11.1).
2. VOI LUT: the first table of the VOI LUT Sequence, else the first window (C.11.2), LINEAR, LINEAR_EXACT or SIGMOID.
   A LINEAR window narrower than 1 is not allowed, but written; it is taken as LINEAR_EXACT. One of width 0 or less is
   none. Without any: unsigned integers of up to 8 bits without a modality LUT are a picture already, and run from 0 to
   the largest that their bits hold; of all others the range from the 0.5th to the 99.5th percentile is shown.
3. MONOCHROME1, or Presentation LUT Shape INVERSE, is inverted after that (C.7.6.3.1.2, C.11.6). Both are said of an
   image of the one kind, and turn it once.
4. Pixel Padding Values, and floats that are not finite, take no part in percentiles and become black (C.7.5.1.1.2).

Colours: a palette becomes RGB; pydicom turns YBR into RGB. The grey is ITU-R 601 luma, as of every other picture.
Not applied: overlays, supplemental palettes, real world value mapping, presentation states, ICC profiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurodense.scans.dicom_luts import Lut

LUMA = (0.299, 0.587, 0.114)
PERCENTILES = (0.5, 99.5)
MAX_MEASURED = 1 << 18  # pixels of a slice that take part in percentiles, on a regular grid


@dataclass(frozen=True)
class Window:
    """A window (C.11.2.1.2): which values are shown, as grey in [0, 1].

    Attributes:
        centre: Window Center, in the values behind the modality LUT.
        width: Window Width, at least 0.
        function: LINEAR, LINEAR_EXACT or SIGMOID.
    """

    centre: float
    width: float
    function: str = "LINEAR_EXACT"

    @classmethod
    def of_range(cls, low: float, high: float) -> Window:
        """The window that shows `low` as 0 and `high` as 1."""
        return cls((low + high) / 2, high - low)

    def shown(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values as grey in [0, 1]."""
        centre, width = self.centre, self.width
        if self.function == "SIGMOID":
            with np.errstate(over="ignore"):
                return 1 / (1 + np.exp(-4 * (values - centre) / width))
        if self.function == "LINEAR" and width >= 1:
            centre, width = centre - 0.5, width - 1
        if width == 0:
            return (values > centre).astype(np.float64)
        return np.clip((values - centre) / width + 0.5, 0, 1)


Look = Window | Lut
"""What makes grey of the values of a slice."""


def measured(samples: Sequence[NDArray[np.float64]]) -> Window:
    """The window from the 0.5th to the 99.5th percentile of values; their whole range where these two are one."""
    values = np.concatenate(samples) if samples else np.empty(0)
    if not values.size:
        return Window(0, 0)
    low, high = np.percentile(values, PERCENTILES)
    if low == high:
        low, high = values.min(), values.max()
    return Window.of_range(float(low), float(high))


def on_grid(values: NDArray[np.float64], shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Those of at most `MAX_MEASURED` values on a regular grid that are shown; shape (N,)."""
    step = int(np.ceil(np.sqrt(max(1, values.size / MAX_MEASURED))))
    grid = (slice(None, None, step), slice(None, None, step))
    kept: NDArray[np.float64] = values[grid][shown[grid]]
    return kept


def luma(rgb: NDArray[Any], top: float) -> NDArray[np.float64]:
    """Grey in [0, 1] of RGB, shape (H, W, 3), whose samples reach `top`."""
    grey: NDArray[np.float64] = np.clip(rgb @ np.array(LUMA) / top, 0, 1)
    return grey
