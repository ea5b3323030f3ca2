import os
from pathlib import Path

import numpy as np
import pytest
from heads import CLASSES, folder, head, save
from PIL import Image, ImageDraw

pytest.importorskip("scipy")
pytest.importorskip("filelock")

from neurodense.data import glance, marks
from neurodense.data.facts import FACTS, facts_of
from neurodense.data.fingerprint import thumb_of
from neurodense.data.glance import glance_folder, join_thumbs
from neurodense.errors import MissingExtra, ScanError
from neurodense.scans.read import read_scan
from neurodense.scans.study import read_image


def facts(path: Path) -> np.void:
    return facts_of(path, read_scan(path))


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    jpeg = facts(save(head(1), tmp_path / "a.jpg", quality=75))
    assert (jpeg["format"], jpeg["mode"], jpeg["width"], jpeg["height"]) == (b"JPEG", b"L", 96, 96)
    assert jpeg["bytes"] == (tmp_path / "a.jpg").stat().st_size
    assert jpeg["quality"] == pytest.approx(75, abs=1.5)
    assert jpeg["tables"] == facts(save(head(2), tmp_path / "b.jpg", quality=75))["tables"]
    assert jpeg["tables"] != facts(save(head(1), tmp_path / "c.jpg", quality=90))["tables"]
    png = facts(save(head(1), tmp_path / "a.png"))
    assert (png["format"], png["tables"]) == (b"PNG", 0)
    assert np.isnan(png["quality"])
    assert jpeg["blockiness"] > png["blockiness"]


def test_the_content_decides_on_the_format(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as handle:
        Image.fromarray(head(1)).save(handle, "PNG")
    assert facts(tmp_path / "a.jpg")["format"] == b"PNG"


def test_margins_are_shares_of_the_sides(tmp_path: Path) -> None:
    pixels = np.zeros((100, 200), np.uint8)
    pixels[10:60, 30:160] = head(1, 200)[60:110, 30:160] // 2 + 100
    found = facts(save(pixels, tmp_path / "a.png"))
    margins = [found[side] for side in ("top", "bottom", "left", "right")]
    assert margins == pytest.approx([0.1, 0.4, 0.15, 0.2], abs=0.011)
    assert found["filled"] == pytest.approx(0.5 * 0.65, abs=0.02)


def test_noise_and_colour(tmp_path: Path) -> None:
    quiet, loud = (facts(save(head(1, noise=n), tmp_path / f"{n}.png"))["noise"] for n in (0.01, 0.08))
    assert loud > quiet + 0.3
    grey = np.repeat(head(1)[..., None], 3, axis=2)
    tinted = grey * np.array([1, 0.5, 0.2])
    assert facts(save(grey, tmp_path / "grey.png"))["colour"] == 0
    assert facts(save(tinted.astype(np.uint8), tmp_path / "tinted.png"))["colour"] > 0.05


@pytest.mark.parametrize("seed", range(6))
def test_letters_are_found_and_heads_have_none(seed: int) -> None:
    size = 256
    image = Image.fromarray(head(seed, size))
    assert marks.glyphs(np.asarray(image, dtype=np.float32) / 255, 0.35) < 3
    ImageDraw.Draw(image).text((4, 4), "ABC 1234", fill=255)
    for turned in (image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)):
        assert marks.glyphs(np.asarray(turned, dtype=np.float32) / 255, 0.35) >= 3


def test_a_frame_is_found_on_any_side() -> None:
    plain = head(3, 128).astype(np.float32) / 255
    assert marks.frame(plain) < 0.05
    for k in range(4):
        framed = np.rot90(plain, k).copy()
        framed[2] = 0.9
        assert marks.frame(framed) > 0.5


def test_blank_and_tiny_images_have_facts(tmp_path: Path) -> None:
    for pixels in (np.zeros((8, 8), np.uint8), np.full((9, 300), 255, np.uint8)):
        found = facts(save(pixels, tmp_path / "a.png"))
        assert all(np.isfinite(found[name]).all() for name in FACTS.names if name not in {"format", "mode", "quality"})


def test_glances_are_in_the_order_of_the_records(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", 4)
    catalogue, found = glance_folder(data, tmp_path / "cache")
    assert len(catalogue.records) == len(found.facts) == len(found.thumbs) == 12
    for record, row, thumb in zip(catalogue.records, found.facts, found.thumbs, strict=True):
        assert row["bytes"] == (data / record.path).stat().st_size
        assert np.array_equal(thumb, thumb_of(read_scan(data / record.path).pixels))
    assert isinstance(found.thumbs, np.memmap)


def test_a_second_look_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folder(tmp_path / "data", 4)
    first = glance_folder(data, tmp_path / "cache")

    def fail(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(glance, "read_image", fail)
    (data / CLASSES[0] / "gl_000.jpg").rename(data / CLASSES[0] / "other name.jpg")
    second = glance_folder(data, tmp_path / "cache")
    assert sorted(r.sha256 for r in first[0].records) == sorted(r.sha256 for r in second[0].records)
    assert np.array_equal(np.sort(first[1].facts["mean"]), np.sort(second[1].facts["mean"]))


def test_a_killed_look_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = folder(tmp_path / "data", 6)
    monkeypatch.setattr(glance, "_BATCH", 4)
    seen: list[str] = []

    def stop(path: Path, source: str) -> object:
        seen.append(source)
        if len(seen) > 10:
            raise KeyboardInterrupt
        return read_image(path, source)

    monkeypatch.setattr(glance, "read_image", stop)
    with pytest.raises(KeyboardInterrupt):
        glance_folder(data, tmp_path / "cache")
    rows = next((tmp_path / "cache").glob("glances-*/rows.bin"))
    with rows.open("ab") as handle:
        handle.write(b"half a row")
    again: list[str] = []
    monkeypatch.setattr(glance, "read_image", lambda path, source: again.append(source) or read_image(path, source))
    catalogue, found = glance_folder(data, tmp_path / "cache")
    assert len(again) == 18 - 10
    assert found.facts["bytes"].tolist() == [(data / r.path).stat().st_size for r in catalogue.records]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", 4)
    victim = data / CLASSES[1] / "me_001.jpg"
    os.truncate(victim, 300)
    with pytest.raises(ScanError):
        read_scan(victim)
    catalogue, found = glance_folder(data, tmp_path / "cache")
    assert [path for path, _ in catalogue.unreadable] == ["meningioma/me_001.jpg"]
    assert len(found.facts) == 11


def test_any_folder_will_do_where_labels_are_not_asked_for(tmp_path: Path) -> None:
    for k in range(3):
        save(head(k), tmp_path / "flat" / f"{k}.png")
    catalogue, found = glance_folder(tmp_path / "flat", tmp_path / "cache", labelled=False)
    assert catalogue.classes == ()
    assert [record.label for record in catalogue.records] == [""] * 3
    assert len(join_thumbs(found.thumbs, found.thumbs)) == 6


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="filelock"):
        glance_folder(tmp_path)
