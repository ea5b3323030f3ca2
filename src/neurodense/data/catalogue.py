"""A folder of images, one sub-folder a class, becomes a catalogue of records. Every file is opened once, to be sure."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from neurodense.errors import DataError, ScanError
from neurodense.scans.find import find_files
from neurodense.scans.study import is_image, looked_for, read_image

PART_NAMES = frozenset({"train", "training", "test", "testing", "val", "valid", "validation"})
PARTIAL = "partial:"
"""What the path of an image begins with that is not in the folder of classes: see `partial.py`."""
_NO_TEXT = "is not UTF-8, or holds control characters"


@dataclass(frozen=True)
class Record:
    """One image of the catalogue.

    Attributes:
        path: Relative to the catalogue's root, with forward slashes.
        label: Name of its class.
        group: What must stay on one side of a split: a patient or a cluster of twins; the path itself where unknown.
        sha256: Of the file's bytes, in hex.
    """

    path: str
    label: str
    group: str
    sha256: str


@dataclass(frozen=True)
class Catalogue:
    """What a folder holds.

    Attributes:
        root: The folder.
        classes: Class names, sorted as `torchvision.datasets.ImageFolder` sorts them.
        records: In the order of `in_order`.
        unreadable: (path, reason) of each image file that was left out.
        ignored: Number of other files (no images) in the class folders.
        synthetic: True when the folder's dataset.json says that the images are made by a computer.
        grouped: True once a group table was applied.
    """

    root: Path
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    unreadable: tuple[tuple[str, str], ...] = ()
    ignored: int = 0
    synthetic: bool = False
    grouped: bool = False

    @property
    def counts(self) -> dict[str, int]:
        """Images a class, in class order."""
        count = Counter(record.label for record in self.records)
        return {name: count[name] for name in self.classes}

    @property
    def manifest_sha256(self) -> str:
        """One hash for the content: over path, label and hash of every record, in whatever order they stand."""
        lines = sorted(f"{record.path}\t{record.label}\t{record.sha256}\n" for record in self.records)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def in_order(records: Iterable[Record]) -> tuple[Record, ...]:
    """Records by class, then folder, then name: the order of `torchvision.datasets.ImageFolder`'s samples."""
    return tuple(sorted(records, key=lambda record: (record.label, *record.path.rpartition("/")[::2])))


def hash_image(path: Path, source: str) -> str:
    """Give the sha256 of a file that can be decoded.

    Raises:
        ScanError: It cannot be read as an image.
        OSError: It cannot be read at all.
    """
    read_image(path, source)
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def scan_folder(
    root: str | Path,
    advance: Callable[[int, int], None] = lambda done, total: None,
    read: Callable[[Path, str], str] = hash_image,
    *,
    labelled: bool = True,
) -> Catalogue:
    """Catalogue `root`: every image in every class folder, nested ones too, decoded once to be sure that it can be.

    Args:
        root: A folder with one sub-folder a class. Hidden files and folders are passed over.
        advance: Called as advance(done, total) while the files are read.
        read: Called by several threads as read(path, source); gives the sha256 of a file or raises as `hash_image`.
        labelled: False for any folder of images: there are no classes then, and each label is "".

    Raises:
        DataError: No such folder, fewer than two classes, an empty class, names that differ by case only, folders
            that look like parts of a split or cannot be listed, or a class without a readable image.
    """
    root = Path(root)
    if not labelled and not root.is_dir():
        raise DataError(f"{root} {'is not a folder' if root.exists() else 'does not exist'}.")
    classes = class_folders(root) if labelled else ("",)
    paths: list[tuple[str, str]] = []
    other: dict[str, int] = {}
    for name in classes:
        files = list(_files(root / name))
        images = [file for file in files if is_image(file)]
        other[name] = len(files) - len(images)
        paths += [(file.relative_to(root).as_posix(), name) for file in images]
    count = Counter(name for _, name in paths)
    if empty := [name for name in classes if not count[name]]:
        found = ", ".join(f"{name} {count[name]:,} (and {other[name]:,} other files)" for name in classes)
        if not labelled:
            raise DataError(f"There is no image in {root}; {looked_for()}.")
        raise DataError(
            f"There is no image in class folder {', '.join(map(repr, empty))} of {root}. Found: {found}; "
            f"{looked_for()}.",
            "Put images there or move the folder away.",
        )

    records, unreadable = _read_all(root, sorted(paths), advance, read)
    kept = Counter(record.label for record in records)
    for name in classes:
        if not kept[name]:
            first = next((reason for path, reason in unreadable if path.startswith(f"{name}/")), unreadable[0][1])
            what = f"No image of class {name!r} in {root}" if labelled else f"No image in {root}"
            raise DataError(f"{what} can be read; the first says: {first}")
    classes = classes if labelled else ()
    return Catalogue(root, classes, in_order(records), tuple(unreadable), sum(other.values()), _is_synthetic(root))


def class_folders(root: Path, fewest: int = 2) -> tuple[str, ...]:
    """Names of the class folders of `root`, `fewest` at least, sorted as `ImageFolder` sorts them.

    Raises:
        DataError: As `scan_folder` describes it, for all that can be seen without opening an image.
    """
    if not root.is_dir():
        raise DataError(
            f"{root} {'is not a folder' if root.exists() else 'does not exist'}.",
            "Give a folder with one sub-folder a class, e.g. DATA/glioma, DATA/notumor.",
        )
    names, others = _visible(root)
    if len(names) < fewest:
        inner = _visible(root / names[0])[0] if names else []
        found = f"one class folder, {names[0]!r}," if names else f"no sub-folder ({len(others):,} files)"
        raise DataError(
            f"{root} holds {found} and at least two class folders are needed.",
            f"Give {root / names[0]}? It holds {', '.join(map(repr, inner))}."
            if len(inner) > 1
            else "Give the folder above the class folders: DATA/<class>/<image>.",
        )
    if all(name.lower() in PART_NAMES for name in names):
        first = next((name for name in names if name.lower().startswith("train")), names[0])
        raise DataError(
            f"The sub-folders of {root} are {', '.join(names)}: parts of a split, not classes.",
            f"Give one of them as DATA, e.g. {root / first}, or merge their class folders.",
        )
    folded: dict[str, str] = {}
    for name in names:
        if not is_text(name):
            raise DataError(f"The name of class folder {name!r} of {root} {_NO_TEXT}.", "Rename it.")
        if name.startswith(PARTIAL):
            raise DataError(
                f"Class folder {name!r} of {root} begins as tables name images of other folders.", "Rename it."
            )
        if (twin := folded.setdefault(unicodedata.normalize("NFC", name).casefold(), name)) != name:
            raise DataError(
                f"Class folders {twin!r} and {name!r} of {root} differ by case only.",
                "Merge them, or rename one: on other systems they are the same folder.",
            )
    return tuple(names)


def _visible(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the visible sub-folders and files of `folder`, sorted as `ImageFolder` sorts classes."""
    try:
        entries = sorted((entry.name, entry.is_dir()) for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise _unlisted(error) from error
    return [name for name, is_folder in entries if is_folder], [name for name, is_folder in entries if not is_folder]


def _files(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise _unlisted(error) from error

    return find_files(folder, stop)


def _unlisted(error: OSError) -> DataError:
    """A folder that cannot be listed may hold anything: going on without it would leave images out unnamed."""
    return DataError(f"{error.filename} cannot be listed: {error.strerror}.", "Mend its permissions or move it away.")


def is_text(name: str) -> bool:
    """False for what no table or log can hold: surrogates, which stand for bytes that are no UTF-8, and controls."""
    return not any(unicodedata.category(character) in {"Cc", "Cs"} for character in name)


def _read_all(
    root: Path, paths: list[tuple[str, str]], advance: Callable[[int, int], None], read: Callable[[Path, str], str]
) -> tuple[list[Record], list[tuple[str, str]]]:
    def check(item: tuple[str, str]) -> Record | tuple[str, str]:
        path, label = item
        if not is_text(path):
            shown = repr(path)[1:-1]
            return shown, f"{shown} is left out: its name {_NO_TEXT}."
        try:
            digest = read(root / path, path)
        except ScanError as error:
            return path, error.message
        except OSError as error:
            return path, f"{path} cannot be read: {error.strerror or error}."
        return Record(path, label, path, digest)

    records: list[Record] = []
    unreadable: list[tuple[str, str]] = []
    with ThreadPoolExecutor(max_workers=min(8, (os.cpu_count() or 1) + 1)) as pool:
        for done, result in enumerate(pool.map(check, paths), 1):
            if isinstance(result, Record):
                records.append(result)
            else:
                unreadable.append(result)
            advance(done, len(paths))
    return records, unreadable


def _is_synthetic(root: Path) -> bool:
    try:
        about = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("synthetic") is True
