"""The dispatcher: it picks whose turn it is and starts a task for each query.

Only what is due soon is in memory; the store has the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from poller.bell import Bell
from poller.core.cadence import Cadence
from poller.core.learning import Plan
from poller.core.orders import OrderKey, Prompt, State, end, request_cancel
from poller.core.outage import Outage
from poller.ledger import Ledger
from poller.liveness import Liveness
from poller.metrics import Metrics
from poller.polling.query import KEPT_S, STORE_RETRY_S, Asker
from poller.polling.turns import HELD_MAX, Flight, Turns
from poller.ports import Clock, Pending, Platform, Progress, Store, StoreUnavailableError, Throttle
from poller.ports.records import Records
from poller.timeline import Timeline
from poller.trouble import StoreTrouble

FAIR = 50  # of a backlog, this many of the longest overdue are brought in now and then, room or not
REFILL_S = 0.5  # not more often, while what is in memory can wait
FRESHEST = 2_000  # of a backlog, this many of the youngest are brought in with each refill
CANCEL_WAIT_S = 2.0  # how long a cancellation waits for a query in the air before it answers


class Poller:
    def __init__(
        self,
        *,
        store: Store,
        records: Records,
        platform: Platform,
        throttle: Throttle,
        ledger: Ledger,
        clock: Clock,
        timeline: Timeline,
        liveness: Liveness,
        trouble: StoreTrouble,
        metrics: Metrics,
        cadence: Cadence,
        max_concurrency: int,
    ) -> None:
        self._store = store
        self._records = records
        self._platform = platform
        self._throttle = throttle
        self._ledger = ledger
        self._timeline = timeline
        self._liveness = liveness
        self._trouble = trouble
        self._turns = Turns(clock, timeline, max_concurrency)
        self._asker = Asker(
            store=store,
            platform=platform,
            ledger=ledger,
            clock=clock,
            timeline=timeline,
            turns=self._turns,
            metrics=metrics,
            cadence=cadence,
        )
        self._barred: set[int] = set()  # being cancelled: not to be asked about
        self._claimed_until = float("-inf")
        self._refill_at = float("-inf")  # not before: the store has just refused
        self._filled_at = float("-inf")
        self._backlog = False  # there is more in the store than there is room for
        self._bell = Bell()
        self._stopping = asyncio.Event()

    @property
    def outage(self) -> Outage:
        """The platform's state as the answers show it."""
        return self._turns.outage

    def configure(self, cadence: Cadence, max_concurrency: int) -> None:
        """Take new settings over."""
        self._asker.configure(cadence)
        self._turns.places = max_concurrency
        self._claimed_until = float("-inf")
        self._bell.ring()

    def stop(self) -> None:
        """Start no more queries; `run` returns once those in the air have ended."""
        self._stopping.set()
        self._bell.ring()

    def plan(self, park_uuid: str) -> Plan | None:
        """By what the lot's orders are asked; None where that is the configured cadence alone."""
        return None if self._asker.pace is None else self._asker.pace.plan(park_uuid)

    def take_on(self, orders: Iterable[Pending]) -> None:
        """Ask about orders that the caller holds, when they are due. What memory is not for stays in the store."""
        for pending in orders:
            pending.unsettled_until = 0.0
            if len(self._turns) < HELD_MAX:
                self._turns.arrive(pending)  # in an outage it is the next canary
            else:
                self._store.note(Progress(pending.id, None, pending.due, pending.errors, keep=False))
                self._turns.leave_out(pending.due)
        self._bell.ring()

    async def ask_now(self, key: OrderKey, prompt: Prompt) -> None:
        """Ask about an order at once, whatever its state. Raises UnknownOrderError."""
        pending = await self._store.hold(key)
        flight = self._turns.flight(pending.id)
        if flight is not None:
            flight.again = prompt
            return
        if pending.id in self._barred:
            return  # its cancellation is being written down
        pending.due, pending.prompt = self._timeline.schedule(), prompt
        before = self._turns.forget(pending.id)
        pending.unsettled_until = before.unsettled_until if before else None
        self._turns.arrive(pending, urgent=True)
        self._bell.ring()

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
        flight.pending.cancelling = True  # before the wait, since the query may end during it
        try:
            await self._ledger.change(key, lambda order, _: request_cancel(order))
        except BaseException:
            flight.pending.cancelling = False
            raise
        try:
            async with asyncio.timeout(CANCEL_WAIT_S):
                await flight.landed().wait()
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
            while not self._stopping.is_set():
                self._liveness.turn("poller")
                pause = await self._refill_if_needed()
                wait = self._turns.until_next()
                if wait > 0:
                    await self._bell.wait(min(wait, pause))
                    continue
                await self._throttle.acquire()
                if self._stopping.is_set():
                    break
                flight = self._turns.take()
                if flight is not None:
                    group.create_task(self._fly(flight))

    async def _fly(self, flight: Flight) -> None:
        try:
            await self._asker.fly(flight)
        finally:
            self._turns.land(flight)
            self._bell.ring()
        if flight.again and flight.pending.state is not State.PENDING:
            # It was final when this query went out, and may have been reopened since.
            try:
                await self.ask_now(flight.pending.key, flight.again)
            except StoreUnavailableError as error:
                self._trouble.met(error, "asking about an order again")

    async def _refill_if_needed(self) -> float:
        """Bring in what is due soon; returns the seconds until this is to be looked at again."""
        now = self._timeline.schedule()
        is_low = self._backlog and len(self._turns) < HELD_MAX // 2
        is_needed = is_low or self._claimed_until - now < KEPT_S / 2 or self._misses_some(now)
        if is_needed and now >= self._refill_at:
            try:
                if self._asker.pace is not None:
                    await self._asker.pace.recall(self._records)
                await self._refill(now + KEPT_S)
            except StoreUnavailableError as error:
                self._trouble.met(error, "looking for due orders")
                self._refill_at = now + STORE_RETRY_S
        return STORE_RETRY_S if is_needed else min(max(self._turns.left_out - now, REFILL_S), KEPT_S / 2)

    def _misses_some(self, now: float) -> bool:
        """Whether what was left out is due, while nothing in memory is."""
        return now >= max(self._turns.left_out, self._filled_at + REFILL_S) and self._turns.until_next() > 0

    async def _refill(self, by: float) -> None:
        room = max(HELD_MAX - len(self._turns), FAIR)
        self._turns.left_out, self._filled_at = float("inf"), self._timeline.schedule()
        claimed = await self._store.claim(by, room)
        self._bring_in(claimed)
        self._backlog = len(claimed) == room
        if self._backlog:
            self._turns.leave_out(claimed[-1].due)
            # Those that are due now: what is due later and younger would take the room of what is due before.
            self._bring_in(await self._store.claim(self._timeline.schedule(), FRESHEST, freshest=True))
        self._claimed_until = by

    def _bring_in(self, claimed: Iterable[Pending]) -> None:
        for pending in claimed:
            if self._turns.flight(pending.id) is not None or pending.id in self._barred:
                continue
            if self._platform.knows(pending.key.park_uuid):
                self._turns.put(pending)
            else:
                self._asker.put_off(pending)

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
