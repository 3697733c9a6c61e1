"""Waiting for what becomes of orders, through restarts of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from poller.cli.client import DaemonClient
from poller.cli.refusals import DaemonError

WAIT_S = 30
WAITS_AT_ONCE = 200
AWAY_S = 60.0  # how long a daemon may be away
RETRY_S = 0.5

Order = dict[str, Any]


class DaemonGoneError(DaemonError):
    """The daemon was away for longer than one waits."""


class Patience:
    """Waits for a daemon that is away, `away_s` seconds at most; `tell` is told once each time that it goes."""

    def __init__(self, tell: Callable[[str], None], away_s: float = AWAY_S) -> None:
        self._tell = tell
        self._away_s = away_s
        self._gone_at: float | None = None

    async def outlast(self, error: DaemonError) -> None:
        """Pause before the next try. Raises the error where it is no absence, or DaemonGoneError."""
        if not error.may_pass:
            raise error
        now = asyncio.get_running_loop().time()
        if self._gone_at is None:
            self._gone_at = now
            self._tell(f"{error}; the orders are safe on disk, waiting {self._away_s:g} s for the daemon")
        if now - self._gone_at >= self._away_s:
            raise DaemonGoneError(
                f"the daemon has been away for {self._away_s:g} s; the orders are safe on disk, and are asked "
                "about once it runs: see them later with `poller list` or `poller show`"
            )
        await asyncio.sleep(RETRY_S)

    def met(self) -> None:
        """The daemon has answered."""
        self._gone_at = None


async def finals(client: DaemonClient, orders: Sequence[Order], patience: Patience) -> AsyncGenerator[Order, None]:
    """Each order as it becomes final. Raises DaemonError."""
    places = asyncio.Semaphore(WAITS_AT_ONCE)
    wait = WAIT_S if len(orders) <= WAITS_AT_ONCE else 1

    async def follow(order: Order) -> Order:
        while order["state"] == "pending":
            async with places:
                try:
                    order = await client.order(order["park_uuid"], order["pay_partner"], query={"wait": wait})
                    patience.met()
                except DaemonError as error:
                    await patience.outlast(error)
        return order

    following = [asyncio.ensure_future(follow(order)) for order in orders]
    try:
        for final in asyncio.as_completed(following):
            yield await final
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
