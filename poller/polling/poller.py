"""The dispatcher: it picks whose turn it is and starts a task for each query.

Only what is due soon is in memory; the store has the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from poller.core.cadence import Cadence
from poller.core.orders import OrderKey, State, end, request_cancel
from poller.core.outage import Outage
from poller.ledger import Bell, Ledger
from poller.polling.query import KEPT_S, STORE_RETRY_S, Asker
from poller.polling.turns import Flight, Turns
from poller.ports import Clock, Pending, Platform, Store, StoreUnavailableError, Throttle
from poller.timeline import Timeline

HELD_MAX = 10_000  # orders in memory that were claimed from the store
FRESHEST = 2_000  # of a backlog, this many of the youngest are brought in with each refill
CANCEL_WAIT_S = 2.0  # how long a cancellation waits for a query in the air before it answers

log = structlog.get_logger()


class Poller:
    def __init__(
        self,
        *,
        store: Store,
        platform: Platform,
        throttle: Throttle,
        ledger: Ledger,
        clock: Clock,
        timeline: Timeline,
        cadence: Cadence,
        max_concurrency: int,
    ) -> None:
        self._store = store
        self._throttle = throttle
        self._ledger = ledger
        self._timeline = timeline
        self._turns = Turns(clock, timeline, max_concurrency)
        self._asker = Asker(
            store=store,
            platform=platform,
            ledger=ledger,
            clock=clock,
            timeline=timeline,
            turns=self._turns,
            cadence=cadence,
        )
        self._barred: set[int] = set()  # being cancelled: not to be asked about
        self._claimed_until = float("-inf")
        self._backlog = False
        self._bell = Bell()
        self._stopping = False

    @property
    def outage(self) -> Outage:
        """The platform's state as the answers show it."""
        return self._turns.outage

    def configure(self, cadence: Cadence, max_concurrency: int) -> None:
        """Take new settings over."""
        self._asker.cadence, self._turns.places = cadence, max_concurrency
        self._claimed_until = float("-inf")
        self._bell.ring()

    def stop(self) -> None:
        """Start no more queries; `run` returns once those in the air have ended."""
        self._stopping = True
        self._bell.ring()

    def take_on(self, orders: Iterable[Pending]) -> None:
        """Ask about orders that the caller holds, when they are due."""
        for pending in orders:
            self._turns.arrive(pending)
        self._bell.ring()

    async def ask_now(self, key: OrderKey) -> None:
        """Ask about an order at once, whatever its state. Raises UnknownOrderError."""
        pending = await self._store.hold(key)
        flight = self._turns.flight(pending.id)
        if flight is not None:
            flight.again = True
            return
        if pending.id in self._barred:
            return  # its cancellation is being written down
        pending.due = self._timeline.schedule()
        self._turns.forget(pending.id)
        self.take_on([pending])

    async def cancel(self, key: OrderKey) -> None:
        """End a pending order as cancelled. If its query is in the air, that is waited for: paid stays paid.

        Where the query takes longer than `CANCEL_WAIT_S`, this returns with the cancellation noted, durable,
        and the order ends when the query does. Raises NotAllowedError and UnknownOrderError.
        """
        pending = await self._store.hold(key)
        flight = self._turns.flight(pending.id)
        if flight is None:
            await self._cancel_idle(pending)
            return
        await self._ledger.change(key, lambda order, _: request_cancel(order))
        flight.pending.cancelling = True
        try:
            async with asyncio.timeout(CANCEL_WAIT_S):
                await flight.landed.wait()
        except TimeoutError:
            return

    def held(self) -> int:
        """How many orders are in memory."""
        return len(self._turns)

    def in_flight(self) -> int:
        """How many queries are in the air."""
        return self._turns.in_flight()

    # The dispatcher.

    async def run(self) -> None:
        """Runs until `stop`, then until the last query has ended."""
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                pause = await self._refill_if_needed()
                wait = self._turns.until_next()
                if wait > 0:
                    await self._bell.wait(min(wait, pause))
                    continue
                await self._throttle.acquire()
                flight = self._turns.take()
                if flight is not None:
                    group.create_task(self._fly(flight))

    async def _fly(self, flight: Flight) -> None:
        was_slow = flight.pending.timed_out
        try:
            await self._asker.fly(flight)
        finally:
            self._turns.land(flight, was_slow=was_slow)
            self._bell.ring()

    async def _refill_if_needed(self) -> float:
        """Bring in what is due soon; returns the seconds until this is to be looked at again."""
        now = self._timeline.schedule()
        drained = len(self._turns) < HELD_MAX // 2
        if drained if self._backlog else self._claimed_until - now < KEPT_S / 2:
            try:
                await self._refill(now + KEPT_S)
            except StoreUnavailableError as error:
                log.error("store.unavailable", error=str(error), while_doing="looking for due orders")
                return STORE_RETRY_S
        return KEPT_S / 2

    async def _refill(self, before: float) -> None:
        room = max(HELD_MAX - len(self._turns), 1)
        claimed = await self._store.claim(before, room)
        self._backlog = len(claimed) == room
        if self._backlog:
            claimed += await self._store.claim(before, FRESHEST, freshest=True)
        self._claimed_until = before
        for pending in claimed:
            if self._turns.flight(pending.id) is None and pending.id not in self._barred:
                self._turns.put(pending)

    async def _cancel_idle(self, pending: Pending) -> None:
        self._barred.add(pending.id)
        self._turns.forget(pending.id)
        try:
            await self._ledger.change(pending.key, lambda order, at: end(order, State.CANCELLED, at))
        except StoreUnavailableError:
            self._turns.put(pending)
            raise
        finally:
            self._barred.discard(pending.id)
