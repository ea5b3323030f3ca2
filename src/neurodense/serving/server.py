"""The process: checks who may reach it, loads the model, listens, and ends when the last answer was given."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import sys
import tempfile
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import h11
import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors import Multiprocess

from neurodense.errors import DataError
from neurodense.inference.predictor import MANY, Predictor
from neurodense.inference.threads import usable_cores
from neurodense.serving.app import build
from neurodense.serving.limits import Limits
from neurodense.serving.metrics import FOLDER
from neurodense.serving.problems import Problem
from neurodense.serving.service import Service
from neurodense.serving.shield import LOOPBACK, Shield
from neurodense.serving.token import read_token

_TOKEN_LENGTH = 16  # of our own; an archive's may be as short as its maker had it
_BACKLOG = 2048
_WORKER_S = 60  # a process that does not answer its parent for so long is replaced; loading a model takes seconds


@dataclass(frozen=True)
class Settings:
    """What a server process needs; it is sent to each.

    Attributes:
        model: The model folder.
        token: What clients must show; None lets everybody in who reaches it.
        local: Whether it listens on this machine alone.
        limits: What it takes on.
        engine: Arguments of `Predictor`.
    """

    model: Path
    token: str | None
    local: bool
    limits: Limits
    engine: dict[str, Any]

    def __call__(self) -> Shield:
        """The application, with the model loaded and run once."""
        _log_to_stderr()
        service = Service(Predictor(self.model, streams=MANY, **self.engine), self.limits)
        service.warm()
        app = build(service, self.token, local=self.local)
        gc.collect()
        gc.freeze()  # what was loaded stays: no collection during a request goes through it
        return app


def serve(
    model: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    token_file: Path | None = None,
    insecure: bool = False,
    limits: Limits | None = None,
    **engine: Any,
) -> None:
    """Serve a model until SIGINT or SIGTERM; what was accepted by then is answered.

    Args:
        model: The model folder.
        host: Name or address to listen on. Beyond this machine, a token is needed, or `insecure`.
        port: 0 takes a free one.
        workers: Processes, which share the cores; each has the model and limits of its own.
        token_file: Its first line is the token.
        insecure: Listen beyond this machine without a token.
        limits: Those of `Limits` where None.
        engine: Arguments of `Predictor`.

    Raises:
        DataError: The host needs a token, the token file is unfit, or the address cannot be listened on.
        ModelError: The folder is no model folder.
    """
    token = None if token_file is None else read_token(token_file, least=_TOKEN_LENGTH)
    local = is_loopback(host)
    if not local and token is None and not insecure:
        raise DataError(
            f"{host} can be reached from other machines, and no token is set.",
            "--token-file FILE lets in those who have the token; --insecure lets in everybody",
        )
    if workers > 1:
        engine["threads"] = max(1, (engine.get("threads") or usable_cores()) // workers)
    limits = limits or Limits()
    settings = Settings(model, token, local, limits, engine)
    _log_to_stderr()
    if workers == 1:
        app: Any = settings()
    else:
        Predictor(model, **engine)  # what is wrong with it is said once, not by each process
        app = settings
    config = uvicorn.Config(
        app,
        factory=workers > 1,
        workers=workers,
        loop="asyncio" if sys.platform == "win32" else f"{__name__}:Loop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_worker_healthcheck=_WORKER_S,
        timeout_graceful_shutdown=round(limits.idle_s + limits.answer_s),
    )
    with _listening(host, port) as place:
        shown = f"[{host}]" if ":" in host else host
        logging.getLogger("neurodense.serving").info("http://%s:%d", shown, place.getsockname()[1])
        if workers == 1:
            uvicorn.Server(config).run(sockets=[place])
        else:
            with tempfile.TemporaryDirectory(prefix="neurodense-metrics-") as folder:
                os.environ[FOLDER] = folder  # the processes that are started find it there
                Workers(config, [place]).run()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there. A name other than localhost may mean anything."""
    if host in LOOPBACK:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Workers(Multiprocess):
    """The processes; of one that died, what it had at once does not count any more."""

    def keep_subprocess_alive(self) -> None:
        """Start others in place of those that died."""
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            mark_process_dead(pid, os.environ[FOLDER])  # type: ignore[no-untyped-call]


class Loop(asyncio.SelectorEventLoop):
    """Takes one connection at a time from the socket that several processes wait at, and knows when that is closed.

    By itself a loop takes all that are there: of clients that come together, and whose connections stay, one process
    would have most and another none.
    """

    _listening: asyncio.Server | None = None

    async def create_server(self, *args: Any, sock: socket.socket, backlog: int, **kwargs: Any) -> asyncio.Server:  # type: ignore[override]
        """As the base class does, of a socket; asyncio takes `backlog` for how many to accept in a turn as well."""
        self._listening = await super().create_server(*args, sock=sock, backlog=1, **kwargs)
        sock.listen(backlog)
        return self._listening

    @property
    def closed_to_new(self) -> bool:
        """Whether it has listened, and does no more."""
        return self._listening is not None and not self._listening.is_serving()


class _Connection(h11.Connection):
    """Gives an answer's head together with what comes behind it, so that both are one piece on the wire."""

    _head = b""

    def send(self, event: h11.Event) -> bytes | None:  # type: ignore[override]  # no overloads
        """The bytes for an event; of a final head none yet."""
        data = super().send(event)
        if isinstance(event, h11.Response):
            self._head = data or b""
            return b""
        head, self._head = self._head, b""
        return head + data if data is not None else data


class Protocol(H11Protocol):
    """HTTP/1.1; what is no HTTP gets problem details too, and who does not finish a request's headers is let go.

    Attributes:
        headers_s: How long the headers may take.
        grace_s: How long an idle connection stays open when the service ends.
    """

    headers_s, grace_s = 20.0, 0.5
    _ending = False
    _late: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = _Connection(h11.SERVER)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for headers; where the listening ended since it was accepted, not for long: nobody else will end it."""
        super().connection_made(transport)
        self._late = self.loop.call_later(self.headers_s, transport.close)
        if isinstance(self.loop, Loop) and self.loop.closed_to_new:
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        """Wait no longer once they are whole; begin where they begin behind an earlier request."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
            if self._ending:
                self._last()
        elif self._late is None:
            self._late = self.loop.call_later(self.headers_s, self.transport.close)

    def shutdown(self) -> None:
        """End the connection; where it is idle, after a request that may be on its way already."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._last()
        elif self._ending:
            super().shutdown()
        else:
            self._ending = True
            self.loop.call_later(self.grace_s, self.shutdown)

    def _last(self) -> None:
        """Close behind the answer that is due, and say so in it: else the client sends another into the closing."""
        assert self.cycle is not None
        self.cycle.keep_alive = False
        scope = self.cycle.scope
        scope["headers"] = [*scope["headers"], (b"connection", b"close")]  # as if the client had asked for it

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _stop_waiting(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def send_400_response(self, msg: str) -> None:
        """Say so, and close."""
        answer = Problem(HTTPStatus.BAD_REQUEST, "This is no sound HTTP/1.1 request.").response()
        headers = [*answer.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        place = socket.socket(family, kind, protocol)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(address)
        place.listen(_BACKLOG)
        place.set_inheritable(True)
    except OSError as error:
        raise DataError(f"{host}:{port} cannot be listened on: {error.strerror or error}.", "--port 0") from None
    return place


def _log_to_stderr() -> None:
    ours, theirs = logging.getLogger("neurodense.serving"), logging.getLogger("uvicorn")
    if ours.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for logger, level in ((ours, logging.INFO), (theirs, logging.WARNING)):
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
