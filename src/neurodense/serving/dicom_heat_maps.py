"""Heat maps as one Secondary Capture (Part 3, A.8.5: Multi-frame True Color), a frame for each slice.

A frame is the picture that `predict --explain` draws, with the number of its slice in place of the file's name, so that
the scale, what the colours mean and the notice stand beside them wherever the object is shown. It is not compressed:
every archive takes it so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neurodense.inference.explain import Explanation
from neurodense.inference.overlay import draw
from neurodense.notice import NOTICE
from neurodense.serving.dicom_source import Source
from neurodense.serving.provenance import Provenance

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SOP_CLASS: Final = "1.2.840.10008.5.1.4.1.1.7.4"
SERIES_NUMBER: Final = 9002
MAX_FRAMES: Final = 32
"""Of slices more than these, evenly spaced ones are drawn: a frame is about 2 MB, and one place of a map is larger than
the distance of slices anyway."""

_BACKGROUND = 16  # grey of what surrounds the panels in `draw`


def drawn_slices(numbers: Sequence[int]) -> list[int]:
    """The slices that get a frame, of those that were looked at."""
    places = np.unique(np.linspace(0, len(numbers) - 1, min(len(numbers), MAX_FRAMES)).round().astype(int))
    return [numbers[place] for place in places]


def heat_maps(source: Source, maps: Mapping[int, Explanation], provenance: Provenance) -> Dataset:
    """The object for the maps of some slices.

    Args:
        source: The images.
        maps: Number of a slice, from 1 -> its map.
        provenance: What made them.
    """
    import highdicom
    from highdicom.sr import CodedConcept
    from pydicom.dataset import Dataset
    from pydicom.sr.codedict import codes
    from pydicom.uid import ExplicitVRLittleEndian

    total = len(source.series)
    pixels = _frames([_picture(explanation, number, total) for number, explanation in maps.items()])
    first = source.first
    capture = highdicom.SOPClass(
        study_instance_uid=first.StudyInstanceUID,
        series_instance_uid=provenance.uid("heat map series", source.uids),
        series_number=SERIES_NUMBER,
        sop_instance_uid=provenance.uid("heat maps", source.uids),
        sop_class_uid=SOP_CLASS,
        instance_number=1,
        modality="OT",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set="ISO_IR 192",
        patient_id=first.PatientID,
        patient_name=first.PatientName,
        patient_birth_date=first.PatientBirthDate,
        patient_sex=first.PatientSex,
        accession_number=first.AccessionNumber,
        study_id=first.StudyID,
        study_date=first.StudyDate,
        study_time=first.StudyTime,
        referring_physician_name=first.ReferringPhysicianName,
        **provenance.equipment("heat maps"),
    )
    capture.copy_patient_and_study_information(first)
    capture.SpecificCharacterSet = "ISO_IR 192"
    purpose = CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
    references = source.references(maps)
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.ConversionType = "WSD"
    capture.BurnedInAnnotation = "YES" if _any(source, "BurnedInAnnotation", "YES") else "NO"
    capture.PatientOrientation, capture.BodyPartExamined = "", "BRAIN"
    capture.LossyImageCompression = "01" if _any(source, "LossyImageCompression", "01") else "00"
    capture.DerivationDescription = (
        f"Class activation maps of {provenance.model}, {provenance.graph} sha256 {provenance.graph_sha256}, over "
        f"{len(maps)} of {total} slices. {NOTICE}"
    )
    capture.SourceImageSequence = []
    for uid, (kind, frames) in references.items():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = kind, uid
        if frames:
            item.ReferencedFrameNumber = frames
        item.PurposeOfReferenceCodeSequence = [purpose]
        capture.SourceImageSequence.append(item)
    capture.ReferencedSeriesSequence = [_series(str(first.SeriesInstanceUID), references)]
    capture.NumberOfFrames, capture.Rows, capture.Columns = pixels.shape[:3]
    capture.PageNumberVector = list(maps)
    capture.FrameIncrementPointer = 0x00182001  # Page Number Vector
    capture.SamplesPerPixel, capture.PlanarConfiguration, capture.PhotometricInterpretation = 3, 0, "RGB"
    capture.BitsAllocated, capture.BitsStored, capture.HighBit, capture.PixelRepresentation = 8, 8, 7, 0
    capture.PixelData = pixels.tobytes()
    return capture


def _any(source: Source, keyword: str, value: str) -> bool:
    """Whether a file says so of itself: what is burned in or was lost is so in the heat maps, too."""
    return any(str(header.get(keyword, "")).strip().upper() == value for header in source.headers.values())


def _series(uid: str, references: Mapping[str, tuple[str, list[int]]]) -> Dataset:
    """An item of the Referenced Series Sequence (C.12.2)."""
    from pydicom.dataset import Dataset

    series = Dataset()
    series.SeriesInstanceUID = uid
    series.ReferencedInstanceSequence = []
    for instance, (kind, _) in references.items():
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = kind, instance
        series.ReferencedInstanceSequence.append(item)
    return series


def _picture(explanation: Explanation, number: int, total: int) -> Image.Image:
    """The picture of one slice. The name of its file, which may name the patient, is not in it."""
    name = f"slice {number} of {total}" if total > 1 else "the image"
    return draw(replace(explanation, scan=replace(explanation.scan, source=name)))


def _frames(pictures: Sequence[Image.Image]) -> NDArray[np.uint8]:
    """Pictures one upon the other, uint8 (N, height, width, 3), the smaller ones filled up below and at the right."""
    height, width = max(one.height for one in pictures), max(one.width for one in pictures)
    even = width + width % 2  # so that a frame has an even number of bytes
    frames = np.full((len(pictures), height, even, 3), _BACKGROUND, dtype=np.uint8)
    for frame, picture in zip(frames, pictures, strict=True):
        frame[: picture.height, : picture.width] = np.asarray(picture)
    return frames
