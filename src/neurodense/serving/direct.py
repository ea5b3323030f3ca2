"""The route that has nearly all requests, without FastAPI's machinery where there is nothing for it to check.

A request without a query has no parameter, so that of what FastAPI does for it, resolving dependencies, four layers of
middleware and three exit stacks, nothing is needed. All others, and the OpenAPI document, are FastAPI's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from neurodense.serving.problems import Problem


class Direct:
    """ASGI middleware before the router.

    Args:
        app: What has every other request.
        route: Of `app`, by its path; what the shield counts the request as.
        answer: Answers a POST to it that has no query, as the route itself would.
    """

    def __init__(self, app: ASGIApp, route: Route, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._app, self._route, self._answer = app, route, answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. An unforeseen error is the shield's to answer."""
        if scope.get("method") != "POST" or scope["path"] != self._route.path or scope["query_string"]:
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route
        try:
            response = await self._answer(Request(scope, receive))
        except Problem as problem:
            response = problem.response()
        await response(scope, receive, send)
