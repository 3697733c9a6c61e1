"""The simulated platform, which also notes since when it has heard of the connection that a query came by."""

from __future__ import annotations

import time
from array import array
from asyncio import Transport
from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

from aiohttp import web

from poller.simulator import Query, SimulatedPlatform
from poller.simulator.replies import PATH


class Asked(NamedTuple):
    """A query, and the monotonic time of the first one that came by its connection."""

    query: Query
    heard_since: float


class Witness(SimulatedPlatform):
    """While a network is cut no connection is made: what comes by a newer one was sent after it was mended."""

    def __init__(self, secret: dict[str, str], *, seed: int, host: str) -> None:
        super().__init__(secret, seed=seed, host=host)
        self._heard_since: array[float] = array("d")
        self._connections: WeakKeyDictionary[Transport, float] = WeakKeyDictionary()

    def asked(self) -> Iterator[Asked]:
        """Every query, in the order of arrival."""
        return map(Asked, self.record.queries(), self._heard_since)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        now = time.monotonic()
        since = self._connections.setdefault(request.transport, now) if request.transport else now
        if request.rel_url.path == PATH:
            self._heard_since.append(since)  # the record gets its entry before anything else is handled
        return await super()._handle(request)
