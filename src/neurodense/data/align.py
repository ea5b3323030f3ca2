"""Are two thumbnails the same slice? They are laid on each other first, then compared place by place.

Laying on: a scale and a shift for each axis, found by Gauss-Newton on band-passed, equalised pictures (Lucas and
Kanade 1981; Baker and Matthews, IJCV 56, 2004), on 32 pixels and then on 64. A head cut out along its edges is off by
a pixel here and there, a crop by more.

Comparing: on what both show, one picture's greys are fitted to the other's by a cubic, which undoes brightness,
contrast and gamma; then the correlation within a Gaussian window is taken at 14 x 14 places (the structure term of
SSIM, Wang et al., IEEE TIP 13, 2004). The similarity is the fourth percentile of these: all but one in 25 places agree
at least so well. JPEG harms all places a little; between neighbouring slices a ventricle or a sulcus changes, which
the correlation of whole pictures hardly sees.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from neurodense.data.fingerprint import SIDE, Floats, Thumbs, equalised, ranks, turned

HALF: Final = SIDE // 2
ROUGH: Final = ((0, 0.45), (2, 0.7), (3, 0.75))
"""Pairs whose halved pictures correlate less after so many steps of laying on, each time, are dropped."""
ROUGH_PLACES: Final = 0.45
"""After these, as the similarity below, but of the halved pictures. What is dropped gets similarity 0."""

_EVEN: Final = 2.0  # limit of the equalisation before comparing; see `fingerprint.equalised`


def half_size(pictures: Floats) -> Thumbs:
    """Halve equalised pictures (N, SIDE, SIDE): uint8 (N, HALF, HALF), what the rough step works on."""
    quarters = pictures.reshape(-1, HALF, 2, HALF, 2)
    return np.asarray(quarters.mean((2, 4)) * 255 + 0.5, np.uint8)


def similarities(
    first: Thumbs, second: Thumbs, first_half: Thumbs, second_half: Thumbs, turns: NDArray[np.uint8], scales: Floats
) -> Floats:
    """Compare pairs of thumbnails.

    Args:
        first: uint8 (N, SIDE, SIDE); the one that shows less, where one was cropped.
        second: uint8 (N, SIDE, SIDE).
        first_half: What `half_size` makes of `first`.
        second_half: What `half_size` makes of `second`.
        turns: uint8 (N,); the second turned by it looks like the first.
        scales: float32 (N,); the share of the second's sides that the first shows, to begin with.

    Returns:
        float32 (N,) up to 1; 0 for those that the rough step drops.
    """
    result = np.zeros(len(first), np.float32)
    start = np.zeros((len(first), 2, 2), np.float32)
    start[:, :, 0] = scales[:, None]
    a, b = _band(first_half.astype(np.float32), _FINE[HALF]), _band(_turned(second_half, turns), _FINE[HALF])
    left, places = np.arange(len(first)), start
    for steps, least in ROUGH:
        places = _lay_on(a, b, places, steps) if steps else places
        laid, mask = _moved(b, places)
        shown, laid = a * mask, laid * mask
        close = _correlation(shown, laid) > least
        if steps == ROUGH[-1][0]:
            close &= _local_correlation(shown, laid) > ROUGH_PLACES
        left, places, a, b = left[close], places[close], a[close], b[close]
        if not left.size:
            return result
    places[:, :, 1] *= SIDE / HALF
    result[left] = _compare(first[left], second[left], turns[left], places)
    return result


def _compare(first: Thumbs, second: Thumbs, turns: NDArray[np.uint8], places: Floats) -> Floats:
    """Similarity of pairs that lie roughly on each other."""
    even = [_band(equalised(x).astype(np.float32), _FINE[SIDE]) for x in (first, _turned_bytes(second, turns))]
    places = _lay_on(even[0], even[1], places, 2)
    a = first.astype(np.float32)
    b, mask = _moved(_turned(second, turns), places)
    a, b = _even(a, mask), _even(b, mask)
    return _local_correlation(_inner_band(a, mask), _inner_band(_fitted(b, a, mask), mask))


def _turned_bytes(pictures: Thumbs, turns: NDArray[np.uint8]) -> Thumbs:
    out = np.empty_like(pictures)
    for turn in range(8):
        here = turns == turn
        out[here] = turned(pictures[here], turn)
    return out


def _turned(pictures: Thumbs, turns: NDArray[np.uint8]) -> Floats:
    """Each picture turned by its own turn, as float32."""
    return _turned_bytes(pictures, turns).astype(np.float32)


def _lay_on(a: Floats, b: Floats, places: Floats, steps: int) -> Floats:
    """Refine where each pixel of `a` lies in `b`: `places` (N, 2, 2), for rows and columns (scale, shift in pixels)."""
    count, side, _ = a.shape
    from_middle = np.arange(side, dtype=np.float32) - (side - 1) / 2
    down, across = np.gradient(a, axis=1), np.gradient(a, axis=2)
    slopes = np.stack([down * from_middle[:, None], down, across * from_middle, across], 1).reshape(count, 4, -1)
    hessian = slopes @ slopes.swapaxes(1, 2)
    hessian += np.eye(4, dtype=np.float32) * (1e-3 / 4 * np.trace(hessian, axis1=1, axis2=2) + 1e-6)[:, None, None]
    inverse = np.linalg.inv(hessian)
    most = np.array([0.06, side / 32, 0.06, side / 32], np.float32)  # one step goes no further
    for _ in range(steps):
        laid, mask = _moved(b, places)
        laid, here = (laid * mask).reshape(count, -1), (a * mask).reshape(count, -1)
        gain = (laid * here).sum(1) / np.maximum((laid * laid).sum(1), 1e-6)
        step = inverse @ (slopes @ (here - gain[:, None] * laid)[:, :, None])
        places = places + np.clip(step[:, :, 0], -most, most).reshape(count, 2, 2)
    return places


def _moved(b: Floats, places: Floats) -> tuple[Floats, Floats]:
    """`b` (N, side, side) resampled at `places`, bilinear, and 1 where it had pixels to take, else 0."""
    side = b.shape[1]
    middle = np.float32((side - 1) / 2)
    pixel = np.arange(side, dtype=np.float32)
    at = places[:, :, :1] * (pixel - middle) + places[:, :, 1:] + middle  # (N, 2, side)
    weights = np.maximum(0, 1 - np.abs(at[..., None] - pixel))
    inside = ((at >= -0.25) & (at <= side - 0.75)).astype(np.float32)
    inside[:, :, : side // 16] = inside[:, :, -(side // 16) :] = 0
    return weights[:, 0] @ b @ weights[:, 1].swapaxes(1, 2), inside[:, 0, :, None] * inside[:, 1, None]


def _even(pictures: Floats, mask: Floats) -> Floats:
    """As `fingerprint.equalised`, for float pictures (N, SIDE, SIDE) in [0, 255] and where `mask` is 1."""
    count = len(pictures)
    flat = np.clip(pictures + 0.5, 0, 255).astype(np.int32).reshape(count, -1)
    flat += np.arange(count, dtype=np.int32)[:, None] * 256
    counts = np.bincount(flat.ravel(), mask.ravel(), 256 * count).astype(np.float32).reshape(count, 256)
    return np.asarray(ranks(counts, _EVEN).ravel()[flat].reshape(pictures.shape))


def _fitted(b: Floats, a: Floats, mask: Floats) -> Floats:
    """The cubic of `b` that is nearest to `a` where `mask` is 1."""
    x, y, here = (picture.reshape(len(b), -1) for picture in (b, a, mask))
    powers = np.stack([np.ones_like(x), x, x * x, x * x * x], 1)
    masked = powers * here[:, None]
    normal = masked @ masked.swapaxes(1, 2) + 1e-3 * np.eye(4, dtype=np.float32)
    weights = np.linalg.solve(normal, masked @ (y * here)[:, :, None])
    return np.asarray((weights.swapaxes(1, 2) @ powers).reshape(b.shape))


def _band(pictures: Floats, fine: Floats) -> Floats:
    """Band-pass: smoothed a little less smoothed much."""
    side = pictures.shape[1]
    smooth = fine @ pictures @ fine.T
    return np.asarray(smooth - _COARSE[side] @ smooth @ _COARSE[side].T)


def _inner_band(pictures: Floats, mask: Floats) -> Floats:
    """Band-pass where `mask` is 1, with the mean beyond its edge, 0 outside."""
    mean = (pictures * mask).sum((1, 2), keepdims=True) / np.maximum(mask.sum((1, 2), keepdims=True), 1)
    return _band((pictures - mean) * mask, _FINE[SIDE]) * mask


def _correlation(a: Floats, b: Floats) -> Floats:
    return np.asarray((a * b).sum((1, 2)) / np.sqrt((a * a).sum((1, 2)) * (b * b).sum((1, 2)) + 1e-6))


def _local_correlation(a: Floats, b: Floats) -> Floats:
    """The fourth percentile of the correlations within windows; flat windows count as equal as far as they are flat."""
    b = b * np.sqrt((a * a).sum((1, 2)) / np.maximum((b * b).sum((1, 2)), 1e-6))[:, None, None]
    window = _WINDOW[a.shape[1]]
    aa, bb, ab = (window @ product @ window.T for product in (a * a, b * b, a * b))
    flat = 0.05 * np.maximum(aa, bb).mean((1, 2), keepdims=True)
    local = ((ab + flat) / np.sqrt((aa + flat) * (bb + flat) + 1e-12)).reshape(len(a), -1)
    return np.partition(local, local.shape[1] // 25, axis=1)[:, local.shape[1] // 25]


def _gaussian(side: int, sigma: float) -> Floats:
    """A matrix that smooths columns; sigma in pixels."""
    pixel = np.arange(side)
    weights = np.exp(-0.5 * ((pixel[:, None] - pixel) / sigma) ** 2)
    weights[weights < 1e-6] = 0  # denormal numbers would make each product many times slower
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)


_FINE: Final = {HALF: _gaussian(HALF, 0.6), SIDE: _gaussian(SIDE, 0.8)}
_COARSE: Final = {HALF: _gaussian(HALF, 3.0), SIDE: _gaussian(SIDE, 5.0)}
_WINDOW: Final = {HALF: _gaussian(HALF, 2.5)[4:-3:3], SIDE: _gaussian(SIDE, 4.0)[6:-4:4]}  # the margin is masked
