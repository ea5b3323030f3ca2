"""Pictures that are no brain MRI: what a user may drop in by mistake, from packages and from drawing.

Nothing is downloaded. scikit-image, scikit-learn, matplotlib, pydicom and nibabel bring files of their own; the rest is
drawn from a seed. Kinds are listed in pairs, of which the first is there to choose a score by and the second to report
what it does on kinds that no choice has seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmarks import radiographs

Drawn = Image.Image
Rng = np.random.Generator

SIDE = 256


def write_probes(folder: Path, seed: int = 0) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Write all pictures below `folder`, one sub-folder a kind.

    Returns:
        Kind -> files, of the kinds to choose by and of those to report.
    """
    halves: tuple[dict[str, list[Path]], dict[str, list[Path]]] = ({}, {})
    for number, (kind, draw) in enumerate(KINDS.items()):
        files = []
        for k, picture in enumerate(draw(np.random.default_rng((seed, number)))):
            if isinstance(picture, Path):
                files.append(picture)
            else:
                path = folder / kind / f"{k:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)
                files.append(path)
        halves[number % 2][kind] = files
    return halves


def _crops(pictures: list[Path], rng: Rng, count: int) -> Iterator[Drawn]:
    """Each picture whole, and `count` squares cut from it."""
    for path in pictures:
        picture = Image.open(path).convert("RGB")
        yield picture
        for _ in range(count):
            side = int(min(picture.size) * rng.uniform(0.3, 0.9))
            x, y = (int(rng.integers(0, length - side + 1)) for length in picture.size)
            yield picture.crop((x, y, x + side, y + side))


def _skimage(*names: str) -> list[Path]:
    try:
        import skimage
    except ModuleNotFoundError:
        raise SystemExit("The pictures of scikit-image are needed: pip install scikit-image") from None
    return [Path(skimage.__file__).parent / "data" / name for name in names]


def photographs(rng: Rng) -> Iterator[Drawn]:
    import matplotlib
    import sklearn.datasets

    here = Path(sklearn.datasets.__file__).parent / "images"
    there = Path(matplotlib.get_data_path()) / "sample_data"
    files = _skimage("astronaut.png", "coffee.png", "chelsea.png", "camera.png", "rocket.jpg", "motorcycle_left.png")
    yield from _crops([*files, here / "china.jpg", here / "flower.jpg", there / "grace_hopper.jpg"], rng, 4)


def faces(rng: Rng) -> Iterator[Drawn]:
    """The Labeled Faces in the Wild of scikit-image, 25 x 25 grey."""
    pixels = np.load(_skimage("lfw_subset.npy")[0], allow_pickle=False)[:100]
    for face in pixels[rng.permutation(100)[:40]]:
        yield Image.fromarray((face * 255).astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def textures(rng: Rng) -> Iterator[Drawn]:
    yield from _crops(_skimage("brick.png", "grass.png", "gravel.png"), rng, 9)


def microscopy(rng: Rng) -> Iterator[Drawn]:
    """Cells, stained tissue, and the back of an eye."""
    yield from _crops(_skimage("cell.png", "ihc.png", "microaneurysms.png", "retina.jpg"), rng, 7)


def text_pages(rng: Rng) -> Iterator[Drawn]:
    words = ("patient", "report", "of the", "slice", "shows no", "tumour", "left", "lobe", "series", "date", "ward")
    for k in range(30):
        page, size = Image.new("L", (SIDE, 330), 255 if k % 3 else 20), float(rng.uniform(9, 22))
        draw = ImageDraw.Draw(page)
        font = ImageFont.load_default(size=size)
        y = 12.0
        while y < 310:
            line = " ".join(rng.choice(words, size=int(rng.integers(2, 9))))
            draw.text((14, y), line, fill=15 if k % 3 else 235, font=font)
            y += rng.uniform(1.1, 1.6) * size
        yield page


def charts(rng: Rng) -> Iterator[Drawn]:
    """Plots, logos and photographed print."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for k in range(16):
        figure = Figure(figsize=(4, 3), dpi=80)
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        for _ in range(int(rng.integers(1, 4))):
            (axes.plot, axes.scatter, axes.fill_between, axes.bar)[k % 4](np.arange(40), rng.normal(size=40).cumsum())
        file = BytesIO()
        figure.savefig(file, format="png")
        yield Image.open(file).convert("RGB")
    yield from _crops(_skimage("logo.png", "color.png", "page.png", "text.png"), rng, 3)


def noise(rng: Rng) -> Iterator[Drawn]:
    for _ in range(10):
        yield Image.fromarray(rng.integers(0, 256, (SIDE, SIDE)).astype(np.uint8))
        yield _grey(rng.normal(rng.uniform(0.2, 0.8), rng.uniform(0.02, 0.3), (SIDE, SIDE)))
        yield _grey((rng.random((SIDE, SIDE)) < rng.uniform(0.02, 0.3)).astype(float))


def clouds(rng: Rng) -> Iterator[Drawn]:
    """Noise that was blurred: no edges, any brightness."""
    for _ in range(30):
        coarse = rng.random((int(rng.integers(3, 40)),) * 2).astype(np.float32)
        yield _grey(np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)))


def blank(rng: Rng) -> Iterator[Drawn]:
    """One grey, and even gradients."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    for level in (0, 3, 30, 90, 128, 200, 255):
        yield Image.new("L", (SIDE, SIDE), level)
    for _ in range(15):
        angle = rng.uniform(0, 2 * np.pi)
        yield _grey(0.5 + 0.7 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)))
    for _ in range(8):
        yield _grey(1 - np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.2, 0.8)) * rng.uniform(0.8, 2))


def boards(rng: Rng) -> Iterator[Drawn]:
    """Chessboards and stripes."""
    y, x = np.mgrid[:SIDE, :SIDE]
    for _ in range(12):
        step, angle = rng.uniform(4, 50), rng.uniform(0, np.pi)
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        yield _grey(((u // step + v // step) % 2) * rng.uniform(0.5, 1))
        yield _grey((u // step % 2) * rng.uniform(0.5, 1))
    yield from _crops(_skimage("chessboard_GRAY.png"), rng, 5)


def night_sky(rng: Rng) -> Iterator[Drawn]:
    yield from _crops(_skimage("hubble_deep_field.jpg", "moon.png"), rng, 12)


def outlines(rng: Rng) -> Iterator[Drawn]:
    """A bright ellipse, filled or not, on black: the outline of a head and nothing in it."""
    for k in range(30):
        picture = Image.new("L", (SIDE, SIDE), 0)
        a, b = rng.uniform(50, 115, 2)
        box = (SIDE / 2 - a, SIDE / 2 - b, SIDE / 2 + a, SIDE / 2 + b)
        level = int(rng.integers(60, 255))
        draw = ImageDraw.Draw(picture)
        if k % 2:
            draw.ellipse(box, fill=level)
        else:
            draw.ellipse(box, outline=level, width=int(rng.integers(2, 12)))
        yield picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 3))))


def digits(rng: Rng) -> Iterator[Drawn]:
    """The handwritten digits of scikit-learn, 8 x 8."""
    from sklearn.datasets import load_digits

    images = load_digits().images
    for image in images[rng.permutation(len(images))[:30]]:
        yield _grey(image / 16).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def other_modalities(rng: Rng) -> Iterator[Path]:
    """Ultrasound, nuclear medicine, CT, dose, colour and MR of other parts, as pydicom brings them."""
    from pydicom.data import get_testdata_file

    for name in (
        "CT_small.dcm", "693_J2KI.dcm", "ExplVR_BigEnd.dcm", "JPEG2000.dcm", "MR_small.dcm",
        "SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_jpeg.dcm", "GDCMJ2K_TextGBR.dcm",
        "examples_jpeg2k.dcm", "examples_overlay.dcm", "examples_palette.dcm", "examples_rgb_color.dcm",
        "image_dfl.dcm", "JPEGLSNearLossless_16.dcm",
    ):  # fmt: skip
        path = get_testdata_file(name, download=False)
        assert isinstance(path, str), f"pydicom ships no {name}"
        yield Path(path)


def head_phantoms(rng: Rng) -> Iterator[Drawn]:
    """The phantom of Shepp and Logan (1974), as it is and with its ellipses moved."""
    phantom = Image.open(_skimage("phantom.png")[0]).convert("L")
    yield phantom
    for _ in range(19):
        yield radiographs.shepp_logan(rng, SIDE)


def round_things(rng: Rng) -> Iterator[Drawn]:
    """Coins, and shaded balls on black."""
    yield from _crops(_skimage("coins.png"), rng, 9)
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    for _ in range(20):
        radius, light = rng.uniform(0.25, 0.45), rng.normal(size=3) + np.array([0, 0, 1.5])
        depth = np.sqrt((radius**2 - x**2 - y**2).clip(0)) / radius
        shade = (np.stack([x / radius, y / radius, depth], -1) @ (light / np.linalg.norm(light))).clip(0.05)
        yield _grey(shade * (depth > 0) * rng.uniform(0.5, 1) + rng.normal(0, 0.02, x.shape) * (depth > 0))


def _grey(values: NDArray[np.floating]) -> Drawn:
    return Image.fromarray((255 * values.clip(0, 1)).round().astype(np.uint8))


KINDS: dict[str, Callable[[Rng], Iterator[Drawn | Path]]] = {
    "photographs": photographs,
    "faces": faces,
    "textures": textures,
    "microscopy": microscopy,
    "text pages": text_pages,
    "charts and print": charts,
    "noise": noise,
    "clouds": clouds,
    "blank and gradients": blank,
    "boards and stripes": boards,
    "chest X-rays, drawn": radiographs.chests,
    "hand X-rays, drawn": radiographs.hands,
    "skull X-rays, drawn": radiographs.skulls,
    "body sections, drawn": radiographs.bodies,
    "night sky and moon": night_sky,
    "empty outlines": outlines,
    "digits": digits,
    "other modalities": other_modalities,
    "Shepp-Logan phantoms": head_phantoms,
    "coins and balls": round_things,
}
"""In pairs: one to choose by, one to report."""
