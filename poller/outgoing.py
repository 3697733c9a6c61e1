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
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace

from poller import __version__

KEEPALIVE_S = 75.0  # longer than most pauses between queries: a TLS handshake costs more than a query
RETRY_AFTER_CAP_S = 3600.0

# UnicodeError is what a host name of impossible labels comes to.
FAILURES = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError, UnicodeError)
BODY_FAILURES = (aiohttp.ClientPayloadError, HttpProcessingError)


class BrokenConnectionError(aiohttp.ClientError):
    """The connection broke after the request may have been sent and before its response came."""


class Failure(enum.Enum):
    """Why there was no whole response."""

    TIMEOUT = enum.auto()
    TLS = enum.auto()
    UNREACHABLE = enum.auto()
    GARBLED = enum.auto()


class CleanConnector(aiohttp.TCPConnector):
    """Uses no kept connection on which something came in while nothing had been asked.

    aiohttp would take an unsolicited response for the answer to the next request, and each answer after it for
    the answer to the one before: another order's "paid" (aio-libs/aiohttp#13656).
    """

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


def open_session(
    ssl_context: ssl.SSLContext | None = None, connected: Callable[[], Awaitable[None]] | None = None
) -> aiohttp.ClientSession:
    """A session with as many connections as its callers use at once. Call it in the running loop, and close it.

    `connected` is awaited once a new connection has been made, before anything is sent on it.
    """
    tracing = aiohttp.TraceConfig()

    async def on_connection(*_: object) -> None:
        if connected is not None:
            await connected()

    tracing.on_connection_create_end.append(on_connection)
    return aiohttp.ClientSession(
        connector=CleanConnector(limit=0, keepalive_timeout=KEEPALIVE_S, ssl=ssl_context or True),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"User-Agent": f"poller/{__version__}", "Accept-Encoding": "identity"},
        auto_decompress=False,
        trust_env=False,
        middlewares=(_send_once,),
        trace_configs=[tracing],
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
        case BrokenConnectionError() | aiohttp.ClientConnectionError() | OSError():
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


async def _send_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a GET again, past the throttle, when a pooled connection breaks under it."""
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise BrokenConnectionError from error


def _tls_text(error: ssl.SSLError) -> str:
    certificate = getattr(error, "certificate_error", error)
    if isinstance(certificate, ssl.SSLCertVerificationError) and certificate.verify_message:
        reason = certificate.verify_message.rstrip(".")
        return f"the certificate is not believed: {reason}; or the clock of this machine is wrong"
    reason = getattr(getattr(error, "os_error", error), "reason", None) or "handshake failed"
    return f"TLS failed: {reason}; or the clock of this machine is wrong"
