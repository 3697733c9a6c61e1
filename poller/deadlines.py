"""Tells the gate, once, that an order is undecided, so that the site's own rule can let the driver go."""

from __future__ import annotations

import asyncio
from datetime import datetime

from poller.bell import Bell
from poller.core.cadence import Cadence
from poller.core.orders import Change, Order, OrderKey, mark_undecided
from poller.ledger import Ledger
from poller.liveness import Liveness
from poller.ports import Store, StoreUnavailableError
from poller.timeline import Timeline
from poller.trouble import StoreTrouble

BATCH = 100
FINEST_S = 0.01  # no deadline is looked at more finely
RETRY_S = 2.0  # after the store refused


class Deadlines:
    def __init__(
        self,
        *,
        store: Store,
        ledger: Ledger,
        timeline: Timeline,
        liveness: Liveness,
        trouble: StoreTrouble,
        cadence: Cadence,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._timeline = timeline
        self._liveness = liveness
        self._trouble = trouble
        self._cadence = cadence
        self._bell = Bell()
        self._stopping = False

    def configure(self, cadence: Cadence) -> None:
        """Take new settings over."""
        self._cadence = cadence
        self._bell.ring()

    def stop(self) -> None:
        self._stopping = True
        self._bell.ring()

    async def run(self) -> None:
        """Runs until `stop`."""
        while not self._stopping:
            self._liveness.turn("deadlines")
            try:
                pause = await self._tell()
            except StoreUnavailableError as error:
                self._trouble.met(error, "telling undecided orders")
                pause = RETRY_S
            await self._bell.wait(pause)

    async def _tell(self) -> float | None:
        """Tell of what is undecided now; returns the seconds until the next may be, None for never."""
        after = self._cadence.undecided_after
        if after == 0:
            return None
        while keys := await self._store.undecided(self._timeline.run() - after, BATCH):
            # Not a TaskGroup: in early releases of Python 3.11 one that failed can leave its parent cancelled.
            told = await asyncio.gather(*map(self._tell_one, keys), return_exceptions=True)
            for failure in told:
                if failure is not None:
                    raise failure
            self._liveness.turn("deadlines")
            if self._stopping:
                return None
        oldest = await self._store.oldest_untold()
        if oldest is None:
            return after  # nothing that comes in meanwhile is due before that
        return max(oldest + after - self._timeline.run(), FINEST_S)

    async def _tell_one(self, key: OrderKey) -> None:
        def tell(order: Order, at: datetime) -> Change | None:
            return mark_undecided(order, at)

        await self._ledger.change(key, tell)
