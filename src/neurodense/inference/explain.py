"""Why a scan was given its class: the heat map, from the exported graph's class activation maps, with no gradient.

The graph gives one map A_k for each class k, on a grid of places that each cover 32 x 32 pixels of the input, and the
mean of A_k over the places is the logit of k (Zhou et al., Learning Deep Features for Discriminative Localization, CVPR
2016). A softmax does not change when all logits move together, so what is common to all maps says nothing about the
class. The evidence for class c is therefore A_c against the mean of all the classes' maps:

    evidence_c = A_c - mean over k of A_k        A: as the card calibrates logits, see `scaling.py`

It is signed, with no ReLU and no scaling by an image's own maximum, so images can be compared. The mean of evidence_c
over the places is what class c has in the softmax: the softmax over c of these means is the probabilities. Read a value
as the logit, against the mean of the classes, that the scan would have if all of it looked as that place does.

What the choice was measured against: `docs/explanations.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neurodense.scans.head import Box
from neurodense.scans.scan import Scan


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where in a scan a model saw one class.

    Attributes:
        scan: What was explained.
        label: The class that the map is of: the one named first by the model, unless another was asked for.
        probability: Of `label`, in [0, 1].
        heat: float32 (H, W) of the scan's own pixels: evidence for `label` against the mean of the classes, in
            calibrated logits, positive for and negative against it. Not scaled to its own maximum. 0 where the model
            was not shown the scan.
        place: Rows and columns of the scan that one place of the map covers: the finest that it can tell.
        window: Top, left, bottom and right of the part of the scan that the model was shown, which may reach beyond it;
            None for the whole.
        notes: What a reader should know of the scan and of the model.
    """

    scan: Scan
    label: str
    probability: float
    heat: NDArray[np.float32]
    place: tuple[float, float]
    notes: tuple[str, ...] = ()
    window: Box | None = None


def evidence(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Evidence for each class at each place.

    Args:
        maps: float32 (N, classes, h, w), the graph's activation maps, calibrated.

    Returns:
        float32 (N, classes, h, w), in the logits of the maps; its mean over classes is 0 at each place.
    """
    return np.asarray(maps - maps.mean(axis=1, keepdims=True))


def enlarge(grid: NDArray[np.float32], shape: tuple[int, int], window: Box | None = None) -> NDArray[np.float32]:
    """A map (h, w) on the scan, (H, W): bilinear between the centres of its places, level outside of them.

    Args:
        grid: float32 (h, w).
        shape: (H, W) of the scan.
        window: What the map covers, as `Preprocess.window` gives it; None is the whole scan. Beyond it the result is 0.
    """
    height, width = shape
    top, left, bottom, right = window or (0, 0, height, width)
    part = np.asarray(Image.fromarray(grid).resize((right - left, bottom - top), Image.Resampling.BILINEAR))
    if part.shape == shape and not (top or left):
        return part
    whole = np.zeros(shape, dtype=np.float32)
    seen = whole[max(top, 0) : bottom, max(left, 0) : right]
    seen[:] = part[max(-top, 0) :, max(-left, 0) :][: seen.shape[0], : seen.shape[1]]
    return whole
