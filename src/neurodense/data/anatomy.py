"""Draws one synthetic axial head slice: what the phantom's patients have in common, and how they differ.

A drawing, not a simulation: layered ellipses, level sets of band-limited noise for the gyri, and soft edges.
Signals follow a T1-weighted picture after contrast agent: fat and vessels bright, white matter brighter than
grey, fluid dark, cortical bone and air nearly black.

Coordinates, everywhere in this module and in `phantom`:

    x, y   half-image units in the head's own frame, x to the image's right, y to the back of the head
    u, v   x and y over the head's semi-axes, so that the skin is near hypot(u, v) = 1
    z      height within the drawn stack, 0 (lowest) to 1 (highest)

Arrays of one slice are float32 of shape (size, size), rows first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.floating[Any]]  # float32

GRID = 128  # side of the periodic noise grids; it spans u, v in [-1, 1)

AIR, BONE, FLUID, MUSCLE, FAT = 0.015, 0.07, 0.17, 0.36, 0.80
GREY, WHITE, MARROW, VESSEL = 0.46, 0.62, 0.34, 0.88


def noise_grid(rng: np.random.Generator, low: float, high: float) -> NDArray[np.complex64]:
    """Make periodic band-limited noise whose zero lines meander as gyri do.

    Args:
        rng: Source of the noise.
        low: Lowest frequency kept, cycles across the grid.
        high: Highest frequency kept, cycles across the grid.

    Returns:
        complex64 of shape (GRID, GRID). Real and imaginary part are independent, each with mean 0 and
        standard deviation 1, so that turning the phase moves smoothly through related fields.
    """
    frequency = np.fft.fftfreq(GRID, 1 / GRID)
    radius = np.hypot(frequency[:, None], frequency[None, :])
    spectrum = rng.standard_normal((GRID, GRID)) + 1j * rng.standard_normal((GRID, GRID))
    field = np.fft.ifft2(spectrum * ((radius >= low) & (radius <= high)))
    return np.asarray(field / field.real.std(), dtype=np.complex64)


def sample(grid: NDArray[np.complex64], phase: float, u: Plane, v: Plane) -> Plane:
    """Read a noise grid, turned by `phase` radians, at (u, v) by bilinear interpolation."""
    flat = np.asarray((grid * np.exp(-1j * phase)).real, dtype=np.float32).ravel()
    column, row = (u + 1) * np.float32(GRID / 2), (v + 1) * np.float32(GRID / 2)
    left, top = np.floor(column), np.floor(row)
    across, down = column - left, row - top
    j, i = left.astype(np.int32) % GRID, top.astype(np.int32) % GRID
    j2, i2 = (j + 1) % GRID, (i + 1) % GRID * GRID
    i = i * GRID
    upper = flat[i + j] * (1 - across) + flat[i + j2] * across
    lower = flat[i2 + j] * (1 - across) + flat[i2 + j2] * across
    return np.asarray(upper * (1 - down) + lower * down)


def ramp(value: Plane, low: float, high: float) -> Plane:
    """Rise linearly from 0 at `low` to 1 at `high`, flat outside. `low` > `high` falls instead."""
    return np.asarray(np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1))


def paint(signal: Plane, cover: Plane, value: float | Plane) -> None:
    """Blend `value` into `signal` in place where `cover` (0 to 1) says so."""
    signal += cover * (value - signal)


def polar(x: Plane, y: Plane, outline: tuple[tuple[float, float], ...], turn: float = 0.0) -> Plane:
    """Measure the distance from (0, 0), relative to an outline of mean radius 1.

    Args:
        x: Coordinate.
        y: Coordinate.
        outline: Amplitude and phase (radians) of the outline's second and later harmonics.
        turn: Added to every phase, radians.
    """
    angle = np.arctan2(y, x)
    edge = np.ones_like(angle)
    for harmonic, (amplitude, phase) in enumerate(outline, start=2):
        edge += np.float32(amplitude) * np.cos(harmonic * angle + np.float32(phase + turn))
    return np.asarray(np.hypot(x, y) / edge)


@dataclass(frozen=True)
class Head:
    """One patient's head: shape, tissue signals and noise grids, the same in all of the patient's slices."""

    axes: tuple[float, float]  # semi-axes across and front to back, half-image units
    rotation: float  # radians, about the image's centre
    shift: tuple[float, float]  # right and down, half-image units
    outline: tuple[tuple[float, float], ...]  # amplitude and phase (radians) of the second and later harmonics
    scalp: float  # thickness, u, v units
    skull: float  # thickness, u, v units
    ventricle: float  # size, 1 for an average head
    atrophy: float  # width of the sulci, 0 (young) to 1 (wide)
    enhancement: float  # brightness of vessels and choroid plexus, 0 (no contrast agent) to 1
    contrast: float  # scales the difference between white and grey matter
    folds: NDArray[np.complex64]  # noise grid whose zero lines are the sulci
    texture: NDArray[np.complex64]  # noise grid of soft, large-scale variation

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Head:
        """Draw a head."""
        across = rng.uniform(0.62, 0.76)
        return cls(
            axes=(across, across * rng.uniform(1.14, 1.28)),
            rotation=rng.normal(0, 0.08),
            shift=(rng.normal(0, 0.03), rng.normal(0, 0.03)),
            outline=tuple((rng.normal(0, 0.009), rng.uniform(0, 2 * np.pi)) for _ in range(3)),
            scalp=rng.uniform(0.05, 0.085),
            skull=rng.uniform(0.06, 0.085),
            ventricle=rng.uniform(0.6, 1.5),
            atrophy=rng.uniform(0, 1),
            enhancement=rng.uniform(0, 1),
            contrast=rng.uniform(0.4, 1.0),
            folds=noise_grid(rng, 8, 12),
            texture=noise_grid(rng, 1, 4),
        )

    @property
    def inner(self) -> float:
        """Radius of the skull's inner table, u, v units."""
        return 1 - self.scalp - self.skull


@dataclass(frozen=True)
class Frame:
    """The pixel grid of one head, seen from the head."""

    head: Head
    size: int

    @cached_property
    def xy(self) -> tuple[Plane, Plane]:
        """Coordinates x and y of every pixel's centre."""
        ticks = ((np.arange(self.size, dtype=np.float32) + 0.5) * (2 / self.size) - 1).astype(np.float32)
        right, down = ticks[None, :] - self.head.shift[0], ticks[:, None] - self.head.shift[1]
        cos, sin = np.float32(np.cos(self.head.rotation)), np.float32(np.sin(self.head.rotation))
        return (cos * right + sin * down).astype(np.float32), (cos * down - sin * right).astype(np.float32)

    @cached_property
    def rho(self) -> Plane:
        """Distance from the head's centre, 1 at the skin."""
        return polar(*self.uv(*self.xy), self.head.outline)

    def uv(self, x: Plane, y: Plane) -> tuple[Plane, Plane]:
        """Divide by the semi-axes."""
        return x / np.float32(self.head.axes[0]), y / np.float32(self.head.axes[1])

    def pushed(self, centre: tuple[float, float], radius: float) -> tuple[Plane, Plane]:
        """Coordinates x and y at which to look up a brain that a mass at `centre` pushes away."""
        x, y = self.xy
        dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
        pull = 0.4 * np.exp(-(dx * dx + dy * dy) / np.float32(4 * radius * radius))
        return x - pull * dx, y - pull * dy

    def inside(self, depth: Plane) -> Plane:
        """Turn a signed depth (u, v units) into cover 0 to 1 with an edge about one pixel and a half wide."""
        width = 3 / self.size / self.head.axes[0]
        return ramp(depth, -width / 2, width / 2)


def draw_head(frame: Frame, z: float, *, skull_base: bool, pushed: tuple[Plane, Plane]) -> tuple[Plane, Plane]:
    """Draw the head without a lesion.

    Args:
        frame: The pixel grid.
        z: Height, 0 to 1, within the stack that `skull_base` chooses.
        skull_base: Draw orbits, temporal lobes and cerebellum instead of the cerebrum.
        pushed: Where to look up the brain: `frame.xy`, or `frame.pushed` if a mass displaces it.

    Returns:
        The signal, about 0 (air) to 1 (fat, vessels), and the depth below the brain's surface in u, v units,
        negative outside the brain.
    """
    head, rho = frame.head, frame.rho
    u, v = frame.uv(*pushed)
    texture = sample(head.texture, 1.2 * z, u, v)
    signal = np.full_like(rho, AIR)
    paint(signal, frame.inside(1 - rho), FAT + np.float32(0.08) * texture)
    paint(signal, frame.inside(1 - 0.55 * head.scalp - rho), MUSCLE + np.float32(0.1) * texture)
    paint(signal, frame.inside(1 - head.scalp - rho), BONE)
    middle = 1 - head.scalp - head.skull / 2
    paint(signal, frame.inside(0.17 * head.skull * (1.2 + texture) - abs(rho - middle)), MARROW)
    paint(signal, frame.inside(head.inner - rho), FLUID)
    folds = sample(head.folds, 0.8 * z, u, v)
    draw = _skull_base if skull_base else _cerebrum
    return signal, draw(frame, signal, z, (u, v), (folds, texture))


def _brain(frame: Frame, signal: Plane, depth: Plane, folds: Plane, texture: Plane) -> None:
    """Paint brain where depth > 0: a grey ribbon that follows sulci, white matter below it."""
    head = frame.head
    grey = GREY + np.float32(0.015) * texture
    white = GREY + (WHITE - GREY) * head.contrast + np.float32(0.02) * texture
    # A sulcus is a zero line of the folds, drawn thinner the deeper it lies until it closes.
    opening = ramp(depth, 0.32, 0.0)
    line = abs(folds)
    ribbon = np.maximum(ramp(line - 0.95 * np.sqrt(opening), 0.1, -0.15), ramp(depth, 0.065, 0.04))
    cover = frame.inside(depth)
    paint(signal, cover, white + ribbon * (grey - white))
    width = (0.42 + 0.2 * head.atrophy) * opening - 0.14
    vessels = 0.55 * head.enhancement * ramp(texture, 0.8, 1.4)
    paint(signal, cover * ramp(line - width, 0.12, -0.12), FLUID + 0.09 + vessels)


def _ellipse(u: Plane, v: Plane, at: tuple[float, float], radii: tuple[float, float]) -> Plane:
    """Signed depth (about u, v units) inside an axis-aligned ellipse."""
    distance = np.hypot((u - np.float32(at[0])) / np.float32(radii[0]), (v - np.float32(at[1])) / np.float32(radii[1]))
    return np.asarray((1 - distance) * np.float32(min(radii)))


def _cerebrum(frame: Frame, signal: Plane, z: float, uv: tuple[Plane, Plane], noise: tuple[Plane, Plane]) -> Plane:
    """Paint the cerebrum from the thalami (z = 0) to above the ventricles (z = 1); return the brain's depth."""
    head, (u, v), (folds, texture) = frame.head, uv, noise
    depth = head.inner - 0.015 - 0.02 * head.atrophy - frame.rho
    u = u + np.float32(0.008) * texture  # no brain is quite symmetric
    side = abs(u)
    _brain(frame, signal, depth, folds, texture)
    inside = frame.inside
    low = max(0.0, 1 - 2.2 * z)  # basal ganglia, thalami and Sylvian fissures fade upwards
    grey = GREY + 0.03
    for at, radii in (((0.14, 0.10), (0.10, 0.15)), ((0.30, -0.06), (0.09, 0.20)), ((0.16, -0.24), (0.05, 0.09))):
        paint(signal, low * inside(_ellipse(side, v, at, radii)), grey)
    insula = abs(side - 0.56 + 0.35 * (v + 0.08) ** 2 - 0.02 * folds)
    sylvian = 0.022 - insula + 0.1 * np.minimum(0, 0.2 - abs(v + 0.08))
    paint(signal, low * inside(sylvian), FLUID)
    # Lateral ventricles: a band around a curve that swings outwards at both horns.
    profile = float(np.sqrt(max(0.0, 1 - ((z - 0.3) / 0.55) ** 2)))
    reach = 0.42 * profile
    along = np.clip(1 - ((v - 0.03) / max(reach, 1e-3)) ** 2, 0, 1)
    spread = (0.07 + 0.02 * head.ventricle) + (0.9 - 0.3 * z) * np.maximum(0, abs(v - 0.03) - 0.06) ** 2
    width = 0.066 * head.ventricle * profile * np.sqrt(along) * (1 + 0.25 * np.clip(8 * v, -1, 1))
    lumen = width - abs(side - spread)
    cover = inside(lumen) * (along > 0)
    paint(signal, cover, FLUID)
    plexus = _ellipse(side, v, (0.12 + 0.02 * head.ventricle, 0.22), (0.03, 0.07))
    paint(signal, cover * inside(plexus), FLUID + 0.65 * head.enhancement)
    third = _ellipse(u, v, (0, 0.1), (0.012 + 0.014 * head.ventricle, 0.15))
    paint(signal, low * inside(third), FLUID)
    # The fissure between the hemispheres ends at the corpus callosum, which the highest slices pass above.
    gap = 0.46 * profile
    beyond = ramp(abs(v), gap, gap + 0.05) * inside(depth + 0.02)
    fissure = 0.013 + 0.008 * head.atrophy + np.float32(0.006) * folds
    paint(signal, beyond * inside(fissure * beyond - side), FLUID + 0.04)
    paint(signal, 0.7 * beyond * inside(0.006 - side), 0.3 + 0.35 * head.enhancement)
    sinus = _ellipse(u, v, (0, head.inner - 0.03), (0.05, 0.05))
    paint(signal, inside(sinus), FLUID + (VESSEL - FLUID) * head.enhancement)
    return depth


def _skull_base(frame: Frame, signal: Plane, z: float, uv: tuple[Plane, Plane], noise: tuple[Plane, Plane]) -> Plane:
    """Paint a slice through the sella: orbits, temporal lobes, pons, cerebellum; return the brain's depth."""
    head, inside, (u, v), (folds, texture) = frame.head, frame.inside, uv, noise
    side = abs(u)
    cavity = inside(head.inner - 0.01 - frame.rho)
    paint(signal, cavity, MUSCLE + 0.07 * texture + 0.05 * folds)
    grown = 0.93 + 0.14 * z
    temporal = _ellipse(side, v + 0.12 * (side - 0.45), (0.47, -0.06), (0.31 * grown, 0.30 * grown))
    cerebellum = _ellipse(side, v, (0.10, 0.46), (0.52, 0.33))
    pons = _ellipse(u, v, (0, 0.13), (0.17, 0.16))
    frontal = _ellipse(side, v, (0.10, -0.62), (0.18, 0.24)) + 0.22 * z - 0.22
    lobes = np.maximum(np.maximum(temporal, cerebellum), frontal)
    paint(signal, cavity * inside(lobes + 0.055), BONE)
    cells = (folds > 0.9) & (side > 0.35) & (abs(v - 0.24) < 0.14)  # mastoid and petrous marrow
    paint(signal, cavity * inside(lobes + 0.045) * cells, FAT)
    paint(signal, inside(_ellipse(u, v, (0, 0.02), (0.22, 0.24))), FLUID)  # basal cisterns
    paint(signal, cavity * inside(np.maximum(lobes, pons) + 0.018), FLUID)
    brain = np.maximum(lobes, pons)
    _brain(frame, signal, np.maximum(temporal, frontal), folds, texture)
    folia = ramp(np.cos(62 * np.hypot(u, v - 0.05) + folds), -0.2, 0.9) * ramp(cerebellum + 0.03 * texture, 0.2, 0.06)
    paint(signal, inside(cerebellum), (GREY + 0.08 * head.contrast - 0.2 * folia))
    paint(signal, inside(pons), WHITE - 0.06 + np.float32(0.02) * texture)
    paint(signal, inside(_ellipse(u, v, (0, 0.30), (0.05 * head.ventricle**0.5, 0.03))), FLUID)  # fourth ventricle
    # In front of the cisterns: sphenoid sinus, the sella with its small gland, carotids, orbits, ethmoid cells.
    paint(signal, inside(_ellipse(u, v, (0, -0.30), (0.15, 0.12))), BONE + 0.1)
    paint(signal, inside(_ellipse(side, v, (0.05, -0.32), (0.05, 0.07))), AIR)
    paint(signal, inside(_ellipse(u, v, (0, -0.17), (0.055, 0.035))), GREY + 0.25 * head.enhancement)
    paint(signal, inside(_ellipse(side, v, (0.12, -0.15), (0.03, 0.03))), 0.1 + 0.75 * head.enhancement)
    shown = 1 - z * 0.45
    orbit = _ellipse(side, v - 0.25 * (side - 0.34), (0.34, -0.58), (0.18 * shown, 0.21 * shown))
    paint(signal, cavity * inside(orbit + 0.03), BONE)
    paint(signal, cavity * inside(orbit), FAT - 0.08)
    nerve = 0.018 - abs(side - 0.34 - 0.42 * (v + 0.62))
    paint(signal, cavity * inside(np.minimum(nerve, orbit)), MUSCLE)
    paint(signal, cavity * inside(_ellipse(side, v, (0.345, -0.645), (0.11 * shown, 0.10 * shown))), FLUID + 0.1)
    ethmoid = inside(_ellipse(u, v, (0, -0.60), (0.10, 0.18)) - 0.16 * z)
    paint(signal, cavity * ethmoid, AIR + 0.3 * ramp(np.cos(60 * v) + np.cos(45 * u), 0.6, 1.4))
    return np.where(frame.rho < head.inner, brain, np.float32(-1))
