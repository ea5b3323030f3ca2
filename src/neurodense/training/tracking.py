"""A run in MLflow, beside its own log: what the run folder holds is copied there, and nothing is only there.

What is sent is read from log.jsonl and the model folder, and what has arrived is asked of MLflow. So a server that was
away gets all of it later, a resumed run goes on in its MLflow run, and no failure of tracking ends a training.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurodense.data.split import PARTS, Split
from neurodense.inference import card as cards
from neurodense.inference.card import read_card, write_card
from neurodense.screen import Screen
from neurodense.training.journal import read_history
from neurodense.training.mlflow_store import (
    Courier,
    commit_tags,
    experiment_id,
    key_of,
    log_params,
    new_client,
)
from neurodense.training.plan import FINAL
from neurodense.training.sheet import RunSheet
from neurodense.versions import versions

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CURVES = ("train_loss", "validation_loss", "validation_accuracy", "validation_macro_f1", "seconds")


@contextmanager
def tracking(run: Path, sheet: RunSheet, split: Split, screen: Screen) -> Iterator[Tracker]:
    """Track what happens in the block, and send what is left at its end. Without `sheet.tracked` it does nothing."""
    tracker = Tracker(run, sheet, split, screen)
    tracker.send(patient=False)
    try:
        yield tracker
    except BaseException as error:
        tracker.stop("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    tracker.finish()


class Tracker:
    """Copies a run to MLflow.

    Attributes:
        sheet: The run's, with the id of its MLflow run once there is one.
    """

    def __init__(self, run: Path, sheet: RunSheet, split: Split, screen: Screen) -> None:
        # Whole is what has been sent; more is about to happen.
        self.sheet = replace(sheet, tracked=sheet.tracked and replace(sheet.tracked, whole=False))
        self._run, self._split, self._screen = run, split, screen
        self._client: MlflowClient | None = None
        self._sent = 0  # epochs
        self._courier = Courier(sheet.tracked.uri, screen) if sheet.tracked is not None else None

    def send(self, *, patient: bool = True) -> None:
        """Send the epochs that are new; a store that is away is tried again later. `patient` as `Courier` has it."""
        if self._courier is not None:
            self._courier.attempt(self._send_epochs, patient=patient)

    def finish(self) -> None:
        """Send what is left, and the model folder, its figures and what was measured."""
        more = f"; neurodense train --resume '{self._run}' sends what is missing"
        if self._courier is not None and self._courier.attempt(self._send_all, patient=False, more=more):
            assert self.sheet.tracked is not None
            tracked = replace(self.sheet.tracked, whole=True)
            self.sheet = replace(self.sheet, tracked=tracked)
            self._screen.say(f"MLflow: run {self._id()} in {tracked.uri}")

    def stop(self, status: str) -> None:
        """Say that the run ended before its end; a store that is away is not waited for."""
        if self._courier is not None and (client := self._client) is not None:
            self._courier.attempt(lambda: client.set_terminated(self._id(), status))

    def _send_all(self) -> None:
        self._send_epochs()
        model, entry = self._run / "model", card_entry(self.sheet)
        if (card := read_card(model)).tracked != entry:  # the store came back when the model folder was there already
            write_card(model, card.model_copy(update={"tracked": entry}))
        self._send_results()
        self._client_of().set_terminated(self._id(), "FINISHED")

    def _id(self) -> str:
        assert self.sheet.tracked is not None
        assert self.sheet.tracked.run_id is not None
        return self.sheet.tracked.run_id

    def _client_of(self) -> MlflowClient:
        """The client, its run begun or taken up again."""
        if self._client is not None:
            return self._client
        tracked = self.sheet.tracked
        assert tracked is not None
        client = new_client(tracked.uri)
        facts = facts_of(self.sheet, self._split)
        tags = {**{f"version.{name}": number for name, number in versions().items()}, **commit_tags()}
        if tracked.run_id is None:
            begun = client.create_run(experiment_id(client, tracked), tags=tags, run_name=_run_name(self._run))
            self.sheet = replace(self.sheet, tracked=replace(tracked, run_id=begun.info.run_id))
            self.sheet.save(self._run)  # a kill must not lead to a second one
            known: Mapping[str, str] = {}
        else:
            known = client.get_run(tracked.run_id).data.params
            client.update_run(tracked.run_id, status="RUNNING")
            steps = [one.step for one in client.get_metric_history(tracked.run_id, _CURVES[0])]
            self._sent = max(steps, default=0)
        log_params(client, self._id(), {name: value for name, value in facts.items() if name not in known})
        self._client = client
        return client

    def _send_epochs(self) -> None:
        from mlflow.entities import Metric

        client, now = self._client_of(), int(1000 * time.time())
        new = [row for row in read_history(self._run) if row["epoch"] > self._sent]
        for row in new:
            client.log_batch(self._id(), [Metric(name, row[name], now, row["epoch"]) for name in _CURVES])
            self._sent = row["epoch"]

    def _send_results(self) -> None:
        from mlflow.entities import Metric

        client, run_id, now = self._client_of(), self._id(), int(1000 * time.time())
        model = self._run / "model"
        card = read_card(model)
        figures = {f"kept.{name}": value for name, value in card.validation.items()} | _tested(card.metrics)
        entries = [
            Metric(key_of(name), value, now, card.kept_epoch)
            for name, value in figures.items()
            if isinstance(value, int | float)
        ]
        for first in range(0, len(entries), 500):
            client.log_batch(run_id, entries[first : first + 500])
        client.log_artifact(run_id, str(self._run / "recipe.toml"))
        client.log_artifacts(run_id, str(model), "model")
        for path in sorted((self._run / "evaluation").glob("*.png")):
            client.log_artifact(run_id, str(path), "figures")


def facts_of(sheet: RunSheet, split: Split) -> dict[str, str]:
    """What a run was asked to do and found, by names such as recipe.stage.0.learning_rate and images.test.glioma."""
    facts: dict[str, Any] = {"recipe": sheet.recipe}
    for name in ("seed", "weights_origin", "precision", "split_by", "groups_from", "left_out", "leaked"):
        facts[name] = getattr(sheet, name)
    facts["data"], facts["synthetic"] = Path(sheet.data).name, sheet.synthetic
    facts["images"] = {part: dict(counts) for part, counts in split.counts(sheet.classes).items()}
    if sheet.teacher is not None:
        facts["teacher"] = {"name": sheet.teacher.name, "sha256": sheet.teacher.sha256}
    if split.grouped:
        facts["groups"] = {part: len({record.group for record in split.parts[part]}) for part in PARTS}
    return dict(_flat(facts))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from _flat(dict(enumerate(value)), name)
    elif value is not None:
        yield name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _tested(metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    """The figures of the test part, and the ends of their intervals as NAME.low and NAME.high."""
    if metrics is None:
        return {}
    flat = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    for average in ("macro", "weighted"):
        flat |= {f"{average}.{name}": value for name, value in metrics[average].items()}
    for label, scores in metrics["per_class"].items():
        flat |= {f"per_class.{label}.{name}": value for name, value in scores.items()}
    for name, (low, high) in metrics["intervals"]["figures"].items():
        flat |= {f"{name}.low": low, f"{name}.high": high}
    return {f"test.{name}": value for name, value in flat.items()}


def _run_name(run: Path) -> str:
    """Name of the run folder; of a fold, with that of the folds."""
    run = run.resolve()
    return f"{run.parent.name}/{run.name}" if re.fullmatch(rf"fold-\d+|{FINAL}", run.name) else run.name


def card_entry(sheet: RunSheet) -> cards.Tracked | None:
    """What the card says of the tracked run; without the address, which may hold names of folders and hosts."""
    tracked = sheet.tracked
    if tracked is None or tracked.run_id is None:
        return None
    return cards.Tracked(experiment=tracked.experiment, run_id=tracked.run_id)
