"""What made a result, and the UIDs that follow from it."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from neurodense import __version__
from neurodense.inference.predictor import GRAPH, INT8_GRAPH, Predictor


@dataclass(frozen=True)
class Provenance:
    """The model and the way in which it was run.

    Attributes:
        model: Name of the model, from its card.
        graph: File of the graph.
        graph_sha256: Its hash, in hex.
        card_sha256: Hash of the card, in hex: of calibration, classes and the hashes of all files of the model.
        engine: What ran the graph.
        precision: In which precision.
        slices: Which slices of a volume were looked at.
        error: Error rate of the prediction sets; None without sets.
        version: Of neurodense.
    """

    model: str
    graph: str
    graph_sha256: str
    card_sha256: str
    engine: str
    precision: str
    slices: str
    error: float | None
    version: str = __version__

    @classmethod
    def of(cls, predictor: Predictor, slices: str) -> Provenance:
        """Of the answers that `predictor` gives for these slices."""
        card = predictor.card
        graph = INT8_GRAPH if predictor.precision == "int8" else GRAPH
        return cls(
            model=card.name,
            graph=graph,
            graph_sha256=card.files[graph],
            card_sha256=hashlib.sha256(card.model_dump_json().encode()).hexdigest(),
            engine=predictor.engine,
            precision=predictor.precision,
            slices=slices,
            error=predictor.sets.error if predictor.sets else None,
        )

    def equipment(self, what: str) -> dict[str, Any]:
        """General Equipment (Part 3, C.7.5.1) and the description of a series of `what`, as highdicom names them."""
        return {
            "manufacturer": "neurodense",
            "manufacturer_model_name": self.model[:64],
            "device_serial_number": self.card_sha256[:16],
            "software_versions": self.version,
            "series_description": f"neurodense {self.model[:30]}: {what}, research only",
        }

    def uid(self, kind: str, sources: Iterable[str]) -> str:
        """A UID that the same model gives the same sources, and no others.

        It is of the form 2.25.N, with N a UUID (Part 5, B.2): the first 128 bits of a SHA-256, marked as version 8 of
        RFC 9562.

        Args:
            kind: What is named: a series or an object of a certain kind.
            sources: UIDs of the images, in any order.
        """
        digest = hashlib.sha256(repr((kind, self, sorted(sources))).encode()).digest()
        number = int.from_bytes(digest[:16])
        number = number & ~(0xF << 76) | 8 << 76
        number = number & ~(3 << 62) | 2 << 62
        return f"2.25.{uuid.UUID(int=number).int}"
