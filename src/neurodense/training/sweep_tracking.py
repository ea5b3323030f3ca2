"""A sweep in MLflow: a run for the sweep, and below it one for each of its trials.

The study says what has been sent, so a sweep that goes on, or a store that was away, needs no more than another try.
Of a study that several machines share, each sends its own trials.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurodense.data.split import Split
from neurodense.screen import Screen
from neurodense.training.mlflow_store import Courier, commit_tags, experiment_id, log_params, new_client
from neurodense.training.sheet import RunSheet, Tracked
from neurodense.training.tracking import facts_of
from neurodense.training.trials import finished
from neurodense.versions import versions

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from optuna import Study


class SweepTracker:
    """Copies the finished trials of a study to MLflow; without `tracked` it does nothing.

    Args:
        tracked: The store.
        study: The trials.
        place: Whose trials these are, as their attribute `place` has it.
        out: The folder of the sweep.
        sheet: What all trials share.
        split: Their parts.
        screen: Warned where the store is away.
    """

    def __init__(
        self,
        tracked: Tracked | None,
        study: Study,
        place: str,
        out: Path,
        sheet: RunSheet,
        split: Split,
        screen: Screen,
    ) -> None:
        self._tracked, self._study, self._place, self._out = tracked, study, place, out
        self._sheet, self._split = sheet, split
        self._courier = Courier(tracked.uri, screen) if tracked is not None else None

    def send(self) -> None:
        """Send the trials that are new."""
        if self._courier is not None:
            self._courier.attempt(self._send)

    def finish(self) -> None:
        """Send what is left, and the results."""
        if self._courier is not None:
            self._courier.attempt(self._finish, patient=False, more="; the same command sends what is missing")

    def _finish(self) -> None:
        client, parent = self._send()
        for name in ("best.toml", "trials.csv", "trials.png"):
            if (self._out / name).exists():
                client.log_artifact(parent, str(self._out / name))
        client.log_metric(parent, "best.validation_macro_f1", self._study.best_value)
        client.set_terminated(parent, "FINISHED")

    def _send(self) -> tuple[MlflowClient, str]:
        assert self._tracked is not None
        client = new_client(self._tracked.uri)
        experiment = experiment_id(client, self._tracked)
        sent: dict[str, Any] = self._study.user_attrs
        parent = sent.get(f"mlflow {self._place}")
        if parent is None:
            tags = {**{f"version.{name}": number for name, number in versions().items()}, **commit_tags()}
            parent = client.create_run(experiment, tags=tags, run_name=self._out.resolve().name).info.run_id
            self._study.set_user_attr(f"mlflow {self._place}", parent)
            log_params(client, parent, facts_of(self._sheet, self._split))
        for trial in finished(self._study):
            if f"mlflow {trial.number}" not in sent and trial.user_attrs.get("place") == self._place:
                run_id = self._send_trial(client, experiment, parent, trial)
                self._study.set_user_attr(f"mlflow {trial.number}", run_id)
        return client, parent

    def _send_trial(self, client: MlflowClient, experiment: str, parent: str, trial: Any) -> str:
        from mlflow.entities import Metric

        tags = {"mlflow.parentRunId": parent, "state": trial.state.name.lower()}
        run_id: str = client.create_run(experiment, tags=tags, run_name=f"trial {trial.number}").info.run_id
        log_params(client, run_id, {key: str(value) for key, value in trial.params.items()})
        now, curve = int(1000 * time.time()), trial.intermediate_values
        entries: Sequence[Any] = [Metric("validation_macro_f1", value, now, step) for step, value in curve.items()]
        client.log_batch(run_id, entries)
        client.set_terminated(run_id, "FINISHED")
        return run_id
