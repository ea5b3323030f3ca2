"""What an audit says of how the label can be told without the anatomy: sources and shortcuts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from neurodense.data.audit.confounding import Partition
from neurodense.data.audit.phrases import p_value, share
from neurodense.data.audit.result import Audit, Finding

_MUCH: Final = 0.5  # of the way from chance to perfect, from which a shortcut is serious
_STRONG: Final = 0.3  # Cramér's V from which a tie to a source is serious
_MARGIN: Final = 0.05  # above chance, which the lower end of an interval must clear to be worth a word


def say_confounding(audit: Audit) -> Iterator[Finding]:
    """Say which class comes from a source of its own, if any does."""
    tied = [partition for partition in audit.confounding.partitions if partition.ties]
    if not tied:
        found = (
            "No class is tied to a look, a format or a size of its own."
            if audit.confounding.partitions
            else "All images are of one look and one format: nothing there could tell sources apart."
        )
        yield Finding(about="confounding", weight="clear", count=0, found=found)
        return
    first = tied[0]
    tie = first.ties[0]
    if first.by == "look":
        described = first.described[first.sources.index(tie.source)]
        found = (
            f"{share(tie.share)} of `{tie.label}` shares a look that only {share(tie.elsewhere)} of the other classes "
            f"have: probably it comes from another source than they do."
        )
        detail = [f"The look is {described}, beside the other images. It was found without labels and names."]
    else:
        found = (
            f"{share(tie.share)} of `{tie.label}` comes from one {first.by}, {tie.source}; of the other classes, "
            f"{share(tie.elsewhere)} do."
        )
        detail = []
    if first.ties[1:]:
        others = (f"`{t.label}`, {share(t.share)} in {t.source} against {share(t.elsewhere)}" for t in first.ties[1:])
        detail.append(f"Tied as well: {'; '.join(others)}.")
    detail.append(
        f"Label and {first.by} go together with a Cramér's V of {first.cramers_v:.2f}; when the labels of whole groups "
        f"are shuffled it is {first.expected_v:.2f} (p {p_value(first.p_value)})."
    )
    detail = [*_against(first, audit), *detail]
    detail += [
        f"By {partition.by}: {share(partition.ties[0].share)} of `{partition.ties[0].label}` is "
        f"{partition.ties[0].source}, {share(partition.ties[0].elsewhere)} of the others."
        for partition in tied[1:]
    ]
    yield Finding(
        about="confounding",
        weight="serious" if first.cramers_v >= _STRONG else "caution",
        count=len(first.ties),
        found=found,
        detail=" ".join(detail),
        why=f"A model can name `{tie.label}` by how an image was made. Its score here, even by patient, then says "
        "little about images from elsewhere. A disease may change the look too: a table of sources tells which.",
        next=(
            f"Add images of `{tie.label}` from where the others come from, and of the others from where it comes from.",
            "Measure every model on images of another source as well: `neurodense evaluate OTHER --model RUN/model`",
            *(() if audit.asked.sources else ("If you know the sources, give them: `--sources CSV` (path,source).",)),
        ),
    )


def _against(partition: Partition, audit: Audit) -> Iterator[str]:
    """Whose look the other folder has, where most of it has the look of one class."""
    if partition.against is None or audit.against is None or not sum(partition.against):
        return
    most = max(partition.against)
    source = partition.sources[partition.against.index(most)]
    part = most / sum(partition.against)
    for tie in partition.ties:
        if tie.source == source and part >= 0.5:
            yield (
                f"{share(part)} of {audit.against.name} has the look of `{tie.label}`, whatever it shows: a model that "
                f"goes by the look will call it that."
            )
            return


def say_shortcuts(audit: Audit) -> Iterator[Finding]:
    """Say how well the label can be told from what is not anatomy."""
    result = audit.shortcuts
    if result is None:
        found = "Shortcuts were not measured: a class has fewer than two groups, and none could be held back."
        yield Finding(about="shortcuts", weight="note", count=None, found=found)
        return
    whole, best, names = result.everything, result.families[0], result.names
    found = (
        f"What is not anatomy tells the label with a {result.metric} of {whole.score:.2f} ({whole.low:.2f} to "
        f"{whole.high:.2f}); guessing gives {result.chance:.2f}."
    )
    if whole.low <= result.chance + _MARGIN:
        yield Finding(about="shortcuts", weight="clear", count=None, found=found)
        return
    easiest = max(result.recall, key=lambda name: result.recall[name])
    detail = [
        f"Of the families of facts, {best.family} tells most ({best.score:.2f}); `{easiest}` is the easiest class "
        f"({share(result.recall[easiest])} of it named)."
    ]
    if names.low > result.chance + _MARGIN:
        detail.append(f"The names of files reach {names.score:.2f} without the class's own name; no model sees them.")
    way = (whole.score - result.chance) / (1 - result.chance)
    yield Finding(
        about="shortcuts",
        weight="serious" if way >= _MUCH else "caution",
        count=None,
        found=found,
        detail=" ".join(detail),
        why=f"A network may reach {whole.score:.2f} without looking at a lesion. Brightness, grain and framing hold "
        "some anatomy themselves; file, dimensions and compression hold none.",
        next=("Bring all images to one format, size and framing before training, and distrust a score near this one.",),
    )
