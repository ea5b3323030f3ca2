"""Every error of the service, as problem details (RFC 9457): what was wrong, what was got, what is allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

MEDIA_TYPE: Final = "application/problem+json"


class Problem(Exception):  # noqa: N818  (the RFC's own word)
    """An answer that is an error.

    Args:
        status: Of HTTP.
        detail: What was wrong with this request, for a person.
        headers: Sent with it.
        more: Further members of the object.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, dict(headers or {}), more

    def response(self) -> Response:
        """What is sent."""
        # No `type`: it is then about:blank, and the title is that of the status (RFC 9457, 4.2.1).
        title = HTTPStatus(self.status).phrase
        body = {"title": title, "status": self.status, "detail": self.detail, **self.more}
        return Response(json.dumps(body, ensure_ascii=False).encode(), self.status, self.headers, MEDIA_TYPE)


def busy(detail: str, seconds: int) -> Problem:
    """No room now; `seconds` is when to come again."""
    return Problem(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(seconds)})
