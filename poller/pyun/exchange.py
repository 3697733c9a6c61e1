"""One GET, one response, over a pooled connection: aiohttp's connector and parser, without its session.

What a session adds (cookies, redirects, proxies, tracing, sending again what broke) has to be off here anyway, and
costs more than all the rest of a query: tests/bench/README.md has the figures.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True)
class Response:
    """`body` is None where it did not come whole; `spoilt` then says why, in words that hold nothing of it."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes | None
    spoilt: str = ""


class Exchange:
    """GETs to one server. `connected` is awaited on a new connection before anything is sent on it.

    Build it in the running loop, and close it. How long a call may take is its caller's to bound: cancelled, it
    ends its connection.
    """

    def __init__(
        self, url: URL, ssl_context: ssl.SSLContext | None, connected: Callable[[], Awaitable[None]] | None
    ) -> None:
        self._connector = CleanConnector(ssl_context, connected)
        # Never sent: it says where to connect to.
        self._where = aiohttp.ClientRequest("GET", url, loop=asyncio.get_running_loop())
        self._start = f"GET {url.raw_path}?"
        host = self._where.headers["Host"]
        self._rest = f" HTTP/1.1\r\nHost: {host}\r\n{HEADERS}\r\n"

    async def get(self, query: str, cap: int) -> Response:
        """Send `query`, percent-encoded, and read a body of at most `cap` bytes. Raises `outgoing.FAILURES`."""
        connection = await self._connector.connect(self._where, [], _UNBOUND)
        try:
            message, content = await self._send(connection, f"{self._start}{query}{self._rest}".encode("ascii"))
            response = await _read(message, content, cap)
        except BaseException:
            break_off(connection)
            raise
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


async def _read(message: RawResponseMessage, content: StreamReader, cap: int) -> Response:
    """The response with its whole body, or without one where it is longer than `cap` bytes or breaks off."""
    too_long = Response(message.code, message.headers, None, f"a body of more than {cap} bytes")
    length = message.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > cap:
        return too_long
    body = b""
    try:
        while chunk := await content.read(cap + 1 - len(body)):
            body += chunk
            if len(body) > cap:
                return too_long
    except BODY_FAILURES as error:
        return Response(message.code, message.headers, None, failure_of(error)[1])
    return Response(message.code, message.headers, body)
