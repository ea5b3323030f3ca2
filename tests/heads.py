"""Heads for the tests of the audit: each seed gives another one, and a style says how it was "acquired"."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("glioma", "meningioma", "notumor")


def head(seed: int, size: int = 96, *, noise: float = 0.01, background: float = 0.0, gain: float = 0.8) -> np.ndarray:
    """A bright ring around a smooth random inside, uint8 (size, size)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    a, b, tilt = rng.uniform(0.55, 0.85), rng.uniform(0.6, 0.9), rng.uniform(-0.3, 0.3)
    radius = np.hypot((x + tilt * y) / a, y / b)
    inside = sum(
        rng.uniform(-1, 1) * np.cos(rng.uniform(2, 14) * (np.cos(t) * x + np.sin(t) * y) + rng.uniform(0, 6))
        for t in rng.uniform(0, np.pi, 24)
    )
    picture = np.where(radius < 0.9, 0.45 + 0.12 * inside, np.where(radius < 1, 1.0, 0.0)) * gain
    picture = np.maximum(picture, background) + rng.normal(0, noise, picture.shape)
    return (np.clip(picture, 0, 1) * 255).astype(np.uint8)


def save(pixels: np.ndarray, path: Path, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def folder(root: Path, each: int = 16, *, start: int = 0, styled: bool = False) -> Path:
    """DATA with `each` heads a class. Where `styled`, notumor was made by another scanner and program."""
    for k, label in enumerate(CLASSES):
        for i in range(each):
            other = styled and label == "notumor"
            style = {"noise": 0.06, "background": 0.15} if other else {}
            save(
                head(start + 1000 * k + i, **style),
                root / label / f"{label[:2]}_{i:03d}.jpg",
                quality=70 if other else 92,
            )
    return root
