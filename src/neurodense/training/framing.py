"""What scanner, exporter and viewer make of the same head: margins, a grey background, coarse pixels, noise, blocks.

None of it is the patient's, and all of it may tell where a picture comes from.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from neurodense.training.greys import head_mask

FRAME_DRAWN = 7
"""Uniform numbers that `reframe` takes for each picture."""

_BLOCK = 8  # pixels a side, as in JPEG
_COARSEST = 0.025  # step of the mean of a block, where grey is from 0 to 1; the finest detail has 8 times the step


def reframe(pixels: Tensor, u: Tensor, trim: float, pad: float) -> Tensor:
    """Cut the edges off, or add edges of one grey level; what is left fills the picture.

    Args:
        pixels: (N, 1, S, S).
        u: (N, FRAME_DRAWN) uniform in [0, 1).
        trim: Largest share of the side that is cut off at each edge.
        pad: Largest share of the side that is added at each edge; half of the time in black.

    Returns:
        (N, 1, S, S).
    """
    cut = u[:, :1] < (0.5 if trim and pad else float(trim > 0))
    edges = u[:, 1:2] * u[:, 2:6] * torch.where(cut, -trim, pad)  # left, right, top, bottom; added is positive
    side = pixels.shape[-1]
    centres = (torch.arange(side, device=pixels.device) + 0.5) / side
    across, down = (
        centres * (1 + both.sum(1, keepdim=True)) - both[:, :1]  # 0 to 1 is the picture as it was
        for both in (edges[:, :2], edges[:, 2:])
    )
    grid = torch.stack([across[:, None, :].expand(-1, side, -1), down[:, :, None].expand(-1, -1, side)], 3) * 2 - 1
    out = functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
    within = ((across >= 0) & (across <= 1))[:, None, None, :] & ((down >= 0) & (down <= 1))[:, None, :, None]
    grey = (2 * u[:, 6] - 1).clamp(min=0).view(-1, 1, 1, 1)
    return torch.where(within, out, grey)


def raise_background(pixels: Tensor, u: Tensor, haze: float) -> Tensor:
    """Raise the grey level of black: everywhere, or of the air around the head alone. u: (N, 2)."""
    level = (u[:, :1] * haze).view(-1, 1, 1, 1)
    everywhere = level + (1 - level) * pixels
    around = torch.maximum(pixels, level * (1 - head_mask(pixels)))
    return torch.where((u[:, 1] < 0.5).view(-1, 1, 1, 1), everywhere, around)


def coarsen(pixels: Tensor, u: Tensor, low_resolution: float) -> Tensor:
    """Average rows and columns down, each to another number, and stretch them back. u: (N, 2).

    Half of the time rows, and half of the time columns, are left as they are.
    """
    side = pixels.shape[-1]
    kept = (side * (1 - low_resolution * (2 * u - 1).clamp(min=0))).round().int().tolist()
    out = []
    for index, (rows, columns) in enumerate(kept):
        picture = pixels[index : index + 1]
        if (rows, columns) != (side, side):
            small = functional.interpolate(picture, (rows, columns), mode="bilinear", antialias=True)
            picture = functional.interpolate(small, (side, side), mode="bilinear")
        out.append(picture)
    return torch.cat(out)


def add_rician(pixels: Tensor, noise: Tensor, share: Tensor) -> Tensor:
    """Add noise to both channels of a signal and take its magnitude: in air it lifts the mean, too.

    Gudbjartsson and Patz, The Rician distribution of noisy MRI data (MRM 1995).

    Args:
        pixels: (N, 1, S, S).
        noise: (N, 2, S, S), normal.
        share: (N, 1); the noise's standard deviation over the picture's root mean square.
    """
    deviation = share.view(-1, 1, 1, 1) * pixels.square().mean((2, 3), keepdim=True).sqrt()
    real, imaginary = (noise * deviation).chunk(2, 1)
    return torch.hypot(pixels + real, imaginary)


def compress(pixels: Tensor, u: Tensor, blocks: float) -> Tensor:
    """Round the cosine transform of blocks of 8 x 8 pixels, as JPEG does; half of the time nothing. u: (N, 1)."""
    side = pixels.shape[-1]
    margin = -side % _BLOCK
    wide = functional.pad(pixels, (0, margin, 0, margin), mode="replicate")
    count = wide.shape[-1] // _BLOCK
    k = torch.arange(_BLOCK, device=pixels.device, dtype=pixels.dtype)
    basis = torch.cos(math.pi / _BLOCK * k[:, None] * (k + 0.5)) * math.sqrt(2 / _BLOCK)  # DCT-II, rows are waves
    basis[0] /= math.sqrt(2)
    tiles = wide.view(-1, count, _BLOCK, count, _BLOCK).transpose(2, 3)
    waves = basis @ tiles @ basis.T
    coarse = (_COARSEST * blocks * (2 * u - 1).clamp(min=0)).view(-1, 1, 1, 1, 1)
    step = _BLOCK * coarse * (1 + (k + k[:, None]) / 2) + 1e-6
    tiles = basis.T @ ((waves / step).round() * step) @ basis
    return tiles.transpose(2, 3).reshape_as(wide)[..., :side, :side]
