"""Augmented views: an image and a view number give one changed image, always the same one.

Everything random about view v of an image is drawn from a generator seeded with (seed, the file's hash, v). So a view
does not depend on the batch, the worker or the epoch order it is made in, and a cached view equals a fresh one.
View 0 is the image itself. Changes are applied in the order in which an MRI comes about: geometry, bias field, the
scanner's intensity scale, blur, noise.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from neurodense.training import framing, greys, marks
from neurodense.training.variation import Augment

_UNIFORM = 16  # uniform numbers drawn for each view, in a fixed order, whatever is switched on
_FIELD = 4  # the bias field is drawn on a 4 x 4 grid and interpolated
_TAPS = 4  # the blur kernel reaches 4 pixels to either side: 2.7 sigma at sigma 1.5


def generator_of(*key: str | int) -> torch.Generator:
    """A CPU generator seeded with a hash of `key`."""
    digest = hashlib.blake2b("\t".join(map(str, key)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def augment_views(pixels: Tensor, hashes: Sequence[str], view: int, seed: int, augment: Augment) -> Tensor:
    """Make view number `view` of each image of a batch.

    Args:
        pixels: (N, 1, S, S) float32 in [0, 1], on any device.
        hashes: N file hashes, which name the images.
        view: 0 gives the images back as they are.
        seed: The run's seed.
        augment: What may change, and how much.

    Returns:
        (N, 1, S, S) float32 in [0, 1].
    """
    if view == 0 or augment == Augment():
        return pixels
    side = pixels.shape[-1]
    uniform, field, noise = [], [], []
    for name in hashes:
        generator = generator_of(seed, name, view)
        uniform.append(torch.rand(_UNIFORM, generator=generator))
        field.append(torch.rand(1, _FIELD, _FIELD, generator=generator))
        if augment.noise:
            noise.append(torch.randn(1, side, side, generator=generator))
    device = pixels.device
    u = torch.stack(uniform).to(device)

    def draw(change: str, *shape: int, normal: bool = False) -> Tensor:
        """Numbers (N, *shape) of one change alone, so that the others are what they are without it."""
        make = torch.randn if normal else torch.rand
        return torch.stack([make(shape, generator=generator_of(seed, name, view, change)) for name in hashes]).to(
            device
        )

    pixels = _affine(pixels, u[:, :7], augment)
    if augment.bias_field:
        grid = (torch.stack(field).to(device) * 2 - 1) * augment.bias_field
        pixels = pixels * torch.exp(functional.interpolate(grid, (side, side), mode="bicubic", align_corners=True))
    pixels = _intensity(pixels, u[:, 7:10], augment)
    if augment.remap or augment.equalise or augment.invert or augment.window:
        pixels = greys.regrey(pixels, draw("greys", greys.DRAWN), augment)
    if augment.low_resolution:
        pixels = framing.coarsen(pixels, draw("resolution", 2), augment.low_resolution)
    if augment.blur:
        pixels = _blur(pixels, u[:, 10] * augment.blur)
    if augment.noise:
        pixels = pixels + torch.stack(noise).to(device) * (u[:, 11] * augment.noise).view(-1, 1, 1, 1)
    if augment.rician:
        noise_of_both = draw("channels", 2, side, side, normal=True)
        pixels = framing.add_rician(pixels, noise_of_both, draw("rician", 1) * augment.rician)
    if augment.haze:
        pixels = framing.raise_background(pixels.clamp(0, 1), draw("haze", 2), augment.haze)
    if augment.trim or augment.pad:
        pixels = framing.reframe(pixels, draw("frame", framing.FRAME_DRAWN), augment.trim, augment.pad)
    if augment.marks:
        pixels = marks.add_marks(pixels, draw("marks", marks.DRAWN), augment.marks)
    if augment.blocks:
        pixels = framing.compress(pixels.clamp(0, 1), draw("blocks", 1), augment.blocks)
    if augment.erase:
        pixels = _erase(pixels, u[:, 12:15], augment.erase)
    return pixels.clamp(0, 1)


def _affine(pixels: Tensor, u: Tensor, augment: Augment) -> Tensor:
    """Flip, rotate, scale, stretch and shift in one resampling. u: (N, 7) uniform in [0, 1)."""
    signed = u * 2 - 1
    angle = signed[:, 0] * math.radians(augment.rotate_degrees)
    scale = 1 + signed[:, 1] * augment.scale
    stretch = torch.sqrt(1 + signed[:, 2] * augment.stretch)
    flip_x = 1 - 2 * (u[:, 3] < 0.5).float() * float(augment.flip)
    flip_y = 1 - 2 * (u[:, 4] < 0.5).float() * float(augment.flip_vertical)
    cos, sin = torch.cos(angle), torch.sin(angle)
    # affine_grid maps output to input, so sizes divide.
    across, down = flip_x / (scale * stretch), flip_y * stretch / scale
    theta = torch.stack(
        [
            torch.stack([cos * across, -sin * down, 2 * signed[:, 5] * augment.shift], 1),
            torch.stack([sin * across, cos * down, 2 * signed[:, 6] * augment.shift], 1),
        ],
        1,
    )
    grid = functional.affine_grid(theta, list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _intensity(pixels: Tensor, u: Tensor, augment: Augment) -> Tensor:
    """Gamma, contrast about the mean, brightness. u: (N, 3) uniform in [0, 1)."""
    gamma, contrast, brightness = (u * 2 - 1).view(-1, 3, 1, 1, 1).unbind(1)
    if augment.gamma:
        pixels = pixels.clamp(min=0) ** torch.exp(gamma * augment.gamma)
    if augment.contrast:
        mean = pixels.mean((2, 3), keepdim=True)
        pixels = mean + (pixels - mean) * (1 + contrast * augment.contrast)
    return pixels * (1 + brightness * augment.brightness)


def _blur(pixels: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, another sigma (N,), in pixels, for each image: two one-dimensional convolutions."""
    count, _, height, width = pixels.shape
    taps = torch.arange(-_TAPS, _TAPS + 1, device=pixels.device, dtype=pixels.dtype)
    kernel = torch.exp(-0.5 * (taps / sigma.clamp(min=1e-3)[:, None]) ** 2)
    kernel = kernel / kernel.sum(1, keepdim=True)
    row = pixels.view(1, count, height, width)
    row = functional.conv2d(row, kernel[:, None, None, :], padding=(0, _TAPS), groups=count)
    row = functional.conv2d(row, kernel[:, None, :, None], padding=(_TAPS, 0), groups=count)
    return row.view_as(pixels)


def _erase(pixels: Tensor, u: Tensor, share: float) -> Tensor:
    """Set one square of each image to 0. u: (N, 3): its side and its place."""
    side = pixels.shape[-1]
    place = torch.arange(side, device=pixels.device) / side
    length = u[:, :1] * share
    across = (place >= u[:, 1:2] * (1 - length)) & (place < u[:, 1:2] * (1 - length) + length)
    down = (place >= u[:, 2:3] * (1 - length)) & (place < u[:, 2:3] * (1 - length) + length)
    return pixels * ~(across[:, None, None, :] & down[:, None, :, None])
