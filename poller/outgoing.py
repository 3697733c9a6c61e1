"""HTTP to servers that may do anything: what the adapters that call out have in common.

A request is sent once, over a pooled connection, with no cookies, no proxy from the environment, no redirect
and no decompression, so that no small reply can become a big one.
"""

from __future__ import annotations

import enum
import os
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace

from poller import __version__

USER_AGENT = f"poller/{__version__}"
KEEPALIVE_S = 75.0  # longer than most pauses between queries: a TLS handshake costs more than a query
RETRY_AFTER_CAP_S = 3600.0

# UnicodeError is what a host name of impossible labels comes to.
FAILURES = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError, UnicodeError)
BODY_FAILURES = (aiohttp.ClientPayloadError, HttpProcessingError)


class Failure(enum.Enum):
    """Why there was no whole response."""

    TIMEOUT = enum.auto()
    TLS = enum.auto()
    UNREACHABLE = enum.auto()
    GARBLED = enum.auto()


class CleanConnector(aiohttp.TCPConnector):
    """As many connections as its users use at once, none with something on it that nobody asked for.

    aiohttp would take an unsolicited response for the answer to the next request, and each answer after it for
    the answer to the one before: another order's "paid" (aio-libs/aiohttp#13656). `connected` is awaited once a
    new connection has been made, before anything is sent on it. Build it in the running loop.
    """

    def __init__(
        self, ssl_context: ssl.SSLContext | None = None, connected: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        super().__init__(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=ssl_context or True)
        self._connected = connected

    async def idle(self, key: ConnectionKey) -> Connection | None:
        """A kept connection, if there is one."""
        return await self._get(key, [])

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            break_off(connection)
        return None

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        protocol = await super()._create_connection(req, traces, timeout)
        if self._connected is not None:
            try:
                await self._connected()
            except BaseException:
                protocol.abort()
                raise
        return protocol


def break_off(connection: Connection) -> None:
    """End a connection at once. To close one with TLS waits half a minute for a server that does not answer."""
    if connection.protocol is not None:
        connection.protocol.abort()
    connection.close()


def open_session() -> aiohttp.ClientSession:
    """A session over a `CleanConnector`. Call it in the running loop, and close it.

    A request is sent again by no one: aiohttp does so with a GET alone.
    """
    return aiohttp.ClientSession(
        connector=CleanConnector(),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
    )


def total_timeout(seconds: float) -> aiohttp.ClientTimeout:
    """One bound over everything: name, connection, request, response and body, however slowly they come."""
    return aiohttp.ClientTimeout(total=seconds, ceil_threshold=seconds + 1.0)  # not rounded up


async def read_capped(response: aiohttp.ClientResponse, cap: int) -> bytes | None:
    """The whole body, or None where it is longer than `cap` bytes; the rest is then never read."""
    if (response.content_length or 0) > cap:
        response.close()
        return None
    body = bytearray()
    while chunk := await response.content.read(cap + 1 - len(body)):
        body += chunk
        if len(body) > cap:
            response.close()
            return None
    return bytes(body)


def failure_of(error: BaseException) -> tuple[Failure, str]:
    """Sort one of FAILURES, with a text for people that holds nothing of the URL, which may hold secrets."""
    match error:
        case TimeoutError():
            return Failure.TIMEOUT, "no whole reply in time"
        case ssl.SSLError():
            return Failure.TLS, _tls_text(error)
        case aiohttp.ClientConnectorDNSError() | UnicodeError():
            return Failure.UNREACHABLE, "the host name could not be resolved"
        case aiohttp.ClientConnectorError(errno=int(number)) if number > 0:
            return Failure.UNREACHABLE, f"no connection: {os.strerror(number)}"
        case aiohttp.ClientPayloadError() | HttpProcessingError():
            return Failure.GARBLED, "the body of the reply was broken off or garbled"
        case aiohttp.ClientConnectionError() | OSError():
            return Failure.UNREACHABLE, "the connection broke before the reply was there"
        case _:
            return Failure.GARBLED, "the reply was not valid HTTP"


def retry_after_seconds(header: str | None, now: datetime | None) -> float | None:
    """`Retry-After` in seconds from 0 to an hour; None where there is none or it means nothing.

    An HTTP date is measured against `now`, best the `Date` header of the same response, since the server
    made both with one clock; without `now` it says nothing.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), RETRY_AFTER_CAP_S)
    until = http_date(text)
    if until is None or now is None:
        return None
    return min(max((until - now).total_seconds(), 0.0), RETRY_AFTER_CAP_S)


def http_date(header: str | None) -> datetime | None:
    """An HTTP date (RFC 9110, 5.6.7), aware, in UTC; None where it is none."""
    try:
        at = parsedate_to_datetime(header or "")
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _tls_text(error: ssl.SSLError) -> str:
    certificate = getattr(error, "certificate_error", error)
    if isinstance(certificate, ssl.SSLCertVerificationError) and certificate.verify_message:
        reason = certificate.verify_message.rstrip(".")
        return f"the certificate is not believed: {reason}; or the clock of this machine is wrong"
    reason = getattr(getattr(error, "os_error", error), "reason", None) or "handshake failed"
    return f"TLS failed: {reason}; or the clock of this machine is wrong"
