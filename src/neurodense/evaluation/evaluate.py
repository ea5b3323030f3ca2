"""A model on labelled images: from a folder to what is measured of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from neurodense.data.catalogue import Catalogue, Record
from neurodense.data.groups import apply_groups, comparable, read_groups, sources
from neurodense.data.label_map import LabelMap, as_named, read_map
from neurodense.data.split import PARTS, Part
from neurodense.data.split_table import read_part
from neurodense.errors import DataError
from neurodense.evaluation.bootstrap import Floats
from neurodense.evaluation.certainty import certainty
from neurodense.evaluation.evaluation import Evaluation
from neurodense.evaluation.metrics import measure
from neurodense.evaluation.operating import healthy_class
from neurodense.evaluation.predictions import Predictions
from neurodense.evaluation.studies import group_studies, labelled_studies
from neurodense.inference.pipeline import Input
from neurodense.inference.prediction import Prediction
from neurodense.inference.predictor import MANY, Predictor
from neurodense.inference.seen import count_seen, read_seen
from neurodense.scans.slices import Slices
from neurodense.scans.study import Failure
from neurodense.screen import Screen


def evaluate(
    data: str | Path,
    model: str | Path | Predictor,
    *,
    split: str | Path | None = None,
    part: Part | None = None,
    groups: str | Path | None = None,
    map: str | Path | None = None,  # noqa: A002  (as the command line has it)
    healthy: str | None = None,
    slices: Slices | str = "brain",
    screen: Screen | None = None,
) -> Evaluation:
    """Measure a model on a folder of images or studies, one sub-folder a class, or on one part of a split of it.

    Args:
        data: The folder. Its class folders must be classes of the model, or named in `map`; a class may be absent.
        model: A model folder, which is run in fp32, or a loaded one.
        split: CSV of path and part, such as a run's split.csv. Without it these are taken for other data than the
            model's own, and compared with the test part in its card.
        part: train, validation or test: which rows of `split` to take; needs `split`.
        groups: CSV of path and group or patient, of which intervals draw whole groups; where None, the column of
            `split`. A series may be listed by its folder or by its files. What a column `source` names is measured
            apart as well.
        map: TOML file that says which folder is which class; see `data/label_map.py`. Others are left out.
        healthy: The class without a tumour, where its name does not say so.
        slices: Which slices of a volume are looked at; see `scans/slices.py`.
        screen: Told what happens; None is quiet.

    Raises:
        DataError: The folder, a table, the map, a class name or `slices` is not as it must be.
        ModelError: The model folder is not one.
    """
    if part is not None and part not in PARTS:
        raise DataError(f"part is {part!r}; allowed are {', '.join(PARTS)}.")
    if (split is None) != (part is None):
        raise DataError("--split and --part go together.", "--split RUN/split.csv --part test")
    slices = Slices.parse(slices) if isinstance(slices, str) else slices
    screen = screen or Screen()
    predictor = model if isinstance(model, Predictor) else Predictor(model, precision="fp32", streams=MANY)
    classes = predictor.card.classes
    labels = as_named(classes) if map is None else read_map(map, classes)
    healthy = healthy_class(labels.names, healthy)
    lost: list[Failure] = []
    if split is not None and part is not None:
        records: Sequence[Record] = read_part(split, data, part)
        if groups is not None:
            records = apply_groups(Catalogue(Path(data), (), tuple(records)), read_groups(groups))[0].records
        inputs: Sequence[Input] = [Path(data) / record.path for record in records]
    else:
        studies, lost = labelled_studies(Path(data), fewest=2 if map is None else 1)
        records = group_studies(Path(data), studies, groups)
        inputs = [item for _, item in studies]
    left_out = Counter(record.label for record in records if labels.index(record.label) is None)
    if left_out and (map is None or left_out.total() == len(records)):
        there, wanted = (", ".join(repr(name) for name in sorted(names)) for names in (left_out, labels.of_folder))
        raise DataError(
            f"Class folders {there} of {data} are {'not in the map' if map else 'no classes of the model'}; "
            f"it knows {wanted}.",
            "Say which is which, in a file:  neurodense evaluate DATA --model MODEL --map other.toml",
        )
    kept = [pair for pair in zip(records, inputs, strict=True) if pair[0].label not in left_out]
    found = _evaluate(predictor, labels, kept, healthy, slices, screen, lost)
    seen = count_seen(
        read_seen(predictor.folder, predictor.card),
        (item for _, item in kept if isinstance(item, Path) and item.is_file()),
    )
    return replace(
        found,
        left_out=left_out,
        seen=seen,
        inside=predictor.card.metrics if split is None else None,
        source_of=named_sources(sources(groups or split), found.predictions),
    )


def named_sources(said: Mapping[str, str], predictions: Predictions) -> dict[str, str]:
    """What `data.groups.sources` says of the paths that were predicted, under their own names."""
    return {path: said[name] for path in predictions.sources if (name := comparable(path)) in said}


def evaluate_records(
    predictor: Predictor, root: Path, records: Sequence[Record], screen: Screen, said: Mapping[str, str] | None = None
) -> Evaluation:
    """Measure a model on records whose paths are relative to `root`, of sources as `data.groups.sources` gives them."""
    classes = predictor.card.classes
    pairs = [(record, root / record.path) for record in records]
    found = _evaluate(predictor, as_named(classes), pairs, healthy_class(classes), Slices(), screen)
    return replace(found, source_of=named_sources(said or {}, found.predictions))


def _evaluate(
    predictor: Predictor,
    labels: LabelMap,
    records: Sequence[tuple[Record, Input]],
    healthy: str | None,
    slices: Slices,
    screen: Screen,
    lost: Sequence[Failure] = (),
) -> Evaluation:
    rows: list[tuple[Record, Prediction]] = []
    failures = list(lost)
    with screen.bar("evaluating", len(records), "images") as bar:
        answers = predictor.predict([item for _, item in records], slices)
        for (record, _), answer in zip(records, answers, strict=True):
            bar.advance()
            if isinstance(answer, Failure):
                failures.append(Failure(record.path, answer.type, answer.message))
            else:
                rows.append((record, answer))
    if not rows:
        raise DataError(f"None of the {len(failures)} images could be read; the first says: {failures[0].message}")
    grouped = any(record.group != record.path for record, _ in rows)
    predictions = _table(labels, [(record.path, record, answer) for record, answer in rows], grouped)
    each = [
        (record.path + one.source.removeprefix(answer.source), record, one)
        for record, answer in rows
        for one in answer.slices
    ]
    said = [answer for _, answer in rows]
    known = [answer.in_distribution for answer in said]
    return Evaluation(
        predictions,
        measure(predictions.labels, predictions.truth, predictions.probabilities),
        tuple(failures),
        slices=_table(labels, each, grouped=True) if each else None,
        thresholds=predictor.card.thresholds,
        healthy=healthy,
        certainty=certainty(
            predictor.card,
            predictions,
            before=np.array([answer.uncalibrated for answer in said]) @ labels.merged,
            rows=_probabilities(said),
            known=None if None in known else np.array(known, dtype=bool),
            merged=labels.merged,
        ),
        shift=predictor.shift(said, predictions.groups),
    )


def _table(labels: LabelMap, rows: Sequence[tuple[str, Record, Prediction]], grouped: bool) -> Predictions:
    """Rows of source, record and answer as a table."""
    return Predictions(
        labels=labels.names,
        sources=tuple(source for source, _, _ in rows),
        truth=np.array([labels.index(record.label) for _, record, _ in rows], dtype=np.int64),
        probabilities=_probabilities([answer for _, _, answer in rows]) @ labels.merged,
        groups=tuple(record.group for _, record, _ in rows) if grouped else None,
    )


def _probabilities(answers: Sequence[Prediction]) -> Floats:
    """float64 (N, C): of each class of the model."""
    return np.array([list(answer.probabilities.values()) for answer in answers])
