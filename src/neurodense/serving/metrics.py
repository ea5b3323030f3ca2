"""Figures of a running service, in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

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
        """A gauge that is read when somebody asks."""
        Gauge(f"neurodense_{name}", text, registry=self._registry).set_function(value)

    def text(self, accept: str) -> tuple[bytes, str]:
        """All figures, and their media type, in the version that `accept` prefers."""
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind
