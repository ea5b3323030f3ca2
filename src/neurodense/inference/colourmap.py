"""Colours of a heat map in which equal steps of the value look like equal steps of the colour.

`plasma` of matplotlib, by Nathaniel J. Smith and Stefan van der Walt, released as CC0
(https://bids.github.io/colormap/): 33 of its 256 colours, and straight lines in sRGB between them, which stay within
4/255 of the original. It has no black, grey or white in it, so that its colours are told from those of a scan, and its
lightness rises all the way, so that it is read without colour vision too.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_PLASMA: Final = bytes.fromhex("""
    0d0887 220690 310596 3f049c 4c02a1 5901a5 6600a7 7201a8 7e03a8 8909a6 9511a2
    9f1a9c a92396 b22c8e bb3587 c33e80 cb4778 d25071 d9596a e06263 e66c5c eb7555
    f07f4f f48a48 f89441 fb9f3a fdab33 feb72d fdc328 fcd025 f9dd25 f5eb27 f0f921
""")


def colours(shares: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Colours of values (...), from 0 to 1; what lies outside is clipped: float32 (..., 3), sRGB in [0, 1]."""
    table = np.frombuffer(_PLASMA, dtype=np.uint8).reshape(-1, 3) / 255
    places = np.linspace(0, 1, len(table))
    return np.stack([np.interp(shares, places, channel) for channel in table.T], axis=-1).astype(np.float32)
