"""The colours of the figures, and why these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from neurodense.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

# Okabe and Ito (2008), "Color Universal Design": told apart with every common kind of colour vision.
BLUE: Final = "#0072B2"
VERMILION: Final = "#D55E00"
GREEN: Final = "#009E73"
ORANGE: Final = "#E69F00"

FAINT: Final = "#666666"
"""Grey for zeros: steps back behind the other numbers, and still has a contrast of 4.5 on the cells they stand on."""


def white_to_blue() -> Colormap:
    """Return white to deep blue on a straight line in Oklab, where equal steps look equal.

    Ottosson (2020), "A perceptual color space for image processing": the two matrices are the inverses of its M1, M2.
    """
    try:
        from matplotlib.colors import ListedColormap
    except ModuleNotFoundError as error:
        raise MissingExtra("matplotlib", "report") from error
    white, blue = np.array([1.0, 0.0, 0.0]), np.array([0.36, -0.025, -0.11])
    oklab = white + np.linspace(0, 1, 256)[:, None] * (blue - white)  # (256, 3): lightness, green-red, blue-yellow
    to_lms = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = ((oklab @ to_lms.T) ** 3 @ to_rgb.T).clip(0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)  # IEC 61966-2-1
    return ListedColormap(srgb, name="white-to-blue").with_extremes(bad="#e8e8e8")


def readable_on(colour: Sequence[float] | NDArray[np.float64]) -> str:
    """Return "black" or "white", whichever stands out more on an sRGB colour in [0, 1].

    By the contrast ratio of WCAG 2.2, success criterion 1.4.3; the better of the two is never below 4.58.
    """
    srgb = np.asarray(colour)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ (0.2126, 0.7152, 0.0722))
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"
