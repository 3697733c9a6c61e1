"""Queries to the platform over HTTP (its payment-status page and openapi/README)."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

import aiohttp
from yarl import URL

from poller.core.orders import OrderKey
from poller.core.replies import Cause, Result, Unavailable, Unclear
from poller.core.signing import sign
from poller.outgoing import BODY_FAILURES, FAILURES, Failure, failure_of, open_session, read_capped, total_timeout
from poller.pyun.reply import parse, without_reply

BODY_CAP = 64 * 1024  # bytes; a reply is a few hundred

_CAUSES = {
    Failure.TIMEOUT: Cause.TIMEOUT,
    Failure.TLS: Cause.TLS,
    Failure.UNREACHABLE: Cause.UNREACHABLE,
}


@dataclass(frozen=True, slots=True)
class Lot:
    """What the platform gave to one parking lot. From inside a lot `app_id` and `api_type` are rarely sent."""

    app_secret: str = field(repr=False)
    app_id: str | None = None
    api_type: str | None = None


class PyunPlatform:
    """The platform behind the port `Platform`. `lots` are by park_uuid, `timeout` is in seconds.

    How many queries are in the air at once is the caller's to bound. `connected` is awaited when a new connection
    has been made and before the query goes out on it: many may have waited for that, and are not to go at once.
    Build it anywhere; its first query opens the connections in the running loop, `close` ends them.
    """

    def __init__(
        self,
        url: str,
        lots: Mapping[str, Lot],
        *,
        timeout: float,
        connected: Callable[[], Awaitable[None]] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._url = str(URL(url))
        self._lots = dict(lots)
        self._timeout = total_timeout(timeout)
        self._connected = connected
        self._ssl_context = ssl_context
        self._session: aiohttp.ClientSession | None = None

    def configure(self, lots: Mapping[str, Lot], *, timeout: float) -> None:
        """Take other lots and another timeout from the next query on; those in the air are left alone."""
        self._lots = dict(lots)
        self._timeout = total_timeout(timeout)

    def knows(self, park_uuid: str) -> bool:
        """See `Platform`."""
        return park_uuid in self._lots

    async def query(self, key: OrderKey) -> Result:
        """See `Platform`. A lot that was taken out of the configuration a moment ago is Unclear."""
        lot = self._lots.get(key.park_uuid)
        if lot is None:
            return Unclear("the lot is not configured any more")
        if self._session is None:
            self._session = open_session(self._ssl_context, self._connected)
        params = _signed(key, lot)
        url = URL(f"{self._url}?{_encoded(params)}", encoded=True)
        try:
            async with self._session.get(
                url,
                allow_redirects=False,
                timeout=self._timeout,
            ) as response:
                return await _result(response, hidden=(params[-1][1], lot.app_secret))
        except FAILURES as error:
            failure, text = failure_of(error)
            cause = _CAUSES.get(failure)
            return Unavailable(cause, text) if cause else Unclear(text)

    async def close(self) -> None:
        """End every connection. Queries in the air fail."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()


def _signed(key: OrderKey, lot: Lot) -> list[tuple[str, str]]:
    """The parameters of a query; `sign` is the last."""
    named = (
        ("park_uuid", key.park_uuid),
        ("pay_partner", key.pay_partner),
        ("app_id", lot.app_id),
        ("api_type", lot.api_type),
    )
    params = [(name, value) for name, value in named if value]
    return [*params, ("sign", sign(params, lot.app_secret))]


def _encoded(params: Sequence[tuple[str, str]]) -> str:
    """A query string, each value percent-encoded to the byte, so that what arrives is what was signed."""
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in params)


async def _result(response: aiohttp.ClientResponse, hidden: Sequence[str]) -> Result:
    status, headers = response.status, response.headers
    retry_after, date = headers.get("Retry-After"), headers.get("Date")
    try:
        body = await read_capped(response, BODY_CAP)
    except BODY_FAILURES as error:
        return without_reply(status, failure_of(error)[1], retry_after, date)
    if body is None:
        return without_reply(status, f"a body of more than {BODY_CAP} bytes", retry_after, date)
    return parse(status, body, retry_after, date, hidden=hidden)
