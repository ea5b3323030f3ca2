"""Which images are the same: exact copies, twins and near neighbours, and what they join that should be apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from neurodense.data.audit.parts import ResultPart

LISTED: Final = 1000


TURNS: Final = (
    "none",
    "turned upside down",
    "mirrored",
    "half turn",
    "rows and columns swapped",
    "quarter turn to the left",
    "quarter turn to the right",
    "rows and columns swapped and half turn",
)
"""What `fingerprint.turned` does, by its number."""


class Link(NamedTuple):
    """Two images, by number, that belong together; those of OTHER are numbered on after those of DATA."""

    i: int
    j: int
    turn: int
    similarity: float
    kind: Literal["same bytes", "same picture", "copy", "reframed", "neighbour"]


class Pair(ResultPart):
    """Two images that are one, or alike."""

    a: str = Field(description="Path, relative to DATA, or to OTHER where `a_in` says so.")
    b: str
    a_label: str
    b_label: str
    a_in: Literal["data", "against"] = "data"
    b_in: Literal["data", "against"] = "data"
    parts: tuple[str, str] | None = Field(None, description="Parts of the split that the two are in.")
    turn: int = Field(description="Number of the turn that makes b look like a.")
    transform: str = Field(description=f"The same in words: {'; '.join(TURNS)}.")
    similarity: float = Field(description="As the search for twins gives it, up to 1; 1 for the same bytes.")
    kind: Literal["same bytes", "same picture", "copy", "reframed", "neighbour"] = Field(
        description="same picture: other bytes, equal thumbnails. copy: the same frame. reframed: cropped or shifted."
    )


class Joined(ResultPart):
    """Clusters that hold together what should be apart."""

    clusters: int
    images: int = Field(description="Images of DATA in these clusters.")
    others: int = Field(description="Images of OTHER in these clusters.")
    pairs: tuple[Pair, ...] = Field(
        description=f"At most {LISTED} pairs that cross, the most similar first. A cluster of n images "
        "is held together by n - 1 pairs, so that not each two of its images are a pair here."
    )


class Alike(ResultPart):
    """Pairs of near neighbours."""

    count: int
    images: int = Field(description="Images of DATA in them.")
    pairs: tuple[Pair, ...] = Field(description=f"At most {LISTED}, the most similar first.")


class Twins(ResultPart):
    """Exact copies and twins: the same slice, whatever was done to it."""

    copies: int = Field(description="Files of DATA that repeat another byte by byte, less one of each set.")
    copied: int = Field(description="Files of DATA that have such copies.")
    clusters: int = Field(description="Clusters of twins and copies with two images of DATA or more.")
    images: int = Field(description="Images of DATA in those clusters.")
    largest: int = Field(description="Images in the largest.")
    within_classes: Joined = Field(description="Clusters of one label.")
    across_classes: Joined = Field(description="The same slice under two labels: at least one label is wrong.")
    across_data: Joined | None = Field(description="The same slice in DATA and in OTHER.")
    across_parts: Joined | None = Field(description="The same slice in two parts of the split.")


class Neighbours(ResultPart):
    """Very similar but not the same: probably slices of one patient that lie next to each other."""

    within_classes: Alike
    across_classes: Alike
    across_parts: Alike | None


class Images(NamedTuple):
    """What is known of each image beside its pixels; DATA first, then OTHER."""

    paths: Sequence[str]
    labels: Sequence[str]
    hashes: Sequence[str]
    parts: Sequence[str] | None
    n_data: int
    classes: Sequence[str]

    def label(self, i: int) -> str:
        """Label of image i; "" for one of OTHER that has none, or one that is no class of DATA."""
        return self.labels[i] if i < self.n_data or self.labels[i] in self.classes else ""

    def part(self, i: int) -> str:
        """Part of image i; "" where it has none."""
        return self.parts[i] if self.parts is not None and i < self.n_data else ""

    def folder(self, i: int) -> Literal["data", "against"]:
        """The folder that image i is in."""
        return "data" if i < self.n_data else "against"


def exact_links(hashes: Sequence[str]) -> list[Link]:
    """Each file that repeats an earlier one, with the first of its kind."""
    first: dict[str, int] = {}
    links = []
    for i, name in enumerate(hashes):
        if (k := first.setdefault(name, i)) != i:
            links.append(Link(k, i, 0, 1.0, "same bytes"))
    return links


def relate(images: Images, links: Sequence[Link], clusters: NDArray[np.intp]) -> Twins:
    """Sort exact copies and twins by what they join.

    Args:
        images: What is known of the images.
        links: Exact copies and twins.
        clusters: Number of each image's cluster of both, over DATA and OTHER.
    """
    sizes = np.bincount(clusters[: images.n_data])
    several = sizes[clusters[: images.n_data]] > 1
    copies = [link for link in links if link.kind == "same bytes" and link.j < images.n_data]

    def joined(mark: Callable[[int], str]) -> Joined:
        return _joined(images, links, clusters, mark)

    mixed = joined(images.label)
    inside = [link for link in links if link.j < images.n_data and images.labels[link.i] == images.labels[link.j]]
    return Twins(
        copies=len(copies),
        copied=len({link.i for link in copies}),
        clusters=int((sizes > 1).sum()),
        images=int(several.sum()),
        largest=int(sizes.max(initial=0)) if several.any() else 0,
        within_classes=Joined(
            clusters=int((sizes > 1).sum()) - mixed.clusters,
            images=int(several.sum()) - mixed.images,
            others=0,
            pairs=_pairs(images, inside),
        ),
        across_classes=mixed,
        across_data=joined(images.folder) if len(images.paths) > images.n_data else None,
        across_parts=None if images.parts is None else joined(images.part),
    )


def _joined(images: Images, links: Sequence[Link], clusters: NDArray[np.intp], mark: Callable[[int], str]) -> Joined:
    """Clusters that hold images of several marks; what has the mark "" is passed over."""
    held: dict[int, set[str]] = {}
    for link in links:
        for i in (link.i, link.j):
            if known := mark(i):
                held.setdefault(int(clusters[i]), set()).add(known)
    chosen = np.zeros(int(clusters.max(initial=0)) + 1, bool)
    chosen[[number for number, marks in held.items() if len(marks) > 1]] = True
    inside = chosen[clusters]
    crossing = [
        link for link in links if inside[link.i] and mark(link.i) and mark(link.j) and mark(link.i) != mark(link.j)
    ]
    return Joined(
        clusters=int(chosen.sum()),
        images=int(inside[: images.n_data].sum()),
        others=int(inside[images.n_data :].sum()),
        pairs=_pairs(images, crossing),
    )


def relate_neighbours(images: Images, links: Sequence[Link]) -> Neighbours:
    """Sort near neighbours by what they join; those of OTHER are left out."""
    own = [link for link in links if link.j < images.n_data]

    def alike(chosen: list[Link]) -> Alike:
        touched = {i for link in chosen for i in (link.i, link.j)}
        return Alike(count=len(chosen), images=len(touched), pairs=_pairs(images, chosen))

    return Neighbours(
        within_classes=alike([x for x in own if images.labels[x.i] == images.labels[x.j]]),
        across_classes=alike([x for x in own if images.labels[x.i] != images.labels[x.j]]),
        across_parts=None
        if images.parts is None
        else alike([x for x in own if images.part(x.i) and images.part(x.j) and images.part(x.i) != images.part(x.j)]),
    )


def _pairs(images: Images, links: Sequence[Link]) -> tuple[Pair, ...]:
    chosen = sorted(links, key=lambda link: (-link.similarity, link.i, link.j))[:LISTED]
    return tuple(
        Pair(
            a=images.paths[i],
            b=images.paths[j],
            a_label=images.labels[i],
            b_label=images.labels[j],
            a_in=images.folder(i),
            b_in=images.folder(j),
            parts=None if images.parts is None else (images.part(i), images.part(j)),
            turn=turn,
            transform=TURNS[turn],
            similarity=similarity,
            kind=kind,
        )
        for i, j, turn, similarity, kind in chosen
    )
