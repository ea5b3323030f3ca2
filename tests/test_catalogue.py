"""A folder becomes records: what is found, in which order, what is left out, and what is refused."""

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurodense.data.catalogue import Record, in_order, scan_folder
from neurodense.errors import DataError


def put(root, *paths):
    """Make small images, each of other pixels."""
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        seed = int.from_bytes(hashlib.sha256(path.encode()).digest()[:4])
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(target, format="PNG")
    return root


def paths_of(catalogue):
    return [record.path for record in catalogue.records]


def refusal(root, *parts):
    """The DataError that scanning gives; it must hold all of `parts`."""
    with pytest.raises(DataError) as caught:
        scan_folder(root)
    for part in parts:
        assert part in str(caught.value)
    return caught.value


def link(source, target):
    try:
        source.symlink_to(target, target_is_directory=True)
    except OSError:
        pytest.skip("this system or user cannot make symbolic links")


# ---- what is found ----------------------------------------------------------------------------------------------


def test_nested_files_strange_names_and_suffixes(tmp_path):
    wanted = [
        "glioma/a.PNG", "glioma/b.JPeG", "glioma/deep/er/c.tif", "glioma/naïve ü 脑.png", "glioma/two words/d (1).png",
        "no tumour/[red]e.bmp", "no tumour/f.jfif", "no tumour/a'b\",c;d.webp", "no tumour/%41 $HOME &amp;.jpg",
    ]  # fmt: skip
    put(tmp_path, *wanted)
    catalogue = scan_folder(tmp_path)
    assert set(paths_of(catalogue)) == set(wanted)
    assert catalogue.classes == ("glioma", "no tumour")
    assert catalogue.counts == {"glioma": 5, "no tumour": 4}
    assert catalogue.unreadable == ()
    assert not catalogue.grouped
    for record in catalogue.records:
        assert record.label == record.path.split("/")[0]
        assert record.group == record.path
        assert record.sha256 == hashlib.sha256((tmp_path / record.path).read_bytes()).hexdigest()


def test_hidden_files_are_passed_over_and_others_counted(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png", "a/.hidden.png", "a/.folder/2.png", ".git/3.png", "a/._1.png")
    for name in ("a/notes.txt", "a/deep/Thumbs.db", "b/1.png.part", "b/noSuffix", ".DS_Store", "readme.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    catalogue = scan_folder(tmp_path)
    assert paths_of(catalogue) == ["a/1.png", "b/1.png"]
    assert catalogue.ignored == 4


def test_the_order_classes_and_samples_are_those_of_imagefolder(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    from neurodense.scans.preprocess import Preprocess
    from neurodense.training.dataset import ImageRecords

    put(
        tmp_path, "a/3.png", "a/10.png", "a/x/1.png", "a/x y/0.png", "a/x/z/0.png", "a/x-y/5.PNG", "a b/1.png",
        "a b/0/7.png", "a-1/2.png", "Zeta/1.jpg", "émile/1.png", "a/B.png",
    )  # fmt: skip
    theirs = datasets.ImageFolder(str(tmp_path))
    catalogue = scan_folder(tmp_path)
    ours = ImageRecords(tmp_path, catalogue.classes, catalogue.records, Preprocess(size=32))
    assert ours.classes == theirs.classes
    assert ours.class_to_idx == theirs.class_to_idx
    assert ours.samples == theirs.samples
    assert ours.targets == theirs.targets
    assert len(ours) == len(theirs)


def test_links_are_followed_once_and_never_upwards(tmp_path):
    root, store = tmp_path / "data", tmp_path / "store"
    put(root, "a/1.png", "b/1.png")
    put(store, "c/1.png", "c/deep/2.png", "extra/3.png")
    link(root / "c", store / "c")  # a class folder that is a link
    link(root / "a" / "more", store / "extra")  # a folder of images
    link(root / "a" / "again", store / "extra")  # the same once more
    link(root / "a" / "loop", root / "a")
    link(root / "b" / "up", root)  # would make every image one of class b
    link(root / "c" / "deep" / "up", store)
    link(root / "b" / "nowhere", tmp_path / "missing")
    catalogue = scan_folder(root)
    assert paths_of(catalogue) == ["a/1.png", "a/again/3.png", "b/1.png", "c/1.png", "c/deep/2.png"]
    assert catalogue.counts == {"a": 2, "b": 1, "c": 2}


def test_unreadable_images_are_named_with_a_reason_and_left_out(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "empty.png").touch()
    (tmp_path / "a" / "text.jpg").write_text("no image")
    (tmp_path / "b" / "half.png").write_bytes((tmp_path / "b" / "1.png").read_bytes()[:60])
    (tmp_path / "b" / "folder.png").mkdir()
    link(tmp_path / "b" / "gone.png", tmp_path / "missing.png")
    seen = []
    catalogue = scan_folder(tmp_path, lambda done, total: seen.append((done, total)))
    assert paths_of(catalogue) == ["a/1.png", "b/1.png"]
    reasons = dict(catalogue.unreadable)
    assert list(reasons) == ["a/empty.png", "a/text.jpg", "b/gone.png", "b/half.png"]
    for path, reason in reasons.items():
        assert reason.startswith(f"{path} ")
    assert "0 bytes" in reasons["a/empty.png"]
    assert "does not exist" in reasons["b/gone.png"]
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="file names are text there")
def test_names_that_no_table_can_hold(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png", "a/line\nbreak.png", "a/\x1b[31mred.png")
    image = (tmp_path / "a" / "1.png").read_bytes()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b/caf\xe9.png")).write_bytes(image)
    catalogue = scan_folder(tmp_path)
    assert paths_of(catalogue) == ["a/1.png", "b/1.png"]
    assert len(catalogue.unreadable) == 3
    for path, reason in catalogue.unreadable:
        assert reason.startswith(path)
        assert "is not UTF-8, or holds control characters" in reason
        assert reason.isprintable()
        reason.encode()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")).mkdir()
    assert str(refusal(tmp_path, "name of class folder", "is not UTF-8")).replace("\n", "").isprintable()


def test_many_files_in_threads_stay_in_order(tmp_path):
    put(tmp_path, *(f"{label}/{k:03d}.png" for label in "ab" for k in range(60)))
    assert paths_of(scan_folder(tmp_path)) == [f"{label}/{k:03d}.png" for label in "ab" for k in range(60)]


@pytest.mark.parametrize(
    ("content", "synthetic"),
    [('{"synthetic": true}', True), ('{"synthetic": 1}', False), ("[]", False), ("{", False), ("\xff", False)],
)
def test_synthetic_is_what_dataset_json_says(tmp_path, content, synthetic):
    put(tmp_path, "a/1.png", "b/1.png")
    assert not scan_folder(tmp_path).synthetic
    (tmp_path / "dataset.json").write_text(content, encoding="latin-1")
    assert scan_folder(tmp_path).synthetic is synthetic


# ---- what is refused --------------------------------------------------------------------------------------------


def test_not_a_folder(tmp_path):
    refusal(tmp_path / "nowhere", "nowhere does not exist", "one sub-folder a class")
    (tmp_path / "data.zip").write_bytes(b"PK")
    refusal(tmp_path / "data.zip", "data.zip is not a folder")


def test_no_class_and_one_class(tmp_path):
    put(tmp_path, "1.png", "2.png")
    refusal(tmp_path, "no sub-folder (2 files)", "at least two class folders", "DATA/<class>/<image>")
    put(tmp_path, "glioma/1.png")
    refusal(tmp_path, "one class folder, 'glioma'", "at least two class folders", "the folder above")


def test_a_folder_too_high_names_the_right_one(tmp_path):
    put(tmp_path, "archive/glioma/1.png", "archive/notumor/1.png")
    refusal(tmp_path, "one class folder, 'archive'", f"Give {tmp_path / 'archive'}?", "'glioma', 'notumor'")


def test_no_images_and_an_empty_class(tmp_path):
    put(tmp_path, "glioma/1.png", "glioma/2.png")
    (tmp_path / "menin").mkdir()
    (tmp_path / "menin" / "notes.txt").touch()
    (tmp_path / "other").mkdir()
    refusal(
        tmp_path, "no image in class folder 'menin', 'other'", "glioma 2 (and 0 other files)",
        "menin 0 (and 1 other files)", ".tiff", "move the folder away",
    )  # fmt: skip


def test_a_class_of_which_nothing_can_be_read(tmp_path):
    put(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b" / "1.png").write_text("no image")
    refusal(tmp_path, "No image of class 'b'", "the first says: b/1.png is no JPEG")


@pytest.mark.parametrize("names", [("Glioma", "glioma"), ("STRASSE", "straße"), ("caf\u00e9", "cafe\u0301")])
def test_names_that_are_one_folder_elsewhere(tmp_path, names):
    put(tmp_path, *(f"{name}/1.png" for name in names))
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system takes the two names for one")
    refusal(tmp_path, *map(repr, names), "differ by case only", "Merge them, or rename one")


@pytest.mark.parametrize(
    ("names", "advice"),
    [(("Testing", "Training"), "Training"), (("train", "valid", "test"), "train"), (("val", "test"), "test")],
)
def test_parts_of_a_split_are_no_classes(tmp_path, names, advice):
    put(tmp_path, *(f"{name}/glioma/1.png" for name in names))
    refusal(tmp_path, *names, "parts of a split, not classes", f"e.g. {tmp_path / advice},")


def test_a_folder_that_cannot_be_listed_stops_it(tmp_path, monkeypatch):
    put(tmp_path, "a/1.png", "a/locked/2.png", "b/1.png")
    scandir = os.scandir

    def forbidding(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", forbidding)
    refusal(tmp_path, "locked cannot be listed: Permission denied", "Mend its permissions")


# ---- the manifest -----------------------------------------------------------------------------------------------


def test_the_manifest_is_of_the_content(tmp_path):
    names = ["a/1.png", "a/2.png", "b/1.png"]
    one = scan_folder(put(tmp_path / "one", *names))
    assert scan_folder(put(tmp_path / "two" / "deep", *reversed(names))).manifest_sha256 == one.manifest_sha256
    assert replace(one, records=one.records[::-1]).manifest_sha256 == one.manifest_sha256
    grouped = replace(one, records=tuple(replace(record, group="g") for record in one.records))
    assert grouped.manifest_sha256 == one.manifest_sha256
    assert len(one.manifest_sha256) == 64

    first = one.records[0]
    changed = {
        one.manifest_sha256,
        *(
            replace(one, records=(record, *one.records[1:])).manifest_sha256
            for record in (replace(first, path="a/0.png"), replace(first, label="c"), replace(first, sha256="0" * 64))
        ),
        replace(one, records=one.records[1:]).manifest_sha256,
    }
    assert len(changed) == 5
    with (tmp_path / "one" / "a" / "1.png").open("ab") as file:
        file.write(b"\0")
    assert scan_folder(tmp_path / "one").manifest_sha256 not in changed


def test_in_order_goes_by_class_then_folder_then_name():
    paths = ["a/2.png", "a/x/1.png", "a b/1.png", "b/0.png"]
    records = [Record(path, path.split("/")[0], "g", "h") for path in paths]
    assert [record.path for record in in_order(reversed(records))] == paths
