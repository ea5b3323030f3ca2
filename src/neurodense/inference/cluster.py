"""Shards through Ray Data: a pool of actors, each with the model and one thread, takes them as it gets free.

What goes through Ray is the number of a shard and the count of its rows. Files are read, decoded and predicted inside
one actor by the pipeline of `Predictor` and written there, so no image is copied between processes, and no queue can
grow: back-pressure is that an actor takes a shard when it has none.

A Ray of its own listens on the loopback address only, has no dashboard and sends no statistics of use.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from neurodense.errors import NeurodenseError, RunError
from neurodense.inference.predictor import Predictor
from neurodense.inference.shard import Plan, answer_shard
from neurodense.inference.threads import VARIABLE, usable_cores

_AGAIN: Final = "Mend it and give the same command: what is done stays."
_STORE = 2**27  # bytes of the object store, in which nothing large ever lies
_QUIET: Final = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # else workers of `uv run` resolve the environment once more
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",  # the workers are the work
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
_LOCAL: Final = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on every system: what Ray takes for its own address is the loopback one
    "AUTOSCALER_METRIC_PORT": "0",
}


class Worker:
    """What an actor runs: `plan.predictor()` once, then shard after shard."""

    def __init__(self, plan: Plan) -> None:
        os.environ[VARIABLE] = "1"  # two threads read for the one that runs the graph
        self._plan = plan
        self._predictor: Predictor | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Numbers of shards in; their counts of rows out, or what stops the whole run."""
        done: dict[str, list[Any]] = {"predictions": [], "errors": [], "problem": [], "hint": []}
        for number in batch["shard"]:
            counts, problem, hint = (0, 0), "", ""
            try:
                if not (self._plan.out / "manifest.json").is_file():
                    raise RunError(
                        f"{self._plan.out} is not there on node {platform.node()}.",
                        "All nodes must see the results, the model and the files at the same paths.",
                    )
                self._predictor = self._predictor or self._plan.predictor()
                counts = answer_shard(self._plan, self._predictor, int(number))
            except NeurodenseError as error:
                problem, hint = error.message, error.hint or ""
            except OSError as error:
                problem = f"{error.filename or self._plan.out}: {error.strerror or error}"
            except Exception as error:  # not the files: they were gone through one by one
                problem = f"Shard {number}: {type(error).__name__}: {error}"
            for key, value in zip(done, (*counts, problem, hint), strict=True):
                done[key].append(value)
        return done


def run_shards(
    plan: Plan, shards: Sequence[int], address: str | None, workers: int | None
) -> Iterator[tuple[int, int]]:
    """Answer shards, in no order; gives rows of predictions and of errors of each as it is done.

    Args:
        plan: Of the run.
        shards: Their numbers.
        address: Of a running cluster; None starts Ray here, unless the program has started it already.
        workers: One thread each; None takes every CPU that Ray has.

    Raises:
        RunError: No cluster at the address, or a worker cannot go on; what is done stays.
    """
    with _ray(address, workers) as ray:
        there = int(ray.cluster_resources().get("CPU", 1))
        pool = ray.data.ActorPoolStrategy(
            min_size=1, max_size=(size := max(1, min(workers or there, there, len(shards)))), initial_size=size,
            max_tasks_in_flight_per_actor=1,
        )  # fmt: skip
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        queue = ray.data.from_items([{"shard": number} for number in shards], override_num_blocks=len(shards))
        results = queue.map_batches(
            Worker, fn_constructor_args=(plan,), batch_size=1, compute=pool, num_cpus=1, zero_copy_batch=False
        )
        try:
            for batch in results.iter_batches(batch_size=None, prefetch_batches=0):
                for predictions, errors, problem, hint in zip(*(batch[key].tolist() for key in batch), strict=True):
                    if problem:
                        raise RunError(problem, hint or _AGAIN)
                    yield predictions, errors
        except ray.exceptions.RayError as error:
            raise RunError(f"Ray cannot go on: {str(error).strip().splitlines()[-1]}", _AGAIN) from error


@contextmanager
def _ray(address: str | None, workers: int | None) -> Iterator[Any]:
    """Ray, running."""
    for name, value in {**_QUIET, **({} if address else _LOCAL)}.items():
        os.environ.setdefault(name, value)  # read when Ray is imported, and handed to its processes
    import ray
    import ray.data

    if ray.is_initialized():
        yield ray
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(
                address="local", num_cpus=workers or usable_cores(), object_store_memory=_STORE,
                include_dashboard=False, _node_ip_address="127.0.0.1", **quiet,
            )  # fmt: skip
    except Exception as error:  # ConnectionError, ValueError, and a plain one where starting takes too long
        where = f"at {address}" if address else "on this machine"
        first = str(error).strip().partition("\n")[0]
        raise RunError(
            f"No Ray {where}: {first}", "ray start --head   starts one; --address HOST:PORT joins it"
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()
