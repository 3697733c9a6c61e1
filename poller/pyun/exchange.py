"""One GET, one response, over a pooled connection: aiohttp's connector and parser, without its session.

What a session adds (cookies, redirects, proxies, tracing, sending again what broke) has to be off here anyway, and
costs more than all the rest of a query: tests/bench/README.md has the figures.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple, cast

import aiohttp
from aiohttp.connector import Connection
from aiohttp.helpers import EMPTY_BODY_STATUS_CODES, TimerNoop
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from multidict import CIMultiDictProxy
from yarl import URL

from poller.outgoing import BODY_FAILURES, USER_AGENT, CleanConnector, break_off, failure_of

HEADERS = f"User-Agent: {USER_AGENT}\r\nAccept: */*\r\nAccept-Encoding: identity\r\n"
_UNBOUND = aiohttp.ClientTimeout(total=None)  # the caller bounds the whole
_NO_TIMER = TimerNoop()


class Response(NamedTuple):
    """`body` is None where it did not come whole; `spoilt` then says why, in words that hold nothing of it."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes | None
    spoilt: str = ""


class Exchange:
    """GETs to one server. `connected` is awaited on a new connection before anything is sent on it.

    Build it in the running loop, and close it. A call that is cancelled ends its connection.
    """

    def __init__(
        self, url: URL, ssl_context: ssl.SSLContext | None, connected: Callable[[], Awaitable[None]] | None
    ) -> None:
        self._connector = CleanConnector(ssl_context, connected)
        # Never sent: it says where to connect to.
        self._loop = asyncio.get_running_loop()
        self._where = aiohttp.ClientRequest("GET", url, loop=self._loop)
        self._key = self._where.connection_key
        self._start = f"GET {url.raw_path}?"
        host = self._where.headers["Host"]
        self._rest = f" HTTP/1.1\r\nHost: {host}\r\n{HEADERS}\r\n"

    async def get(self, query: str, cap: int, seconds: float) -> Response:
        """Send `query`, percent-encoded, and read a body of at most `cap` bytes, all within so many seconds.

        Raises `outgoing.FAILURES`.
        """
        due = self._loop.time() + seconds
        connection = await self._connector.idle(self._key)
        if connection is None:
            async with asyncio.timeout_at(due):
                connection = await self._connector.connect(self._where, [], _UNBOUND)
        deadline = _Deadline()
        timer = self._loop.call_at(due, deadline.pass_by)
        try:
            message, content = await self._send(connection, f"{self._start}{query}{self._rest}".encode("ascii"))
            response = await _read(message, content, cap)
        except BaseException as error:
            break_off(connection)
            if deadline.ended(error):
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
        # A server that is wrong about a body it may not send sends it where the next response belongs.
        if response.body is None or response.status in EMPTY_BODY_STATUS_CODES:
            break_off(connection)
        else:
            connection.release()
        return response

    async def close(self) -> None:
        """End every connection. Exchanges under way fail."""
        await self._connector.close()

    async def _send(self, connection: Connection, request: bytes) -> tuple[RawResponseMessage, StreamReader]:
        protocol = connection.protocol
        if protocol is None or protocol.transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(timer=_NO_TIMER, auto_decompress=False, read_until_eof=True)
        protocol.transport.write(request)
        try:
            while True:
                message, content = await protocol.read()
                if message.code >= 200 or message.code == 101:
                    return message, content
        except HttpProcessingError as error:
            raise aiohttp.ClientError("not valid HTTP") from error


class _Deadline:
    """As `asyncio.timeout` for the running task, at a quarter of its price, which every query pays."""

    __slots__ = ("_cancelled_before", "_passed", "_task")

    def __init__(self) -> None:
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._cancelled_before = self._task.cancelling()
        self._passed = False

    def pass_by(self) -> None:
        """The time is up."""
        self._passed = True
        self._task.cancel()

    def ended(self, error: BaseException) -> bool:
        """Whether it is this that has ended the task's work, and nobody else has cancelled it besides."""
        if not self._passed:
            return False
        return self._task.uncancel() <= self._cancelled_before and isinstance(error, asyncio.CancelledError)


async def _read(message: RawResponseMessage, content: StreamReader, cap: int) -> Response:
    """The response with its whole body, or without one where it is longer than `cap` bytes or breaks off."""
    length = message.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > cap:
        return _too_long(message, cap)
    body = b""
    try:
        if content.is_eof():  # as nearly always: it came with the head
            body = content.read_nowait(cap + 1)
            return Response(message.code, message.headers, body) if len(body) <= cap else _too_long(message, cap)
        while chunk := await content.read(cap + 1 - len(body)):
            body += chunk
            if len(body) > cap:
                return _too_long(message, cap)
    except BODY_FAILURES as error:
        return Response(message.code, message.headers, None, failure_of(error)[1])
    return Response(message.code, message.headers, body)


def _too_long(message: RawResponseMessage, cap: int) -> Response:
    return Response(message.code, message.headers, None, f"a body of more than {cap} bytes")
