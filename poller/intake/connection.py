"""One client's connection: what it may take of the daemon's places, time and memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import BadStatusLine, InvalidHeader, InvalidURLError, LineTooLong

from poller.intake.problems import CONTENT_TYPE, Problem, defect

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the intake; times in seconds."""

    connections: int = 256
    streams: int = 32  # Server-Sent Events at once
    body_bytes: int = 10 * 1024 * 1024  # 1,000 orders of the largest size, every character escaped
    request_seconds: float = 10.0  # a request's head and body, however slowly the bytes come
    idle_seconds: float = 75.0  # keep-alive
    stalled_seconds: float = 60.0  # a client that reads nothing of its answer
    linger_seconds: float = 2.0  # reading on after an answer, so that the client gets to see it
    drain_seconds: float = 2.0  # requests under way when the intake stops
    heartbeat_seconds: float = 15.0


@dataclass(slots=True, eq=False)
class Lobby:
    """The connections that are open now."""

    limits: Limits
    open: set[Connection] = field(default_factory=set)
    stopping: bool = False

    def stop(self) -> None:
        """End every long poll and stream with what stands."""
        self.stopping = True
        for connection in self.open:
            connection.interrupt()


class Connection(web.RequestHandler):
    """aiohttp's protocol, with bounds on how long a request may take to come in and an answer to go out."""

    __slots__ = ("_busy", "_head_timer", "_limits", "_lobby", "_received_at", "_refused", "_scope", "_stall_timer")

    def __init__(self, server: web.Server, lobby: Lobby, loop: asyncio.AbstractEventLoop) -> None:
        limits = lobby.limits
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=limits.idle_seconds,
            lingering_time=limits.linger_seconds,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to have none
            auto_decompress=False,
        )
        self._lobby = lobby
        self._limits = limits
        self._busy = False
        self._refused = False
        self._received_at = 0.0
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._scope: asyncio.Timeout | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if len(self._lobby.open) >= self._limits.connections:
            self._refused = True
            full = Problem(503, "too many connections; close some and try again", headers={"Retry-After": "1"})
            stream = cast("asyncio.Transport", transport)
            stream.write(_raw(full))
            stream.close()
            return
        self._lobby.open.add(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lobby.open.discard(self)
        for timer in (self._head_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        self.interrupt()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if data and not self._busy and self._head_timer is None:
            self._received_at = self._loop.time()
            self._head_timer = self._loop.call_later(self._limits.request_seconds, self._head_too_slow)
        super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self._loop.call_later(self._limits.stalled_seconds, self._stalled)

    def resume_writing(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        super().resume_writing()

    def begin(self) -> None:
        """A request's head is in and its handler starts."""
        self._busy = True
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        else:  # it came while the one before was handled
            self._received_at = self._loop.time()

    def finish(self) -> None:
        """The handler has its answer."""
        self._busy = False

    @property
    def body_deadline(self) -> float:
        """The loop's time by which the body of the request under way must be in."""
        return self._received_at + self._limits.request_seconds

    @asynccontextmanager
    async def patience(self) -> AsyncIterator[None]:
        """What waits in here is cut short, without an error, when the client goes or the intake stops."""
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scope = scope
                if self._lobby.stopping or self.transport is None:
                    self.interrupt()
                yield
        except TimeoutError:
            if not scope.expired():
                raise
        finally:
            self._scope = None

    def interrupt(self) -> None:
        """Cut short what waits in `patience`."""
        scope, self._scope = self._scope, None
        if scope is not None:
            scope.reschedule(self._loop.time())

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what never reached a handler: bytes that are not HTTP, heads beyond the limits."""
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionResetError("the client has gone") from exc
        if status >= 500:
            log.error("intake.defect", exc_info=exc)
        response = _unreadable(status, exc).response()
        response.force_close()
        return response

    def _head_too_slow(self) -> None:
        self._head_timer = None
        if self.transport is not None:
            self.transport.write(_raw(too_slow(self._limits)))
        self.force_close()

    def _stalled(self) -> None:
        self._stall_timer = None
        if self.transport is not None:
            self.transport.abort()


def _unreadable(status: int, error: BaseException | None) -> Problem:
    """What is wrong with a head, without a word of it: aiohttp's own texts repeat the token's line."""
    match error:
        case LineTooLong():
            reason = "a line of its head is too long"
        case InvalidHeader():
            reason = "a header is not valid"
        case BadStatusLine() | InvalidURLError():
            reason = "its first line is not METHOD /path HTTP/1.1"
        case _ if status >= 500:
            return defect()
        case _:
            reason = HTTPStatus(status).phrase
    return Problem(status, f"not a well-formed request: {reason}")


def too_slow(limits: Limits) -> Problem:
    return Problem(408, f"the request took longer than {limits.request_seconds:g} s to come in; send it faster")


def _raw(problem: Problem) -> bytes:
    body = problem.body()
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}", f"Content-Type: {CONTENT_TYPE}"]
    lines += [f"{name}: {value}" for name, value in problem.headers.items()]
    lines += [f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def connection_of(request: web.Request) -> Connection:
    """The connection that a request came by."""
    return cast("Connection", request.protocol)
