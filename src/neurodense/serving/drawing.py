"""The heat map of one slice as PNG, for `/v1/explain`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from http import HTTPStatus

from neurodense.inference.overlay import draw
from neurodense.scans.study import Failure
from neurodense.serving.problems import Problem
from neurodense.serving.service import Answered, Service, outcome


async def png_of(results: Sequence[Answered | Failure], service: Service, label: str | None) -> bytes:
    """The picture that `neurodense predict --explain` writes.

    Args:
        results: Of one request, with the scans kept.
        service: Whose model explains.
        label: The class; the most probable one where None.

    Raises:
        Problem: The request is of more than one slice, or of none that can be read.
    """
    if all(isinstance(one, Failure) for one in results):
        detail = "No file could be read as an image."
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, predictions=outcome(results))
    scans = [scan for one in results if isinstance(one, Answered) for scan in one.kept]
    if len(results) > 1 or len(scans) > 1:
        detail = (
            f"A picture is of one slice, and the request is of {max(len(results), len(scans))}. Send one file, of a "
        )
        raise Problem(
            HTTPStatus.BAD_REQUEST, detail + "volume with slices=middle or slices=range:5-5; or ask for JSON."
        )

    def drawn() -> bytes:
        file = io.BytesIO()
        draw(service.predictor.explain(scans[0], label)).save(file, "PNG")
        return file.getvalue()

    return await service.run(drawn)
