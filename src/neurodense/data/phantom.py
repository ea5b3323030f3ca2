"""A small synthetic brain-MRI set with four classes, for an offline demo and for tests.

Nothing learnt here says anything about patients: the point is a set that has the shape of a real one (class
folders, several similar slices a patient, easy and hard lesions) and that a seed makes again. The head is drawn
by `anatomy`; this module adds the lesion and the scanner.

Two habits keep a classifier from passing by a shortcut. The head and the scanner (framing, gain, gamma, coil
shading, noise, blur) are drawn before the lesion and without a look at the class. And every class has slices
at the skull base, so that seeing orbits does not mean seeing a pituitary tumour.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from neurodense.atomic import replacing, write_json, write_text
from neurodense.data.anatomy import FLUID, GREY, Frame, Head, Plane, draw_head, paint, polar, ramp, sample
from neurodense.errors import DataError

CLASSES: tuple[str, ...] = ("glioma", "meningioma", "notumor", "pituitary")

SKULL_BASE_EVERY = {"glioma": 4, "meningioma": 3, "notumor": 2, "pituitary": 1}
"""Every how many patients of a class one is imaged at the skull base. A fixed turn, so that small sets have some."""

README = """\
# Synthetic brain-MRI phantoms

Every image in this folder is drawn by a program; none shows a patient. Layered ellipses make the head, smooth noise
the gyri; a ring-enhancing mass (glioma), a bright one on the dura (meningioma), one in the sella (pituitary) or none
(notumor) is added, then blur, coil shading and Rician noise. `groups.csv` names each slice's patient, `dataset.json`
the parameters. A score reached here shows that the program works. Made with `neurodense demo --data-only DIR`.
"""


@dataclass(frozen=True)
class Phantom:
    """One slice."""

    label: str
    """One of CLASSES."""
    patient: str
    """Identifier of the patient, such as `glioma-p003`."""
    index: int
    """Position among the patient's slices, from 0."""
    pixels: NDArray[np.uint8]
    """uint8 of shape (size, size), rows first, the front of the head at the top."""
    lesion: NDArray[np.bool_]
    """bool of shape (size, size): the mass without the oedema around it; all False for notumor."""


@dataclass(frozen=True)
class Scanner:
    """How one patient's slices were acquired; knows nothing of the class."""

    gain: float
    gamma: float
    shading: tuple[float, ...]  # weights of x, y, xy, x² and y² in the logarithm of the coil's sensitivity
    noise: float  # standard deviation of each of the two channels, in units of the signal
    blur: float  # standard deviation of the point spread, half-image units

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Scanner:
        """Draw a scanner."""
        return cls(
            gain=rng.uniform(0.75, 1.1),
            gamma=float(np.exp(rng.normal(0, 0.13))),
            shading=tuple(rng.normal(0, 0.13, 5)),
            noise=rng.uniform(0.012, 0.045),
            blur=rng.uniform(0.004, 0.009),
        )

    def acquire(self, signal: Plane, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Turn a signal (0 to about 1) into 8-bit pixels: blur, shading, Rician noise, gamma, gain."""
        size = len(signal)
        x = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(2 / size) - 1
        y = x[:, None]
        field = sum(np.float32(w) * t for w, t in zip(self.shading, (x, y, x * y, x * x, y * y), strict=True))
        # The blur wraps around, which no one sees: there is air at every edge.
        across, down = np.fft.rfftfreq(size, 2 / size), np.fft.fftfreq(size, 2 / size)[:, None]
        response = np.exp(-2 * (np.pi * self.blur) ** 2 * (across**2 + down**2)).astype(np.float32)
        blurred = np.fft.irfft2(np.fft.rfft2(signal) * response, s=signal.shape)
        real, imaginary = rng.standard_normal((2, size, size), dtype=np.float32) * np.float32(self.noise)
        magnitude = np.hypot(blurred * np.exp(field) + real, imaginary)
        return np.asarray(np.clip(255 * self.gain * magnitude**self.gamma + 0.5, 0, 255), dtype=np.uint8)


@dataclass(frozen=True)
class Lesion:
    """One patient's tumour. Lengths in half-image units of the head's frame, signals as in `anatomy`."""

    label: str
    anchor: tuple[float, float]
    lean: tuple[float, float]  # from the anchor to the centre, in radii: keeps a meningioma of any size on its dura
    radius: float
    lobes: tuple[tuple[float, float], ...]  # amplitude and phase (radians) of the outline's second and later harmonics
    signal: float
    core: float  # signal of the necrotic core (glioma) or cyst (pituitary)
    wall: float  # share of the radius that enhances; 1 is a solid mass
    halo: float  # radius of the oedema over that of the mass; 1 is none
    falx: int  # -1 or 1 for a mass that leans on the falx from the left or the right, else 0
    offset: float  # of the ball's centre from the middle of the stack of slices, in radii

    @classmethod
    def draw(cls, label: str, head: Head, *, skull_base: bool, rng: np.random.Generator) -> Lesion:
        """Draw a tumour of class `label` that fits into `head`."""
        across, along = head.axes
        side, falx = int(rng.choice((-1, 1))), 0
        lean, lobes, wall, halo = (0.0, 0.0), 0.07, 1.0, 1.0
        if label == "glioma":
            radius, lobes, wall = rng.uniform(0.12, 0.16 if skull_base else 0.27), 0.12, rng.uniform(0.18, 0.5)
            signal, halo = rng.uniform(0.72, 1.05), rng.uniform(1.25, 1.9)
            if skull_base:
                u, v = rng.normal((0.45, -0.05) if rng.random() < 0.6 else (0.26, 0.46), 0.03)
            else:
                u, v = rng.uniform(0.2, 0.6), rng.uniform(-0.55, 0.55)
            fit = (head.inner - 0.07 - radius / across) / np.hypot(u, v)
            anchor = side * u * min(1, fit) * across, v * min(1, fit) * along
        elif label == "meningioma":
            radius, signal = rng.uniform(0.11, 0.24), rng.uniform(0.75, 1.0)
            halo = rng.uniform(1.15, 1.5) if rng.random() < 0.4 else 1.0
            if not skull_base and rng.random() < 0.25:
                falx, lean = side, (0.5 * side, 0.0)
                anchor = 0.0, rng.choice((-1, 1)) * rng.uniform(0.52, 0.66) * along
            else:
                low, high = (-1, 1) if not skull_base else (-0.25, 0.2) if rng.random() < 0.5 else (0.7, 1.2)
                angle, sunk = rng.uniform(low, high), rng.uniform(0.3, 0.75)
                u, v = side * np.cos(angle), np.sin(angle)
                anchor, lean = (head.inner * u * across, head.inner * v * along), (-sunk * u, -sunk * v)
        else:
            radius, signal = rng.uniform(0.08, 0.15), rng.uniform(0.7, 0.95)
            anchor, lobes = (rng.normal(0, 0.012), -0.15 * along + rng.normal(0, 0.012)), 0.1
            wall = rng.uniform(0.45, 0.8) if rng.random() < 0.25 else 1.0
        return cls(
            label=label,
            anchor=(float(anchor[0]), float(anchor[1])),
            lean=(float(lean[0]), float(lean[1])),
            radius=radius,
            lobes=tuple((rng.normal(0, lobes / k), rng.uniform(0, 2 * np.pi)) for k in (1, 1.5, 2, 3)),
            signal=signal,
            core=FLUID + rng.uniform(0.02, 0.14),
            wall=wall,
            halo=halo,
            falx=falx,
            offset=rng.uniform(-0.2, 0.2),
        )

    def cut(self, t: float) -> tuple[tuple[float, float], float]:
        """Centre and radius of the cut through a ball; `t` from -1 to 1 is the place in the stack of slices."""
        radius = self.radius * float(np.sqrt(1 - (0.65 * t - self.offset) ** 2))
        return (self.anchor[0] + radius * self.lean[0], self.anchor[1] + radius * self.lean[1]), radius

    def add(self, frame: Frame, signal: Plane, depth: Plane, t: float) -> NDArray[np.bool_]:
        """Paint the mass into `signal` in place and return its mask."""
        (cx, cy), radius = self.cut(t)
        radius = max(radius, 3 / frame.size)  # a pixel and a half, lest a small image lose its lesion
        head, (x, y) = frame.head, frame.xy
        shape = polar(x - np.float32(cx), y - np.float32(cy), self.lobes, 0.4 * t)
        distance = shape / np.float32(radius)  # 1 at the edge of the mass
        u, v = frame.uv(x, y)
        rough, smooth = sample(head.folds, 2 + t, u, v), sample(head.texture, 2 + t, u, v)
        room = depth  # a glioma stays in the brain, a meningioma in the skull and on its side of the falx
        if self.label == "meningioma":
            room = np.minimum(head.inner - frame.rho, self.falx * u if self.falx else 1)
        elif self.label == "pituitary":
            room = np.ones_like(depth)
        if self.halo > 1:
            reach = distance + 0.12 * smooth + 0.05 * rough
            paint(signal, 0.75 * ramp(reach, self.halo, self.halo - 0.3) * frame.inside(depth - 0.02), GREY - 0.1)
        if self.label == "glioma":
            distance = distance + np.float32(0.07) * rough
        inside = frame.inside((1 - distance) * np.float32(radius)) * frame.inside(room)
        if self.label == "meningioma":
            # A cleft of fluid parts it from the brain, and the dura beside it enhances (the dural tail).
            paint(signal, 0.6 * frame.inside((1.12 - distance) * radius) * frame.inside(room), FLUID)
            paint(signal, frame.inside(0.02 - room) * frame.inside(room) * ramp(distance, 1.9, 1.3), self.signal)
        paint(signal, inside, self.signal + np.float32(0.03) * rough)
        if self.wall < 1:
            hollow = 1 - self.wall * (1 + 0.25 * smooth) - distance
            paint(signal, inside * frame.inside(hollow * np.float32(radius)), self.core + np.float32(0.03) * rough)
        return np.asarray(inside > 0.5)


def _check(patients_per_class: int, slices_per_patient: int, size: int, seed: int) -> None:
    for name, value, low, high in (
        ("patients_per_class", patients_per_class, 1, 1000),
        ("slices_per_patient", slices_per_patient, 1, 1000),
        ("size", size, 32, 2048),
        ("seed", seed, 0, 2**63 - 1),
    ):
        if not low <= value <= high:
            raise ValueError(f"{name} must be from {low} to {high}. Got {value!r}.")


def phantoms(
    patients_per_class: int = 12, slices_per_patient: int = 6, size: int = 224, seed: int = 0
) -> Iterator[Phantom]:
    """Draw the set, class by class, patient by patient, slice by slice.

    A patient depends on the seed, the class and the patient's number alone: a larger set begins with the same ones.

    Args:
        patients_per_class: How many patients each class has, 1 to 1000.
        slices_per_patient: How many slices each patient has, 1 to 1000.
        size: Side of the square images in pixels, 32 to 2048.
        seed: Seed of all randomness, 0 or more.

    Raises:
        ValueError: An argument is outside its range.
    """
    _check(patients_per_class, slices_per_patient, size, seed)
    return chain.from_iterable(
        _patient(label, number, slices_per_patient, size, seed)
        for label in CLASSES
        for number in range(patients_per_class)
    )


def _patient(label: str, number: int, slices: int, size: int, seed: int) -> Iterator[Phantom]:
    rng = np.random.default_rng([seed, CLASSES.index(label), number])
    head, scanner = Head.draw(rng), Scanner.draw(rng)
    low, span = rng.uniform(0, 0.6), rng.uniform(0.2, 0.4)
    skull_base = (number + 1) % SKULL_BASE_EVERY[label] == 0
    lesion = None if label == "notumor" else Lesion.draw(label, head, skull_base=skull_base, rng=rng)
    frame = Frame(head, size)
    for index in range(slices):
        t = 0.0 if slices == 1 else 2 * index / (slices - 1) - 1
        z = low + span * (t + 1) / 2
        pushed = frame.xy if lesion is None else frame.pushed(*lesion.cut(t))
        signal, depth = draw_head(frame, z, skull_base=skull_base, pushed=pushed)
        mask = np.zeros((size, size), np.bool_) if lesion is None else lesion.add(frame, signal, depth, t)
        yield Phantom(label, f"{label}-p{number:03d}", index, scanner.acquire(signal, rng), mask)


def write_phantoms(
    folder: str | Path, patients_per_class: int = 12, slices_per_patient: int = 6, size: int = 224, seed: int = 0
) -> Path:
    """Write the set as `<class>/<patient>_s<index>.png` with `groups.csv`, `dataset.json` and a README.

    A folder that already holds this very set is left as it is; one that lacks some of its files (an interrupted
    run) is written again. The other arguments are those of `phantoms`.

    Returns:
        The path of `groups.csv`, whose columns are `path` (relative to the folder, forward slashes), `label`
        and `group` (the patient).

    Raises:
        ValueError: An argument is outside its range.
        DataError: The folder holds something else.
    """
    _check(patients_per_class, slices_per_patient, size, seed)
    folder = Path(folder)
    about: dict[str, object] = {"title": "neurodense phantoms", "synthetic": True, "seed": seed, "size": size}
    about |= {"patients_per_class": patients_per_class, "slices_per_patient": slices_per_patient}
    rows = [
        (f"{label}/{label}-p{number:03d}_s{index}.png", label, f"{label}-p{number:03d}")
        for label in CLASSES
        for number in range(patients_per_class)
        for index in range(slices_per_patient)
    ]
    table = folder / "groups.csv"
    names = ["groups.csv", "README.md", *(path for path, _, _ in rows)]
    if _holds(folder, about) and all((folder / name).is_file() for name in names):
        return table
    # The parameters go first: they are what tells an interrupted run from somebody else's folder.
    write_json(folder / "dataset.json", about)
    write_text(folder / "README.md", README)
    note = PngInfo()
    note.add_text("Description", "synthetic brain MRI phantom, not a patient")
    for (path, _, _), phantom in zip(rows, phantoms(patients_per_class, slices_per_patient, size, seed), strict=True):
        with replacing(folder / path) as temporary:
            Image.fromarray(phantom.pixels).save(temporary, pnginfo=note)
    write_text(table, "".join(f"{','.join(row)}\n" for row in [("path", "label", "group"), *rows]))
    return table


def _holds(folder: Path, about: dict[str, object]) -> bool:
    """Tell a folder of these phantoms (True) from an empty or missing one (False); refuse any other."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    hint = "Name a new or empty folder, or remove this one first."
    if not folder.is_dir():
        raise DataError(f"{folder} is a file. Phantoms are written into a folder.", hint)
    try:
        found = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(
            f"{folder} is not empty, and no dataset.json in it says that it holds phantoms.", hint
        ) from None
    if found != about:
        raise DataError(f"{folder} holds another data set: {found}. Asked for: {about}.", hint)
    return True
