"""Real brain MRI, where it is there: the audit names what is known to be wrong with it, without being told."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from neurodense.data.audit.confounding import compare, fit_looks
from neurodense.data.audit.grouping import number_names
from neurodense.data.glance import glance_folder
from neurodense.data.groups import apply_groups, read_groups


def test_the_class_that_comes_from_another_collection_is_named(shared_data: Path, tmp_path: Path) -> None:
    """Every sixth image of each class; 78% of `notumor` is from a collection that gave hardly any tumour."""
    thin(shared_data / "brain-mri", tmp_path / "data", lambda k: k % 6 == 0)
    thin(shared_data / "tumour-type-unknown", tmp_path / "other", lambda k: k % 6 == 0)
    catalogue, glances = glance_folder(tmp_path / "data", tmp_path / "cache")
    _, other = glance_folder(tmp_path / "other", tmp_path / "cache", labelled=False)
    catalogue, _ = apply_groups(catalogue, read_groups(shared_data / "brain-mri-groups.csv"))
    groups = number_names([record.group for record in catalogue.records])
    labels = number_names([record.label for record in catalogue.records])
    looks = fit_looks(glances.facts, groups)
    look = looks.of(glances.facts)
    names = [f"look {k}" for k in range(look.max() + 1)]
    found = compare("look", look, names, labels, catalogue.classes, groups, against=looks.of(other.facts))
    tie = found.ties[0]
    assert tie.label == "notumor"
    assert tie.share > 0.65
    assert tie.elsewhere < 0.2
    assert found.p_value <= 0.01
    assert found.against is not None
    mine = np.array(found.against)[names.index(tie.source)]
    assert mine / sum(found.against) > 0.9, "tumours of the same collection have the same look"


def thin(source: Path, target: Path, keep: Callable[[int], bool]) -> None:
    """Link some of the images of a folder, those in each of its folders counted from 0."""
    for place in (source, *(path for path in source.iterdir() if path.is_dir())):
        for k, path in enumerate(sorted(place.glob("*.jpg"))):
            if keep(k):
                link = target / path.relative_to(source)
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path)
