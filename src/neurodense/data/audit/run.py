"""The audit: look at every image once, then ask what a score on this folder could be worth."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurodense import atomic
from neurodense.data.audit import confounding, oddities
from neurodense.data.audit.confounding import Confounding, Looks, Partition
from neurodense.data.audit.features import name_columns
from neurodense.data.audit.grouping import components, join_groups, number_names, straddling
from neurodense.data.audit.outliers import find_outliers
from neurodense.data.audit.relations import Images, Link, exact_links, relate, relate_neighbours
from neurodense.data.audit.result import Asked, Audit, Folder, Groups
from neurodense.data.audit.shortcuts import find_shortcuts
from neurodense.data.audit.tables import read_parts, read_sources
from neurodense.data.audit.words import findings
from neurodense.data.catalogue import Catalogue, class_folders, in_order
from neurodense.data.glance import Glances, glance_folder, join_thumbs
from neurodense.data.grouping import remembered_twins
from neurodense.data.groups import apply_groups, read_groups
from neurodense.errors import DataError, MissingExtra
from neurodense.screen import Screen
from neurodense.versions import versions


@dataclass(frozen=True)
class Audited:
    """An audit, and what its page and its table of groups are made from.

    Attributes:
        audit: What was found.
        data: The images of DATA; the group of each record is the joined one of groups.csv.
        against: The folder of OTHER, or None.
        look: Number of each image's look, in the order of the records, (N,).
    """

    audit: Audit
    data: Catalogue
    against: Path | None
    look: NDArray[np.intp]


def audit(
    data: str | Path,
    *,
    against: str | Path | None = None,
    groups: str | Path | None = None,
    split: str | Path | None = None,
    sources: str | Path | None = None,
    out: str | Path | None = None,
    cache: str | Path | None = None,
    seed: int = 0,
    screen: Screen | None = None,
) -> Audited:
    """Ask of a folder of labelled images what would make a score on it too good, and which files need a person's eye.

    Args:
        data: A folder with one sub-folder a class.
        against: Another folder of images, such as a test set; its class folders are used where it has them.
        groups: CSV of path and group (or patient).
        split: CSV of path and part, such as a run's split.csv.
        sources: CSV of path and source, or the name of a column of `groups`.
        out: Folder for audit.json, groups.csv and audit.html; nothing is written where None.
        cache: Where looks at images are kept; the user's cache folder where None.
        seed: Of folds, samples and shuffles.
        screen: Told what happens; None is quiet.

    Raises:
        DataError: A folder or a table is not as it must be.
        MissingExtra: scikit-learn, or jinja2 for the page, is not installed.
    """
    for library, module in (("scikit-learn", "sklearn"), ("jinja2", "jinja2")):
        if find_spec(module) is None:
            raise MissingExtra(library, "audit")
    screen = screen or Screen()
    asked = Asked(
        against=_text(against),
        groups=_text(groups),
        split=_text(split),
        sources=_text(sources),
        out=_text(out),
        seed=seed,
    )
    table = None if groups is None else read_groups(groups)
    catalogue, glances = _look(Path(data), cache, screen)
    unlisted = 0
    if table is not None:
        catalogue, unlisted = apply_groups(catalogue, table)
    parts = None if split is None else read_parts(Path(split), catalogue)
    given_sources = None if sources is None else read_sources(sources, groups, catalogue)
    other, other_glances = (None, None) if against is None else _look(Path(against), cache, screen, flat=True)

    images = _images(catalogue, other, parts)
    n = images.n_data
    exact = exact_links(images.hashes)
    twins, near = _search(glances, other_glances, images.hashes, cache, screen)
    clusters = components(len(images.paths), _ends([*exact, *twins]))
    joined, merged = join_groups(catalogue, clusters[:n])
    units = number_names([record.group for record in joined.records])
    labels = np.array([catalogue.classes.index(record.label) for record in catalogue.records], dtype=np.intp)
    paths, names = tuple(images.paths[:n]), tuple(images.labels[:n])
    with screen.bar("weighing", 4, "steps") as bar:
        looks = confounding.fit_looks(glances.facts, units, seed)
        bar.advance(note="sources")
        look = looks.of(glances.facts)
        partitions = _partitions(catalogue, glances, other_glances, looks, labels, units, given_sources, seed)
        bar.advance(note="shortcuts")
        file_names = name_columns(paths, catalogue.classes)
        shortcuts = find_shortcuts(glances.facts, file_names, labels, units, catalogue.classes, seed)
        bar.advance(note="images unlike the rest")
        outliers = find_outliers(glances.facts, glances.thumbs, units, paths, names, seed)
        bar.advance()
    found = Audit(
        asked=asked,
        data=_folder(data, catalogue),
        against=None if against is None or other is None else _folder(against, other),
        findings=(),
        twins=relate(images, [*exact, *twins], clusters),
        neighbours=relate_neighbours(images, near),
        groups=Groups(
            given=None if table is None else len({record.group for record in catalogue.records}),
            unlisted=unlisted,
            found=len({record.group for record in joined.records}),
            joined=merged,
            across_parts=None if parts is None else straddling(catalogue, parts),
        ),
        oddities=oddities.find_oddities(glances.facts, paths, names),
        mixtures=oddities.find_mixtures(glances.facts, names),
        shortcuts=shortcuts,
        confounding=Confounding(
            criterion=confounding.CRITERION,
            strengths={str(k): strength for k, strength in looks.strengths.items()},
            partitions=partitions,
        ),
        outliers=outliers,
        versions=versions(),
    )
    found = found.model_copy(update={"findings": findings(found)})
    result = Audited(found, joined, None if against is None else Path(against), look)
    if out is not None:
        write_audit(result, out)
        screen.say(f"written: {', '.join(str(Path(out, name)) for name in ('audit.html', 'audit.json', 'groups.csv'))}")
    return result


def write_audit(result: Audited, out: str | Path) -> None:
    """Write audit.json, groups.csv and audit.html to a folder, each whole or not at all.

    Raises:
        MissingExtra: jinja2 is not installed; the other two files are written all the same.
    """
    from neurodense.data.audit.page import write_page

    out = Path(out)
    atomic.write_json(out / "audit.json", result.audit.model_dump(mode="json"))
    with atomic.replacing(out / "groups.csv") as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(("path", "label", "group"))
        writer.writerows((r.path, r.label, r.group) for r in in_order(result.data.records))
    write_page(result, out / "audit.html")


def _look(root: Path, cache: str | Path | None, screen: Screen, *, flat: bool = False) -> tuple[Catalogue, Glances]:
    """Catalogue and glances of a folder; where `flat`, one without class folders will do."""
    labelled = True
    if flat:
        try:
            class_folders(root)
        except DataError:
            labelled = False
    with screen.bar(f"looking at {root.name}", 1, "images") as bar:
        return glance_folder(root, cache, bar.reach, labelled=labelled)


def _images(catalogue: Catalogue, other: Catalogue | None, parts: Sequence[str] | None) -> Images:
    records = [*catalogue.records, *(other.records if other else ())]
    return Images(
        paths=[record.path for record in records],
        labels=[record.label for record in records],
        hashes=[record.sha256 for record in records],
        parts=parts,
        n_data=len(catalogue.records),
        classes=catalogue.classes,
    )


def _search(
    glances: Glances, other: Glances | None, hashes: Sequence[str], cache: str | Path | None, screen: Screen
) -> tuple[list[Link], list[Link]]:
    """Twins that are no exact copies, and near neighbours."""
    thumbs = glances.thumbs if other is None else join_thumbs(glances.thumbs, other.thumbs)
    with screen.bar("looking for twins", 100, "%") as bar:
        found = remembered_twins(hashes, thumbs, cache, bar.reach)
    twins = [
        Link(pair.first, pair.second, pair.turn, pair.similarity, "same picture" if pair.kind == "exact" else pair.kind)
        for pair in found.pairs
        if hashes[pair.first] != hashes[pair.second]
    ]
    near = [Link(pair.first, pair.second, pair.turn, pair.similarity, "neighbour") for pair in found.neighbours]
    return twins, near


def _partitions(
    catalogue: Catalogue,
    glances: Glances,
    other: Glances | None,
    looks: Looks,
    labels: NDArray[np.intp],
    units: NDArray[np.intp],
    given: tuple[str, list[str]] | None,
    seed: int,
) -> tuple[Partition, ...]:
    """Labels against each thing that may stand for the source, where there is more than one of it."""
    found: list[Partition] = []
    look = looks.of(glances.facts)
    if look.any():
        found.append(
            confounding.compare(
                "look",
                look,
                [f"look {k + 1}" for k in range(look.max() + 1)],
                labels,
                catalogue.classes,
                units,
                described=looks.describe(glances.facts, look),
                against=None if other is None else looks.of(other.facts),
                seed=seed,
            )
        )
    traces: dict[str, list[str]] = {str(by): values for by, values in oddities.file_traces(glances.facts).items()}
    if given is not None:
        traces = {given[0]: given[1], **traces}
    for by, values in traces.items():
        common = [name for name, _ in Counter(values).most_common(confounding.MOST_SOURCES)]
        if len(common) > 1:
            place = {name: k for k, name in enumerate(common)}
            source = np.array([place.get(value, len(common)) for value in values], dtype=np.intp)
            names = [*common, "other"] if source.max() == len(common) else common
            found.append(confounding.compare(by, source, names, labels, catalogue.classes, units, seed=seed))
    return tuple(found)


def _folder(path: str | Path, catalogue: Catalogue) -> Folder:
    return Folder(
        path=str(path),
        name=Path(path).resolve().name,
        images=len(catalogue.records),
        classes=catalogue.counts,
        unreadable=dict(catalogue.unreadable),
        ignored=catalogue.ignored,
        synthetic=catalogue.synthetic,
        manifest_sha256=catalogue.manifest_sha256,
    )


def _text(value: str | Path | None) -> str | None:
    return None if value is None else str(value)


def _ends(links: Sequence[Link]) -> tuple[list[int], list[int]]:
    return [link.i for link in links], [link.j for link in links]
