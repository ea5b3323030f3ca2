import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurodense.data.phantom import CLASSES, Phantom, phantoms, write_phantoms
from neurodense.errors import DataError

PATIENTS, SLICES, SIZE = 8, 3, 96


@pytest.fixture(scope="module")
def drawn() -> list[Phantom]:
    return list(phantoms(PATIENTS, SLICES, SIZE, seed=0))


def read(folder: Path) -> list[list[str]]:
    return [line.split(",") for line in (folder / "groups.csv").read_text(encoding="utf-8").splitlines()]


def test_a_set_has_every_class_patient_and_slice_once_and_in_order(drawn):
    assert CLASSES == ("glioma", "meningioma", "notumor", "pituitary")
    assert [(p.label, p.patient, p.index) for p in drawn] == [
        (label, f"{label}-p{number:03d}", index)
        for label in CLASSES
        for number in range(PATIENTS)
        for index in range(SLICES)
    ]
    for phantom in drawn:
        assert phantom.pixels.dtype == np.uint8
        assert phantom.lesion.dtype == np.bool_
        assert phantom.pixels.shape == phantom.lesion.shape == (SIZE, SIZE)


def test_the_same_seed_gives_the_same_pixels_and_another_seed_others(drawn):
    again = list(phantoms(1, SLICES, SIZE, seed=0))
    other = list(phantoms(1, SLICES, SIZE, seed=1))
    for phantom, different in zip(again, other, strict=True):
        twin = next(p for p in drawn if (p.patient, p.index) == (phantom.patient, phantom.index))
        assert np.array_equal(phantom.pixels, twin.pixels)
        assert np.array_equal(phantom.lesion, twin.lesion)
        assert not np.array_equal(phantom.pixels, different.pixels)


def test_no_two_slices_are_the_same_and_those_of_a_patient_are_the_nearest(drawn):
    assert len({p.pixels.tobytes() for p in drawn}) == len(drawn)
    heads = np.array([p.pixels.ravel() for p in drawn], dtype=np.float64)
    heads -= heads.mean(axis=1, keepdims=True)
    heads /= np.linalg.norm(heads, axis=1, keepdims=True)
    likeness = heads @ heads.T - 2 * np.eye(len(heads))
    nearest = likeness.argmax(axis=1)
    assert np.mean([drawn[i].patient == drawn[j].patient for i, j in enumerate(nearest)]) > 0.95


@pytest.mark.parametrize("size", [32, 96])
def test_a_slice_has_a_lesion_unless_it_is_notumor(size):
    for phantom in phantoms(PATIENTS, SLICES, size, seed=3):
        assert phantom.lesion.any() == (phantom.label != "notumor"), phantom.patient
        assert phantom.lesion.mean() < 0.12, phantom.patient


def test_the_lesion_looks_as_its_class_says(drawn):
    rows, columns = np.mgrid[:SIZE, :SIZE]
    ring, core, mass, spread, around = ({label: [] for label in CLASSES} for _ in range(5))
    for phantom in drawn:
        if phantom.label == "notumor" or phantom.index != 1:
            continue
        pixels = phantom.pixels.astype(float)
        distance = np.hypot(rows - rows[phantom.lesion].mean(), columns - columns[phantom.lesion].mean())
        distance /= distance[phantom.lesion].max()
        core[phantom.label].append(pixels[distance < 0.25].mean())
        ring[phantom.label].append(np.percentile(pixels[phantom.lesion], 90))
        mass[phantom.label].append(np.median(pixels[phantom.lesion]))
        spread[phantom.label].append(np.subtract(*np.percentile(pixels[phantom.lesion], [75, 25])))
        head = (pixels > np.median(pixels[rows < 4]) + 30) & ~phantom.lesion
        around[phantom.label].append(np.median(pixels[head]))
    ring, core, mass, spread, around = (
        {label: np.array(values) for label, values in measure.items()} for measure in (ring, core, mass, spread, around)
    )
    assert np.all(core["glioma"] < 0.75 * ring["glioma"])  # a dark core in a bright ring
    assert np.mean(ring["glioma"] > around["glioma"]) > 0.9
    for label in ("meningioma", "pituitary"):
        assert np.mean(mass[label] > around[label]) > 0.85
    assert np.median(spread["meningioma"] / mass["meningioma"]) < 0.2  # homogeneous
    assert np.median(spread["meningioma"] / mass["meningioma"]) < 0.5 * np.median(spread["glioma"] / mass["glioma"])


def test_a_pituitary_tumour_is_midline_and_a_meningioma_is_not_in_the_middle(drawn):
    def from_middle(label: str) -> list[float]:
        """Distance of each mass from the centre of its head, over the head's size."""
        found = []
        for phantom in drawn:
            if phantom.label == label:
                head = np.argwhere(phantom.pixels > 60)
                low, high = head.min(axis=0), head.max(axis=0)
                centre = np.argwhere(phantom.lesion).mean(axis=0)
                found.append(float(np.linalg.norm((centre - (low + high) / 2) / (high - low))))
        return found

    assert np.median(from_middle("pituitary")) < 0.15
    assert np.median(from_middle("meningioma")) > 0.25


def test_a_lesion_grows_and_shrinks_smoothly_over_the_slices():
    slices = list(phantoms(2, 7, 64, seed=5))
    for patient, group in groupby(slices, key=lambda p: p.patient):
        radii = np.sqrt([p.lesion.sum() for p in group])
        if "notumor" not in patient:
            assert 1 <= int(radii.argmax()) <= 5, patient
            assert np.abs(np.diff(radii)).max() < 0.5 * radii.max(), patient


def test_half_of_notumor_is_seen_at_the_skull_base(drawn):
    # There, the air cells in front of the sella make the midline far darker than the cerebrum is.
    middle = {p.patient: p.pixels[SIZE // 6 : SIZE // 2, SIZE // 2 - 3 : SIZE // 2 + 3] for p in drawn if p.index == 0}
    dark = {patient: np.percentile(strip, 10) / np.percentile(strip, 75) for patient, strip in middle.items()}
    values = np.array([dark[f"notumor-p{number:03d}"] for number in range(PATIENTS)])
    assert values[1::2].mean() < 0.6 * values[0::2].mean()


def statistics(pixels: np.ndarray) -> list[float]:
    x = pixels.astype(float)
    border = np.concatenate([x[:4].ravel(), x[-4:].ravel(), x[:, :4].ravel(), x[:, -4:].ravel()])
    return [x.mean(), x.std(), border.mean(), border.std()]


@pytest.mark.parametrize("columns", [[0], [1], [2, 3], [0, 1, 2, 3]], ids=["mean", "std", "border", "all"])
def test_brightness_and_border_do_not_tell_the_class(columns):
    count = 20
    train, test = (
        np.array([statistics(p.pixels) for p in phantoms(count, 1, 64, seed)])[:, columns] for seed in (0, 1)
    )
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    train, test = (train - mean) / deviation, (test - mean) / deviation
    truth = np.repeat(np.arange(4), count)
    centroids = np.stack([train[truth == k].mean(axis=0) for k in range(4)])
    guess = ((test[:, None] - centroids) ** 2).sum(axis=-1).argmin(axis=1)
    assert np.mean(guess == truth) < 0.45  # chance is 0.25, its standard error 0.05


def test_written_files_and_table_agree(tmp_path):
    table = write_phantoms(tmp_path / "set", 2, 2, 48, seed=4)
    folder = table.parent
    header, *rows = read(folder)
    assert table == tmp_path / "set" / "groups.csv"
    assert header == ["path", "label", "group"]
    assert rows[0] == ["glioma/glioma-p000_s0.png", "glioma", "glioma-p000"]
    assert {path for path, _, _ in rows} == {p.relative_to(folder).as_posix() for p in folder.rglob("*.png")}
    for (path, label, group), phantom in zip(rows, phantoms(2, 2, 48, seed=4), strict=True):
        assert (label, group) == (phantom.label, phantom.patient)
        with Image.open(folder / path) as image:
            assert image.mode == "L"
            assert image.info["Description"] == "synthetic brain MRI phantom, not a patient"
            assert np.array_equal(np.asarray(image), phantom.pixels)
    assert json.loads((folder / "dataset.json").read_text(encoding="utf-8")) == {
        "title": "neurodense phantoms",
        "synthetic": True,
        "seed": 4,
        "patients_per_class": 2,
        "slices_per_patient": 2,
        "size": 48,
    }
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "neurodense demo --data-only DIR" in readme
    assert "none shows a patient" in readme


def test_the_same_set_is_left_alone_and_an_interrupted_one_completed(tmp_path):
    write_phantoms(tmp_path, 1, 1, 32)
    kept, lost = tmp_path / "glioma/glioma-p000_s0.png", tmp_path / "notumor/notumor-p000_s0.png"
    before = kept.stat().st_mtime_ns
    write_phantoms(tmp_path, 1, 1, 32)
    assert kept.stat().st_mtime_ns == before
    lost.unlink()
    write_phantoms(tmp_path, 1, 1, 32)
    assert lost.is_file()


def test_a_folder_with_anything_else_is_refused_and_not_touched(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "scan.png").write_bytes(b"precious")
    with pytest.raises(DataError, match="not empty") as refusal:
        write_phantoms(mine, 1, 1, 32)
    assert refusal.value.hint
    assert [p.name for p in mine.iterdir()] == ["scan.png"]
    (mine / "dataset.json").write_text("[", encoding="utf-8")
    with pytest.raises(DataError, match="not empty"):
        write_phantoms(mine, 1, 1, 32)
    with pytest.raises(DataError, match="is a file"):
        write_phantoms(mine / "scan.png", 1, 1, 32)
    write_phantoms(tmp_path / "set", 1, 1, 32)
    with pytest.raises(DataError, match="another data set"):
        write_phantoms(tmp_path / "set", 1, 1, 32, seed=1)


def test_an_empty_folder_is_filled(tmp_path):
    assert write_phantoms(tmp_path, 1, 1, 32).is_file()


@pytest.mark.parametrize(
    ("name", "value"),
    [("patients_per_class", 0), ("slices_per_patient", 0), ("size", 31), ("size", 5000), ("seed", -1)],
)
def test_impossible_arguments_are_named_at_once(tmp_path, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be from .* Got {value}\.$"):
        phantoms(**{name: value})  # before the first slice is asked for
    with pytest.raises(ValueError, match=name):
        write_phantoms(tmp_path / "set", **{name: value})
    assert not (tmp_path / "set").exists()
