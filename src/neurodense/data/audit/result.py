"""What an audit finds: the object that audit.json holds. The written schema is `docs/audit.schema.json`."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from neurodense.data.audit.confounding import Confounding
from neurodense.data.audit.oddities import Mixture, Oddity
from neurodense.data.audit.outliers import Outliers
from neurodense.data.audit.parts import ResultPart
from neurodense.data.audit.relations import Neighbours, Twins
from neurodense.data.audit.shortcuts import Shortcuts
from neurodense.notice import NOTICE

SCHEMA_VERSION: Final = 1

Weight = Literal["serious", "caution", "note", "clear"]


class Finding(ResultPart):
    """One answer: what was found, why it matters, what to do next."""

    about: Literal[
        "unreadable", "conflicts", "twins across parts", "groups across parts", "twins across data", "twins",
        "neighbours", "confounding", "shortcuts", "files", "marks", "outliers",
    ]  # fmt: skip
    weight: Weight = Field(description="serious: mend it first. caution: look at it. note: good to know. clear: none.")
    count: int | None = Field(description="Of what `found` counts; None where it is no count.")
    found: str
    detail: str = ""
    why: str = ""
    next: tuple[str, ...] = Field((), description="What to do; a command stands in backquotes.")


class Folder(ResultPart):
    """A folder that was looked at."""

    path: str = Field(description="As it was given.")
    name: str = Field(description="Name of the folder.")
    images: int
    classes: dict[str, int] = Field(description="Images of each class; empty where there are no class folders.")
    unreadable: dict[str, str] = Field(description="Path -> reason of each image file that was left out.")
    ignored: int = Field(description="Other files, with no image suffix.")
    synthetic: bool
    manifest_sha256: str = Field(description="Over path, label and hash of every image.")


class Groups(ResultPart):
    """What belongs together, and how that was found out."""

    given: int | None = Field(description="Groups of the given table that hold images of DATA.")
    unlisted: int = Field(description="Images that the given table does not list.")
    found: int = Field(description="Groups in groups.csv: given ones and clusters of twins, joined where they touch.")
    joined: int = Field(description="Given groups that twins joined to another.")
    across_parts: tuple[str, ...] | None = Field(description="Groups with images in several parts of the split.")


class Asked(ResultPart):
    """What was given beside the folder."""

    against: str | None
    groups: str | None
    split: str | None
    sources: str | None
    out: str | None
    seed: int


class Audit(ResultPart):
    """All that an audit finds."""

    schema_version: int = SCHEMA_VERSION
    notice: str = NOTICE
    asked: Asked
    data: Folder
    against: Folder | None
    findings: tuple[Finding, ...] = Field(description="The answers in words, the most serious first.")
    twins: Twins
    neighbours: Neighbours
    groups: Groups
    oddities: tuple[Oddity, ...]
    mixtures: tuple[Mixture, ...]
    shortcuts: Shortcuts | None = Field(description="None where a class has fewer than two groups.")
    confounding: Confounding
    outliers: Outliers
    versions: dict[str, str]

    @property
    def unreadable(self) -> list[str]:
        """Why each file of DATA and of OTHER that could not be read was left out."""
        return [*self.data.unreadable.values(), *(self.against.unreadable.values() if self.against else ())]
