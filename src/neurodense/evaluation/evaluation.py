"""What is measured of a model on labelled images; the parts that take long are computed when first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from neurodense.evaluation.by_source import OfSource, by_source
from neurodense.evaluation.certainty import Certainty
from neurodense.evaluation.decision import DecisionCurve, decision_curve
from neurodense.evaluation.drop import Drop, drops
from neurodense.evaluation.hardest import Hardest, hardest
from neurodense.evaluation.intervals import Intervals, intervals
from neurodense.evaluation.metrics import Metrics
from neurodense.evaluation.operating import OperatingPoint, operating_points
from neurodense.evaluation.predictions import Predictions
from neurodense.inference.card import Thresholds
from neurodense.inference.shift import Shift
from neurodense.inference.table import STUDY_RULE
from neurodense.scans.study import Failure


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of labelled images.

    Attributes:
        predictions: One row an image or study, in the order of the paths.
        metrics: Measured on them: a volume counts once, since not every slice of it need show what it is labelled.
        failures: Images that could not be read, which are in neither.
        slices: One row for each slice that was looked at, with its study as its group; None where all were images.
        thresholds: Those of the model's card, for operating points.
        healthy: The class without a tumour, for operating points and the decision curve; None where it is not known.
        certainty: Calibration, prediction sets and rejection; None where the model was never calibrated.
        shift: How far the images, taken together, are from the model's validation part; None where that is not known.
        left_out: Class folder that the map does not name -> images and studies in it.
        seen: How many of the images the model was trained or validated on.
        inside: The metrics of the model's card, where these are other data than its own.
        source_of: Path of an image -> the collection, scanner or hospital that it is of, as far as a table says so.
    """

    predictions: Predictions
    metrics: Metrics
    failures: tuple[Failure, ...]
    slices: Predictions | None = None
    thresholds: Thresholds | None = None
    healthy: str | None = None
    certainty: Certainty | None = None
    shift: Shift | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    seen: int = 0
    inside: Mapping[str, Any] | None = None
    source_of: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def intervals(self) -> Intervals:
        """Of every figure of the metrics, by a bootstrap over groups. Computed when first asked for."""
        return intervals(self.predictions)

    @cached_property
    def operating(self) -> list[OperatingPoint]:
        """What the thresholds of the card find; empty where it has none."""
        return operating_points(self.predictions, self.thresholds, self.healthy) if self.thresholds else []

    @cached_property
    def decision(self) -> DecisionCurve | None:
        """The decision curve for a tumour; None where no healthy class is known, or all images or none show one."""
        if self.healthy is None or not 0 < self.metrics.per_class[self.healthy].support < self.metrics.n:
            return None
        return decision_curve(self.predictions, self.healthy)

    @cached_property
    def drops(self) -> list[Drop]:
        """What is lost against the model's own test part; empty where these are its own data."""
        return drops(self.inside, self.metrics, self.intervals) if self.inside else []

    @cached_property
    def by_source(self) -> list[OfSource]:
        """How right and how sure the model is on each source; empty where none is known."""
        return by_source(self.predictions, self.source_of) if self.source_of else []

    @cached_property
    def hardest(self) -> Hardest | None:
        """Whose the mistakes are; None where no groups are known, or nothing is wrong."""
        return hardest(self.predictions)

    def spoken(self, name: str) -> str:
        """A figure with its interval, by its dotted name: "0.912 (0.870 to 0.951)"."""
        return self.intervals.spoken(name, self.metrics.figures[name])

    def as_dict(self) -> dict[str, Any]:
        """The evaluation as metrics.json has it."""
        return {
            **self.metrics.as_dict(),
            "intervals": self.intervals.as_dict(),
            "operating": None
            if self.thresholds is None
            else {
                "healthy": self.healthy,
                "validation_images": self.thresholds.images,
                "points": [point.as_dict() for point in self.operating],
            },
            "certainty": self.certainty and self.certainty.as_dict(),
            "shift": self.shift and self.shift.as_dict(),
            "drops": [drop.as_dict() for drop in self.drops],
            "seen": self.seen,
            "by_source": [one.as_dict() for one in self.by_source],
            "hardest": self.hardest and self.hardest.as_dict(),
            "left_out": dict(self.left_out),
            "unreadable": [failure.as_dict() for failure in self.failures],
        }

    @property
    def warnings(self) -> list[str]:
        """Why the figures may look better, or surer, than they are."""
        met = f"The model was trained or validated on {self.seen:,} of these images: figures on them are too good."
        return [*([met] if self.seen else []), *self.intervals.warnings]

    @property
    def notes(self) -> list[str]:
        """What must be said beside the metrics."""
        said = [*self.intervals.notes, *self.warnings]
        if self.hardest is not None:
            said.append(self.hardest.sentence)
        if self.slices is not None:
            studies = len({source.rpartition("#")[0] for source in self.slices.sources})
            said.append(f"{studies:,} of the {self.metrics.n:,} are studies, which count once each. {STUDY_RULE}")
        if self.left_out:
            folders = ", ".join(f"{name} ({count:,})" for name, count in self.left_out.items())
            said.append(f"Left out, since the map does not name them: {folders}.")
        if self.shift is not None:
            said.append(self.shift.sentence)
        return said + (self.certainty.sentences() if self.certainty else [])
