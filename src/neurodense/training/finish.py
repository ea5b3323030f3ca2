"""The end of a run: the kept weights become a model folder, the test part is read at last, a report is made."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from neurodense import atomic
from neurodense.data.catalogue import Catalogue
from neurodense.data.groups import sources
from neurodense.data.partial import Partial
from neurodense.data.split import PARTS, Split
from neurodense.errors import DataError, ModelError
from neurodense.evaluation.calibrate import calibrate
from neurodense.evaluation.calibrate import summary as summary_of_certainty
from neurodense.evaluation.evaluate import evaluate_records
from neurodense.evaluation.evaluation import Evaluation
from neurodense.evaluation.mistakes import draw_mistakes
from neurodense.evaluation.partial import Calls, call_partial, calls_as_dict, facts_of
from neurodense.evaluation.readme import describe
from neurodense.evaluation.write import Figure, write_evaluation
from neurodense.inference.card import (
    CalledPart,
    Card,
    Data,
    Graph,
    PartlyLabelled,
    Teacher,
    read_card,
    sha256_of,
    write_card,
)
from neurodense.inference.predictor import GRAPH, MANY, Predictor
from neurodense.inference.seen import SEEN, write_seen
from neurodense.scans.study import read_image
from neurodense.screen import Screen
from neurodense.training import checkpoint as checkpoints
from neurodense.training.export import export
from neurodense.training.half import export_half
from neurodense.training.journal import read_history
from neurodense.training.network import Network
from neurodense.training.precision import Arithmetic
from neurodense.training.quantise import quantise, summary
from neurodense.training.recipe import Recipe
from neurodense.training.report import report_run
from neurodense.training.sheet import RunSheet
from neurodense.training.tracking import card_entry
from neurodense.versions import versions

TOLERANCE = 1e-4
"""Largest difference in probability between torch and the exported graph that is let through."""

_NAMING: Final = ("unreadable", "hardest")


def finish(
    run: Path,
    sheet: RunSheet,
    split: Split,
    network: Network,
    arithmetic: Arithmetic,
    screen: Screen,
    int8: bool = True,
) -> Path:
    """Make RUN/model, RUN/evaluation and RUN/report.

    Args:
        run: The run folder, its training done.
        sheet: Its run.json.
        split: Its parts.
        network: Any network of the run; it gets the kept weights, on the CPU.
        arithmetic: What the run was trained in, for the card.
        screen: Told what happens.
        int8: Try to make an int8 graph.

    Returns:
        The model folder.

    Raises:
        ModelError: The exported graph does not agree with torch.
    """
    recipe = Recipe.model_validate(sheet.recipe)
    name = "best" if recipe.keep == "best" else "last"
    kept = checkpoints.load(run / "checkpoints" / f"{name}.safetensors")
    network.load_state_dict(kept.network)
    network.to("cpu").eval()
    history = [{**row, "kept": row["epoch"] == kept.position.total_epoch} for row in read_history(run)]
    catalogue = Catalogue(Path(sheet.data), sheet.classes, tuple(r for part in PARTS for r in split.parts[part]))
    screen.say(f"epoch {kept.position.total_epoch} is kept; exporting the model folder")
    card = _card(run, sheet, recipe, split, catalogue, arithmetic, history, kept.position.total_epoch)
    staging = run / ".model-new"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    (export_half if recipe.stored_as == "fp16" else export)(network, recipe.image_size, staging)
    met = (*split.parts["train"], *split.parts["validation"], *split.partial["train"], *split.partial["validation"])
    write_seen(staging, (record.sha256 for record in met))
    files = {name: sha256_of(staging / name) for name in (GRAPH, "model.safetensors", SEEN)}
    write_card(staging, card.model_copy(update={"files": files}))
    _check_agreement(network, Predictor(staging, precision="fp32", streams=MANY), catalogue, split)

    _add_certainty(staging, catalogue, split, screen)
    if int8:
        _add_int8(staging, catalogue, split, screen)
    predictor = Predictor(staging, precision="fp32", streams=MANY)
    known = sources(run / "split.csv")
    tested = split.parts["test"]  # empty for a model that is trained on all images
    evaluation = evaluate_records(predictor, catalogue.root, tested, screen, known) if tested else None
    # What names images or patients stays in the run: a model folder is given to others.
    metrics = {k: v for k, v in evaluation.as_dict().items() if k not in _NAMING} if evaluation else None
    calls = call_partial(predictor, sheet.partial, split.partial, screen)
    measured = f"{predictor.engine} {predictor.precision}" if evaluation else None
    data = card.data.model_copy(update={"partial": _partial(sheet.partial, split, calls)})
    changes = {"metrics": metrics, "measured_with": measured, "data": data}
    card = read_card(staging).model_copy(update=changes)
    write_card(staging, card)
    describe(staging, card)
    _replace_folder(staging, run / "model")
    out = run / "evaluation"
    figures = _evaluation(run, sheet, evaluation, history, screen) if evaluation else []
    mistakes = draw_mistakes(evaluation.predictions, lambda _: predictor, catalogue.root, out) if evaluation else []
    if sheet.partial:
        atomic.write_json(out / "partial.json", calls_as_dict(sheet.partial, calls))
    for title, line in facts_of(sheet.partial, calls).items():
        screen.say(f"{title}: {line}")
    report_run(run, sheet, card, evaluation, history, figures, calls, mistakes)
    screen.say(f"model: {run / 'model'}   report: {run / 'report' / 'index.html'}")
    return run / "model"


def _evaluation(
    run: Path, sheet: RunSheet, evaluation: Evaluation, history: Sequence[dict[str, Any]], screen: Screen
) -> list[Figure]:
    """Write RUN/evaluation and say what is in it."""
    for failure in evaluation.failures:
        screen.warn(f"left out of the test part: {failure.message}")
    first = not (run / "evaluation" / "metrics.json").exists()
    note = "synthetic images" if sheet.synthetic else ""
    figures = write_evaluation(evaluation, run / "evaluation", subject="Test part", note=note, history=history)
    screen.say(
        f"test part{', read now for the first time' if first else ', read again'}: n {evaluation.metrics.n:,}, "
        f"accuracy {evaluation.spoken('accuracy')}, macro F1 {evaluation.spoken('macro.f1')}, "
        f"loss {evaluation.spoken('loss')}"
    )
    return figures


def _card(
    run: Path,
    sheet: RunSheet,
    recipe: Recipe,
    split: Split,
    catalogue: Catalogue,
    arithmetic: Arithmetic,
    history: Sequence[dict[str, Any]],
    kept_epoch: int,
) -> Card:
    row = next((row for row in history if row["kept"]), {})
    groups: dict[str, int] = {part: len({record.group for record in split.parts[part]}) for part in PARTS}
    return Card(
        name=run.resolve().name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        classes=sheet.classes,
        preprocess=recipe.preprocess,
        graph=Graph(dropout=recipe.dropout),
        recipe=recipe.model_dump(mode="json"),
        weights_origin=sheet.weights_origin,
        teacher=_teacher(sheet, recipe),
        arithmetic=str(arithmetic),
        kept_epoch=kept_epoch,
        data=Data(
            name=Path(sheet.data).name,
            synthetic=sheet.synthetic,
            manifest_sha256=replace(
                catalogue, records=(*catalogue.records, *(r for part in PARTS for r in split.partial[part]))
            ).manifest_sha256,
            counts={part: dict(counts) for part, counts in split.counts(sheet.classes).items()},
            groups=groups if split.grouped else None,
            split_by=sheet.split_by,
            groups_from=sheet.groups_from,
            leaked=sheet.leaked,
            left_out=sheet.left_out,
            partial=_partial(sheet.partial, split, {}),
            seed=sheet.seed,
        ),
        validation={key: row[key] for key in row if key.startswith("validation_")},
        history=tuple(history),
        tracked=card_entry(sheet),
        versions=versions(),
        files={},
    )


def _teacher(sheet: RunSheet, recipe: Recipe) -> Teacher | None:
    if sheet.teacher is None or recipe.teacher is None:
        return None
    return Teacher(name=sheet.teacher.name, sha256=sheet.teacher.sha256, **recipe.teacher.model_dump())


def _partial(partial: Sequence[Partial], split: Split, calls: Calls) -> tuple[PartlyLabelled, ...]:
    return tuple(
        PartlyLabelled(
            name=one.name,
            classes=one.classes,
            counts={part: len(one.of(split.partial[part])) for part in PARTS},
            called={
                part: CalledPart(images=called.images, allowed=called.allowed)
                for part, called in calls.get(one.name, {}).items()
            },
        )
        for one in partial
    )


def _add_certainty(folder: Path, catalogue: Catalogue, split: Split, screen: Screen) -> None:
    """Calibrate; a model that cannot be is whole, and names a class for whatever it is shown."""
    try:
        card = calibrate(folder, catalogue.root, split.parts["train"], split.parts["validation"], screen)
    except DataError as error:
        screen.say(f"not calibrated: {error.message}")
    else:
        for line in summary_of_certainty(card):
            screen.say(line)


def _add_int8(folder: Path, catalogue: Catalogue, split: Split, screen: Screen) -> None:
    """Add the int8 graph if it is good enough; a model without one is whole."""
    try:
        card = quantise(folder, catalogue.root, split.parts["train"], split.parts["validation"], screen)
    except (ModelError, DataError) as error:
        screen.warn(f"no int8 graph: {error.message}")
    else:
        assert card.int8 is not None
        screen.say(summary(card.int8))


def _check_agreement(network: Network, predictor: Predictor, catalogue: Catalogue, split: Split) -> None:
    """Compare torch and the exported graph on validation images: a broken export must not reach a user."""
    records = split.parts["validation"][:: max(1, len(split.parts["validation"]) // 16)]
    pixels = np.stack([predictor.card.preprocess(read_image(catalogue.root / record.path)) for record in records])
    with torch.inference_mode():
        logits = network(torch.from_numpy(pixels))
    ours = predictor.probabilities(predictor.outputs(pixels).logits)
    gap = float(np.abs(ours - predictor.probabilities(logits.numpy())).max())
    if not gap <= TOLERANCE:
        raise ModelError(
            f"The exported graph differs from torch by {gap:.2g} in probability; {TOLERANCE} is allowed.",
            "Report this with the versions in run.json; the checkpoints are kept.",
        )


def _replace_folder(new: Path, target: Path) -> None:
    """Put `new` in the place of `target`. A folder cannot be replaced in one step, so the old one moves aside first."""
    old = target.with_name(".model-old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.replace(old)
    new.replace(target)
    shutil.rmtree(old, ignore_errors=True)
