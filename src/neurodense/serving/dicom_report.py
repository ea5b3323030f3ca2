"""The answer as a structured report: DICOM Comprehensive SR by TID 1500, Measurement Report (Part 16).

One measurement group (TID 1501) has it all: the verdict in words as Impression, the class as Finding where the model
names one, the classes that it cannot rule out, the probability of each class, what the model is (TID 4019), and the
images that it looked at. The classes are those of the model's card, so their codes are of a private scheme; what the
standard has a code for has that code.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from neurodense.inference.prediction import Prediction
from neurodense.notice import NOTICE
from neurodense.serving.dicom_source import Source
from neurodense.serving.provenance import Provenance

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SERIES_NUMBER: Final = 9001
SCHEME: Final = "99NEURODENSE"


def report(
    source: Source, answer: Prediction, numbers: list[int], provenance: Provenance, notes: list[str], heat: Dataset
) -> Dataset:
    """The report of one answer.

    Args:
        source: The images.
        answer: What is said of them.
        numbers: The slices that were looked at, from 1.
        provenance: What made the answer.
        notes: What must be said of the model.
        heat: The heat maps, which the report names as other evidence.
    """
    from highdicom.sr import (
        AlgorithmIdentification,
        ComprehensiveSR,
        Measurement,
        MeasurementReport,
        MeasurementsAndQualitativeEvaluations,
        QualitativeEvaluation,
        SourceImageForMeasurementGroup,
        TextContentItem,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes

    uids = source.uids
    measurements = [
        Measurement(_code("Probability of", name), round(value, 4), codes.UCUM.NoUnits)
        for name, value in answer.probabilities.items()
    ]
    if answer.ood_score is not None:
        name = _code("", "Distance from known images (above 1: unlike them)")
        measurements.append(Measurement(name, round(answer.ood_score, 4), codes.UCUM.NoUnits))
    left = [] if answer.prediction_set is None else [_code("", name) for name in answer.prediction_set]
    group = MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(provenance.uid("tracking", uids), "Class of the scan"),
        finding_type=_code("", answer.label) if answer.label is not None else None,
        algorithm_id=AlgorithmIdentification(
            f"neurodense {provenance.model}",
            provenance.version,
            parameters=[
                f"{provenance.graph} sha256 {provenance.graph_sha256}",
                f"card sha256 {provenance.card_sha256}",
                f"{provenance.engine} {provenance.precision}, slices {provenance.slices}",
            ],
        ),
        measurements=measurements,
        qualitative_evaluations=[QualitativeEvaluation(_code("", "Cannot be ruled out"), one) for one in left],
        source_images=[
            SourceImageForMeasurementGroup(kind, uid, frames or None)
            for uid, (kind, frames) in source.references(numbers).items()
        ],
    )
    said = [(codes.DCM.Impression, f"{answer.verdict}."), (codes.DCM.Comment, NOTICE)]
    said += [(codes.DCM.Comment, text) for text in (*notes, *_comments(answer, numbers, source))]
    texts = [TextContentItem(*pair, relationship_type="CONTAINS") for pair in said]
    inside = group[0].ContentSequence  # what is said comes before the long list of images, behind the two identifiers
    group[0].ContentSequence = [*inside[:2], *texts, *inside[2:]]
    content = MeasurementReport(
        _observer(provenance), _code("", "Classification of a brain MRI by software"), imaging_measurements=[group]
    )
    made = ComprehensiveSR(
        [*source.headers.values(), heat],
        content[0],
        series_instance_uid=provenance.uid("report series", uids),
        series_number=SERIES_NUMBER,
        sop_instance_uid=provenance.uid("report", uids),
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
        specific_character_set="ISO_IR 192",
        **provenance.equipment("report"),
    )
    made.SpecificCharacterSet = "ISO_IR 192"
    return made


def _comments(answer: Prediction, numbers: list[int], source: Source) -> list[str]:
    looked = f"Looked at {len(numbers)} of {len(source.series)} slices." if len(source.series) > 1 else ""
    promise = ""
    if answer.error_rate is not None:
        promise = (
            f"Of scans like those it was calibrated on, the true class is among those that cannot be ruled out in "
            f"{1 - answer.error_rate:.0%}."
        )
    notes = (f"{note[:1].upper()}{note[1:]}." for note in answer.notes)
    return [text for text in (looked, promise, *notes) if text]


def _observer(provenance: Provenance) -> Any:
    """The software as the observer: TID 1004."""
    from highdicom.sr import DeviceObserverIdentifyingAttributes, ObservationContext, ObserverContext
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        provenance.uid("device", ()),
        name="neurodense",
        manufacturer_name="neurodense",
        model_name=provenance.model,
        serial_number=provenance.card_sha256[:16],
    )
    return ObservationContext(ObserverContext(codes.DCM.Device, device))


def _code(before: str, name: str) -> Any:
    """A code of our own scheme: at most 16 characters, of which equal words have equal ones."""
    from highdicom.sr import CodedConcept

    words = f"{before} {name}".strip()
    value = words if len(words) <= 16 and words.isascii() else hashlib.sha256(words.encode()).hexdigest()[:16]
    return CodedConcept(value, SCHEME, words if len(words) <= 64 else f"{words[:61]}...")
