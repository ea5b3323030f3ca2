"""Figures of a running service, in the text format of Prometheus.

Several processes of one service keep theirs in a folder that they share, as prometheus_client's multiprocess mode has
it, so that whichever answers speaks for all. That mode is on where FOLDER is set before prometheus_client is imported.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of prometheus_client: where processes keep what they count."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """The figures, in a registry of their own.

    Attributes:
        requests: Answered requests, by route and status.
        seconds: From the first byte to the answer, by route.
        studies: Pictures and studies, by whether they were answered or could not be read.
        rejected: Requests that were turned away, by the status that said so.
        runs: Slices of a run of the engine.
        run_seconds: Of a run of the engine.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self._shared = FOLDER in os.environ
        self.requests = Counter(
            "neurodense_requests_total", "Answered requests.", ("route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "neurodense_request_seconds", "Time to the answer.", ("route",), buckets=_SECONDS, registry=registry
        )
        self.studies = Counter(
            "neurodense_studies_total", "Pictures and studies, answered or unreadable.", ("end",), registry=registry
        )
        self.rejected = Counter(
            "neurodense_rejections_total", "Requests turned away, by status.", ("status",), registry=registry
        )
        self.runs = Histogram(
            "neurodense_batch_slices", "Slices of a run of the engine.", buckets=(1, 2, 4, 8, 16, 32), registry=registry
        )
        self.run_seconds = Histogram(
            "neurodense_batch_seconds", "Time of a run of the engine.", buckets=_SECONDS, registry=registry
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """A gauge: the sum of what all processes have now."""
        gauge = Gauge(f"neurodense_{name}", text, registry=self._registry, multiprocess_mode="livesum")
        self._gauges.append((gauge, value))

    def changed(self) -> None:
        """Show the others what the gauges of this process are."""
        if self._shared:
            self._read()

    def text(self, accept: str) -> tuple[bytes, str]:
        """All figures of all processes, and their media type, in the version that `accept` prefers."""
        self._read()
        registry = self._registry
        if self._shared:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        encode, kind = choose_encoder(accept)
        return encode(registry), kind

    def _read(self) -> None:
        for gauge, value in self._gauges:
            gauge.set(value())
