"""What an audit says: each finding in words, with why it matters and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from neurodense.data.audit.oddities import Oddity
from neurodense.data.audit.phrases import many
from neurodense.data.audit.relations import Pair
from neurodense.data.audit.result import Audit, Finding, Weight
from neurodense.data.audit.words_on_labels import say_confounding, say_shortcuts

_ORDER: Final[tuple[Weight, ...]] = ("serious", "caution", "note", "clear")


def findings(audit: Audit) -> tuple[Finding, ...]:
    """The findings of an audit, the most serious first."""
    parts = (
        _unreadable, _conflicts, _parts, _across_data, say_confounding, say_shortcuts, _twins, _near, _files, _marks,
        _unlike,
    )  # fmt: skip
    found = [finding for part in parts for finding in part(audit)]
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.weight)))


def _unreadable(audit: Audit) -> Iterator[Finding]:
    reasons = audit.unreadable
    if not reasons:
        yield Finding(about="unreadable", weight="clear", count=0, found="Every image file can be read.")
        return
    yield Finding(
        about="unreadable",
        weight="caution",
        count=len(reasons),
        found=f"{many(len(reasons), 'image file')} cannot be read, and nothing below counts them in. "
        f"The first says: {reasons[0]}",
        why="A training leaves them out as well. If they are of one kind, so is what is missing.",
        next=("Fetch them again from where they came from, or move them away.",),
    )


def _conflicts(audit: Audit) -> Iterator[Finding]:
    mixed = audit.twins.across_classes
    if not mixed.clusters:
        yield Finding(about="conflicts", weight="clear", count=0, found="No slice was found under two labels.")
        return
    yield Finding(
        about="conflicts",
        weight="serious",
        count=mixed.clusters,
        found=f"{many(mixed.clusters, 'slice')} {'stands' if mixed.clusters == 1 else 'stand'} under two labels, in "
        f"{many(mixed.images, 'image')} together.",
        detail=f"Such as {_example(mixed.pairs)}.",
        why="At least one of the labels is wrong: whichever is learnt, the other is measured as an error.",
        next=("Look at each pair below, and move the image with the wrong label to its class or out of the folder.",),
    )


def _parts(audit: Audit) -> Iterator[Finding]:
    twins, near, groups = audit.twins.across_parts, audit.neighbours.across_parts, audit.groups.across_parts
    if twins is None or near is None or groups is None:
        return
    split = audit.asked.split
    if twins.clusters:
        yield Finding(
            about="twins across parts",
            weight="serious",
            count=twins.clusters,
            found=f"{many(twins.clusters, 'slice')} {'is' if twins.clusters == 1 else 'are'} in more than one part of "
            f"{split}, in {many(twins.images, 'image')} together.",
            detail=f"Such as {_example(twins.pairs)}."
            + (f" {many(near.count, 'pair')} of near neighbours are parted as well." if near.count else ""),
            why="The model is measured on slices that it was trained on, and the score is too good.",
            next=(f"Split again with the groups that were found: {_train(audit)}",),
        )
    else:
        found = f"No slice of {split} is in more than one part."
        yield Finding(about="twins across parts", weight="clear", count=0, found=found)
    if groups:
        yield Finding(
            about="groups across parts",
            weight="serious",
            count=len(groups),
            found=f"{many(len(groups), 'given group')} {'is' if len(groups) == 1 else 'are'} in more than one part of "
            f"{split}, such as {groups[0]}.",
            why="Slices of one patient on both sides make the score too good.",
            next=(f"Split again with whole groups: {_train(audit)}",),
        )


def _across_data(audit: Audit) -> Iterator[Finding]:
    both = audit.twins.across_data
    if both is None or audit.against is None:
        return
    here, there = audit.data.name, audit.against.name
    if not both.clusters:
        found = f"No slice of {here} is in {there} too."
        yield Finding(about="twins across data", weight="clear", count=0, found=found)
        return
    yield Finding(
        about="twins across data",
        weight="serious",
        count=both.others,
        found=f"{many(both.others, 'image')} of {there} {'shows' if both.others == 1 else 'show'} a slice that is in "
        f"{here} too, in {many(both.images, 'image')} there.",
        detail=f"Such as {_example(both.pairs)}.",
        why=f"A score on {there} is then partly a score on images that were trained on.",
        next=("Take the listed images out of one of the two folders before a model of one is measured on the other.",),
    )


def _twins(audit: Audit) -> Iterator[Finding]:
    twins = audit.twins
    if not twins.clusters:
        yield Finding(about="twins", weight="clear", count=0, found="No slice was found twice.")
        return
    joined = f" Twins join {many(audit.groups.joined, 'given group')} to another." if audit.groups.joined else ""
    yield Finding(
        about="twins",
        weight="caution" if audit.asked.groups is None or audit.groups.joined else "note",
        count=twins.images,
        found=f"{many(twins.images, 'image')} of {audit.data.images:,} show a slice that another image shows too, in "
        f"{many(twins.clusters, 'cluster')} of up to {twins.largest:,}; {many(twins.copies, 'file')} "
        f"repeat{'s' if twins.copies == 1 else ''} another byte by byte.{joined}",
        why="Split image by image, a slice is in the training and in the test part, and the score is too good.",
        next=("Keep twins on one side:", _train(audit)),
    )


def _near(audit: Audit) -> Iterator[Finding]:
    near = audit.neighbours
    known = audit.asked.groups is not None
    if not near.within_classes.count:
        return
    across = near.across_classes.count
    yield Finding(
        about="neighbours",
        weight="note" if known else "caution",
        count=near.within_classes.count,
        found=f"{many(near.within_classes.count, 'pair')} of images of one class are alike without being twins: "
        "many are probably slices of one patient.",
        detail=f"{many(across, 'pair')} of two classes are alike as well." if across else "",
        why="They are not joined in groups.csv. One patient on both sides of a split makes the score too good, and "
        "only a table of patients can rule it out.",
        next=() if known else ("If you know the patients, give them: `--groups CSV` (path,patient).",),
    )


def _files(audit: Audit) -> Iterator[Finding]:
    wrong = next((oddity for oddity in audit.oddities if oddity.kind == "wrong extension"), None)
    if wrong is not None:
        first = wrong.listed[0]
        yield Finding(
            about="files",
            weight="note",
            count=wrong.count,
            found=f"{many(wrong.count, 'file')} belie their content, such as {first.path}, which {first.detail}.",
            why="They are read here all the same, by their content; other programs may go by the name.",
            next=("Rename them.",),
        )
    if audit.mixtures:
        kinds = ", ".join(
            f"{mixture.kinds:,} {'kinds of ' if mixture.of != 'dimensions' else ''}{mixture.of}"
            for mixture in audit.mixtures
        )
        yield Finding(
            about="files", weight="note", count=len(audit.mixtures), found=f"The files are a mixture: {kinds}.",
            why="A mixture is harmless only where every class has the same one: see the tables of sources.",
        )  # fmt: skip
    elif wrong is None:
        yield Finding(about="files", weight="clear", count=0, found="All files are of one format, mode and size.")


def _marks(audit: Audit) -> Iterator[Finding]:
    odd = [oddity for oddity in audit.oddities if oddity.kind != "wrong extension"]
    if not odd:
        yield Finding(
            about="marks",
            weight="clear",
            count=0,
            found="No burned-in text, no frames, no empty and no coloured images.",
        )
        return
    one_sided = any(_one_sided(oddity, audit) for oddity in odd)
    yield Finding(
        about="marks",
        weight="caution" if one_sided else "note",
        count=sum(oddity.count for oddity in odd),
        found="Found: " + "; ".join(f"{oddity.kind} in {oddity.count:,} ({_by_class(oddity)})" for oddity in odd) + ".",
        why="Text, frames and colour come from a program, not from a patient."
        + (" Here one class has nearly all of one kind, which makes it a sign of the class." if one_sided else ""),
        next=("Look at them; crop or blank the marks in every class alike, or move the images away.",),
    )


def _one_sided(oddity: Oddity, audit: Audit) -> bool:
    """True for at least ten images of which one class has nine tenths, and not because it is that large."""
    label = max(oddity.by_class, key=lambda name: oddity.by_class[name])
    share = oddity.by_class[label] / oddity.count
    return oddity.count >= 10 and share >= 0.9 and audit.data.classes[label] / audit.data.images < 0.8


def _unlike(audit: Audit) -> Iterator[Finding]:
    found = audit.outliers
    if not found.listed:
        return
    first = found.listed[0]
    furthest = f"the furthest from all others is {first.path} (`{first.label}`)"
    yield Finding(
        about="outliers",
        weight="caution" if found.count else "note",
        count=found.count,
        found=f"{many(found.count, 'image')} {'is' if found.count == 1 else 'are'} unlike the rest; {furthest}."
        if found.count
        else f"No image stands far apart; {furthest}.",
        why="At the head of this list is what is no brain MRI at all, such as a CT, if there is any, and what is rare "
        "but right.",
        next=("Look at the gallery, from the furthest on, and move away what does not belong.",),
    )


def _train(audit: Audit) -> str:
    groups = f"{audit.asked.out}/groups.csv" if audit.asked.out else "AUDIT/groups.csv"
    first = "" if audit.asked.out else "`--out AUDIT` writes the table; "
    return f"{first}`neurodense train {shlex.quote(audit.data.path)} --groups {shlex.quote(groups)} --out RUN`"


def _example(pairs: Sequence[Pair]) -> str:
    pair = pairs[0]
    said = [
        f"{path} (`{label}`)" if label else path for path, label in ((pair.a, pair.a_label), (pair.b, pair.b_label))
    ]
    if pair.parts and all(pair.parts):
        said = [f"{text} in {part}" for text, part in zip(said, pair.parts, strict=True)]
    return " and ".join(said)


def _by_class(oddity: Oddity) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in oddity.by_class.items())
