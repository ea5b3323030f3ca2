"""What stands before every route: who may ask, what every answer carries, and what the log says of it.

The log has one line for each request: method, route, status, milliseconds. No address, name, query or content is in it,
and of an unforeseen error only its type and the place in the code, since its words may quote a file.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
import traceback
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neurodense.serving.metrics import Metrics
from neurodense.serving.problems import Problem

log = logging.getLogger("neurodense.serving")

OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
"""Paths that need no token, beside those below /page/: nothing of a patient or the model is in them."""
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]


class Shield:
    """ASGI middleware, the outermost.

    Args:
        app: What it stands before.
        metrics: Told of each answer.
        token: What a client must show as `Authorization: Bearer TOKEN`; None lets everybody in.
        local: Whether the service listens on this machine alone: then it answers to no other host's name, so that a
            page whose name was made to point here (DNS rebinding) gets nothing.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, token: str | None, *, local: bool) -> None:
        self._app, self._metrics, self._local = app, metrics, local
        self._digest = None if token is None else _digest(token.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status = time.monotonic(), 0

        async def dressed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name for name, _ in message["headers"]}
                ours = [pair for pair in _RAW_HEADERS if pair[0] not in given]
                message = {**message, "headers": [*message["headers"], *ours]}
            await send(message)

        try:
            problem = self._refusal(scope)
            if problem is None:
                await self._app(scope, receive, dressed)
            else:
                await problem.response()(scope, receive, dressed)
        except Exception as error:
            log.error("%s", _where(error))
            if not status:
                problem = Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed on this request.")
                await problem.response()(scope, receive, dressed)
        finally:
            self._count(scope, status, time.monotonic() - start)

    def _refusal(self, scope: Scope) -> Problem | None:
        headers, path = Headers(scope=scope), scope["path"]
        if self._local and _host(headers) not in LOOPBACK:
            return Problem(HTTPStatus.MISDIRECTED_REQUEST, "This service answers to localhost alone.")
        origin = headers.get("origin")
        if origin is not None and origin != f"{scope['scheme']}://{headers.get('host', '')}":
            return Problem(HTTPStatus.FORBIDDEN, "Pages of other origins may not use this service.")
        if self._digest is None or path in OPEN or path.startswith("/page/"):
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        # Digests are compared, in constant time, so that not even the length of the token is told.
        same = hmac.compare_digest(_digest(given.strip().encode("latin-1", "replace")), self._digest)
        if same and kind.lower() == "bearer":
            return None
        return Problem(HTTPStatus.UNAUTHORIZED, "A token is needed.", {"WWW-Authenticate": "Bearer"})

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")  # never the path itself, which a client made up
        self._metrics.requests.labels(route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if status in (401, 403, 408, 413, 421, 429, 503):
            self._metrics.rejected.labels(status).inc()
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
        log.info("%s %s %d %.0f ms", method, route, status, 1e3 * seconds)


def _host(headers: Headers) -> str | None:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname
    except ValueError:  # a bracket that is not closed
        return None


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _where(error: BaseException) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {place.filename.rpartition('neurodense/')[2]}:{place.lineno}"
