"""Queries to the platform over HTTP (its payment-status page and openapi/README)."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import quote

from yarl import URL

from poller.core.orders import OrderKey
from poller.core.replies import Cause, Result, Unavailable, Unclear
from poller.core.signing import sign
from poller.outgoing import FAILURES, Failure, failure_of
from poller.pyun.exchange import Exchange, Response
from poller.pyun.reply import parse, without_reply

BODY_CAP = 64 * 1024  # bytes; a reply is a few hundred
QUERIES_KEPT = 4096  # signed query strings that are kept: most orders are asked about again soon

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
        self._url = URL(url)
        self._lots = dict(lots)
        self._timeout = timeout
        self._connected = connected
        self._ssl_context = ssl_context
        self._exchange: Exchange | None = None

    def configure(self, lots: Mapping[str, Lot], *, timeout: float) -> None:
        """Take other lots and another timeout from the next query on; those in the air are left alone."""
        self._lots = dict(lots)
        self._timeout = timeout
        _query.cache_clear()  # an old secret is not kept

    def knows(self, park_uuid: str) -> bool:
        """See `Platform`."""
        return park_uuid in self._lots

    async def query(self, key: OrderKey) -> Result:
        """See `Platform`. A lot that was taken out of the configuration a moment ago is Unclear."""
        lot = self._lots.get(key.park_uuid)
        if lot is None:
            return Unclear("the lot is not configured any more")
        if self._exchange is None:
            self._exchange = Exchange(self._url, self._ssl_context, self._connected)
        query, signature = _query(key, lot)
        try:
            response = await self._exchange.get(query, BODY_CAP, self._timeout)
        except FAILURES as error:
            failure, text = failure_of(error)
            cause = _CAUSES.get(failure)
            return Unavailable(cause, text) if cause else Unclear(text)
        return _result(response, hidden=(signature, lot.app_secret))

    async def close(self) -> None:
        """End every connection. Queries in the air fail."""
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            await exchange.close()


@lru_cache(maxsize=QUERIES_KEPT)
def _query(key: OrderKey, lot: Lot) -> tuple[str, str]:
    """The query string of an order, the same each time, and the `sign` in it.

    Each value is percent-encoded to the byte, so that what arrives is what was signed.
    """
    named = (
        ("park_uuid", key.park_uuid),
        ("pay_partner", key.pay_partner),
        ("app_id", lot.app_id),
        ("api_type", lot.api_type),
    )
    params = [(name, value) for name, value in named if value]
    signature = sign(params, lot.app_secret)
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in [*params, ("sign", signature)]), signature


def _result(response: Response, hidden: Sequence[str]) -> Result:
    retry_after, date = response.headers.get("Retry-After"), response.headers.get("Date")
    if response.body is None:
        return without_reply(response.status, response.spoilt, retry_after, date)
    return parse(response.status, response.body, retry_after, date, hidden=hidden)
