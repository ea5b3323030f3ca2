"""Real brain MRI, where it is there: the whole set is read, and its patients stay on one side."""

from pathlib import Path

import pytest

import neurodense
from neurodense.data.groups import apply_groups, read_groups
from neurodense.data.split import split_records


def test_the_real_set_is_read_and_split_by_patient(shared_data: Path) -> None:
    catalogue = neurodense.scan_folder(shared_data / "brain-mri")
    assert catalogue.counts == {"glioma": 1297, "meningioma": 1316, "notumor": 1597, "pituitary": 1406}
    assert not catalogue.unreadable
    assert not catalogue.synthetic
    catalogue, unlisted = apply_groups(catalogue, read_groups(shared_data / "brain-mri-groups.csv"))
    assert unlisted == 0
    split = split_records(catalogue, seed=0)
    groups = {part: {record.group for record in records} for part, records in split.parts.items()}
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 694
    counts = split.counts(catalogue.classes)
    for name, count in catalogue.counts.items():
        assert counts["test"][name] / count == pytest.approx(0.2, abs=0.02)
