"""A store of MLflow: where it is, how it is opened, and what it takes.

MLflow reports its use to its makers unless MLFLOW_DISABLE_TELEMETRY is set before it is imported
(https://mlflow.org/docs/latest/community/usage-tracking.html); it is set here. The store is a file beside the run
unless another is named, so that nothing reaches the network unasked.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from neurodense.errors import MissingExtra, RunError
from neurodense.screen import Screen
from neurodense.training.sheet import Tracked

if TYPE_CHECKING:
    from mlflow import MlflowClient

Tool = Literal["mlflow"]

_WAIT_S = 300.0  # after a failure, before anything is sent again

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Before mlflow is imported."""
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Likewise, unless they are set: by default a server that is away holds up each call for minutes."""


def ask_to_track(run: Path, track: Tool | None, uri: str | None) -> Tracked | None:
    """Where a new run is tracked: `uri`, else MLFLOW_TRACKING_URI, else mlflow.db in the folder that holds the run.

    Raises:
        MissingExtra: MLflow is not installed.
        RunError: The address holds a password, or is given without `track`.
    """
    if track is None:
        if uri is not None:
            raise RunError("--tracking-uri says where, and nothing is tracked.", "Add --track mlflow.")
        return None
    if track != "mlflow":
        raise RunError(f"--track is {track!r}; allowed is mlflow.")
    if not installed():
        raise MissingExtra("mlflow", "mlflow")
    place = (
        uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///" + (run.resolve().parent / "mlflow.db").as_posix()
    )
    if re.search(r"//[^/@]*:[^/@]*@", place):
        raise RunError(
            "The address of the tracking store holds a password, which would be written to run.json.",
            "A server takes MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, PostgreSQL takes PGPASSWORD.",
        )
    if place.startswith("sqlite:///"):  # relative to here, not to where a resumed run is started
        place = "sqlite:///" + Path(place.removeprefix("sqlite:///")).resolve().as_posix()
    elif "://" not in place and not place.startswith("databricks"):
        place = Path(place.removeprefix("file:")).resolve().as_uri()
    return Tracked(place, os.environ.get("MLFLOW_EXPERIMENT_NAME") or "neurodense")


def installed() -> bool:
    """True where MLflow can be imported; it is not imported for that."""
    try:
        return importlib.util.find_spec("mlflow") is not None
    except ValueError:  # a module without a spec
        return False


class Courier:
    """Tries to send things to a store, and never fails: one that is away costs one warning.

    Args:
        uri: Of the store.
        screen: Warned.
    """

    def __init__(self, uri: str, screen: Screen) -> None:
        self._uri, self._screen = uri, screen
        self._warned, self._next_s = False, 0.0
        self._off = not installed()
        if self._off:
            screen.warn("mlflow is not installed, and nothing is tracked: pip install 'neurodense[mlflow]'")

    def attempt(self, work: Callable[[], object], *, patient: bool = True, more: str = "") -> bool:
        """Do `work`, which talks to the store; True if it came to its end.

        Args:
            work: May raise anything, and may be done again.
            patient: After a failure let some minutes pass first, in which nothing is done.
            more: What to say if it fails, behind the reason; it is said even after an earlier warning.
        """
        if self._off or (patient and time.monotonic() < self._next_s):
            return False
        try:
            with quietly():
                work()
        except Exception as error:  # of any kind of store, and of the network
            self._next_s = time.monotonic() + _WAIT_S
            if more or not self._warned:
                reason = " ".join(str(error).split())[:200]
                self._screen.warn(f"MLflow at {self._uri} is away ({type(error).__name__}: {reason}){more}")
            self._warned = True
            return False
        return True


@contextmanager
def quietly() -> Iterator[None]:
    """MLflow, Alembic and urllib3 tell of each retry and each table; one line of ours is enough."""
    loggers = [logging.getLogger(name) for name in ("mlflow", "alembic", "urllib3.connectionpool")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def new_client(uri: str) -> MlflowClient:
    """A client of a store; imports MLflow with its reports switched off."""
    os.environ.update(_SETTINGS)
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def experiment_id(client: MlflowClient, tracked: Tracked) -> str:
    """The experiment's id; it is made where there is none, a file's artifacts in the folder `mlartifacts` beside it."""
    found = client.get_experiment_by_name(tracked.experiment)
    if found is not None:
        return str(found.experiment_id)
    beside = None
    if tracked.uri.startswith("sqlite:///"):
        beside = (Path(tracked.uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri()
    return client.create_experiment(tracked.experiment, artifact_location=beside)


def log_params(client: MlflowClient, run_id: str, values: Mapping[str, str]) -> None:
    """Log parameters, of which one call takes 100."""
    from mlflow.entities import Param

    entries = [Param(key_of(name), value) for name, value in values.items()]
    for first in range(0, len(entries), 100):
        client.log_batch(run_id, params=entries[first : first + 100])


def key_of(name: str) -> str:
    """A name of a parameter or figure as MLflow takes it: classes are named as their folders are."""
    return re.sub(r"[^/\w.\- ]", "_", name)[:250]


def commit_tags() -> dict[str, str]:
    """The git commit of the folder that the training was started in, if there is one, by the name that MLflow shows."""
    try:
        from git import Repo

        return {"mlflow.source.git.commit": Repo(Path.cwd(), search_parent_directories=True).head.commit.hexsha}
    except Exception:  # no git, no repository, no commit
        return {}
