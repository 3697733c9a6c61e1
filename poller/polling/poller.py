"""The dispatcher: it picks whose turn it is and starts a task for each query.

Only what is due soon is in memory; the store has the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from poller.bell import Bell
from poller.core.cadence import Cadence
from poller.core.learning import Plan
from poller.core.orders import NotAllowedError, OrderKey, Prompt, State, end, request_cancel
from poller.core.outage import Outage
from poller.ledger import Ledger
from poller.liveness import Liveness
from poller.metrics import Metrics
from poller.polling.query import UNSENT_S, Asker
from poller.polling.refill import Refill
from poller.polling.shared_outage import SharedOutage
from poller.polling.turns import HELD_MAX, Flight, Turns
from poller.ports import (
    Alone,
    Clock,
    Errand,
    Fleet,
    HeldElsewhereError,
    Lease,
    Pending,
    Platform,
    Store,
    StoreUnavailableError,
    Throttle,
)
from poller.ports.records import Records
from poller.timeline import Timeline
from poller.trouble import StoreTrouble

RATE_WAIT_S = 10.0  # for a place, of which others may take all; then the loop shows that it goes on
CANCEL_WAIT_S = 2.0  # how long a cancellation waits for a query in the air before it answers


class Poller:
    def __init__(
        self,
        *,
        store: Store,
        records: Records,
        platform: Platform,
        throttle: Throttle,
        fleet: Fleet | None,
        ledger: Ledger,
        clock: Clock,
        timeline: Timeline,
        liveness: Liveness,
        trouble: StoreTrouble,
        metrics: Metrics,
        cadence: Cadence,
        max_concurrency: int,
        lots: Sequence[str],
    ) -> None:
        self._store = store
        self._throttle = throttle
        self._fleet = fleet
        self._lease: Lease = fleet or Alone()
        self._ledger = ledger
        self._timeline = timeline
        self._liveness = liveness
        self._trouble = trouble
        self._turns = Turns(clock, timeline, max_concurrency)
        self._asker = Asker(
            store=store,
            platform=platform,
            lease=self._lease,
            ledger=ledger,
            clock=clock,
            timeline=timeline,
            turns=self._turns,
            metrics=metrics,
            cadence=cadence,
        )
        self._shared = None if fleet is None else SharedOutage(fleet, self._turns, clock, metrics, trouble)
        self._barred: set[int] = set()  # being cancelled: not to be asked about
        self._refill = Refill(
            store=store,
            records=records,
            platform=platform,
            timeline=timeline,
            trouble=trouble,
            turns=self._turns,
            asker=self._asker,
            barred=self._barred,
            lots=lots,
        )
        self._bell = Bell()
        self._stopping = asyncio.Event()

    @property
    def outage(self) -> Outage:
        """The platform's state as the answers show it."""
        return self._turns.outage

    def configure(self, cadence: Cadence, max_concurrency: int, lots: Sequence[str]) -> None:
        """Take new settings over."""
        self._asker.configure(cadence)
        self._turns.places, self._refill.lots = max_concurrency, lots
        self._refill.soon()
        self._bell.ring()

    def stop(self) -> None:
        """Start no more queries; `run` returns once those in the air have ended."""
        self._stopping.set()
        self._bell.ring()

    def plan(self, park_uuid: str) -> Plan | None:
        """By what the lot's orders are asked; None where that is the configured cadence alone."""
        return None if self._asker.pace is None else self._asker.pace.plan(park_uuid)

    def first_query(self, park_uuid: str) -> float:
        """Seconds from taking an order of the lot on to the first query about it."""
        plan = self.plan(park_uuid)
        return self._asker.cadence.initial_delay if plan is None else plan.first()

    def take_on(self, orders: Iterable[Pending]) -> None:
        """Ask about orders that the caller holds, when they are due. What memory is not for stays in the store."""
        left_out: list[Pending] = []
        for pending in orders:
            if self._asker.pace is not None:
                pending.unsettled_until = 0.0
            if self._turns.has_room(pending.key.park_uuid, HELD_MAX):
                self._turns.arrive(pending)  # in an outage it is the next canary
            else:
                left_out.append(pending)
                self._turns.leave_out(pending.due)
        if left_out:
            self._store.give_back(left_out)
        self._bell.ring()

    async def ask_now(self, key: OrderKey, prompt: Prompt) -> None:
        """Ask about an order at once, whatever its state. Raises UnknownOrderError."""
        try:
            pending = await self._store.hold(key)
        except HeldElsewhereError:
            await self._hand_over(Errand(key, prompt))
            return
        self._ask(pending, prompt)

    def _ask(self, pending: Pending, prompt: Prompt) -> None:
        flight = self._turns.flight(pending.id)
        if flight is not None and not flight.lost:
            flight.again = prompt
            return
        if pending.id in self._barred:
            return  # its cancellation is being written down
        pending.due, pending.prompt = self._timeline.schedule(), prompt
        if flight is not None:
            flight.successor = pending
            return
        before = self._turns.forget(pending)
        pending.unsettled_until = before.unsettled_until if before else None
        self._turns.arrive(pending, urgent=True)
        self._bell.ring()

    async def cancel(self, key: OrderKey) -> None:
        """End a pending order as cancelled. If its query is in the air, that is waited for: paid stays paid.

        Where the query takes longer than `CANCEL_WAIT_S`, this returns with the cancellation noted, durable,
        and the order ends when the query does. Raises NotAllowedError and UnknownOrderError.
        """
        try:
            pending = await self._store.hold(key)
        except HeldElsewhereError:
            await self._cancel_elsewhere(key)
            return
        flight = self._turns.flight(pending.id)
        if flight is None or flight.lost:
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

    def forget_all(self) -> None:
        """The lease was lost: whatever was held is the others' now, or claimed anew."""
        self._turns.forget_all()
        self._refill.backlog = False
        self.look_again()

    def look_again(self) -> None:
        """There may be something in the store to take up."""
        if not self._refill.backlog:
            self._refill.soon()
        self._bell.ring()

    async def follow_outage(self) -> None:
        """Take over what the fleet knows of the platform. Raises StoreUnavailableError."""
        if self._shared is not None:
            await self._shared.look()
            self._bell.ring()

    async def run_errand(self, errand: Errand) -> None:
        """Do for an order what another daemon was asked for. Raises StoreUnavailableError."""
        try:
            pending = await self._store.hold(errand.key)
            if pending.cancelling:
                await self.cancel(errand.key)
            else:
                self._ask(pending, errand.prompt)
        except HeldElsewhereError:
            await self._hand_over(errand)
        except NotAllowedError:
            return  # it has ended meanwhile

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
                pause = await self._refill.if_needed()
                wait = self._turns.until_next()
                if wait > 0:
                    await self._bell.wait(min(wait, pause))
                    continue
                if not await self._may_ask():
                    await self._bell.wait(UNSENT_S)
                    continue
                if self._stopping.is_set():
                    break
                flight = self._turns.take()
                if flight is not None:
                    group.create_task(self._fly(flight))

    async def _may_ask(self) -> bool:
        """Wait for a place in the rate; False where nobody may ask, or another daemon's canary is in the air."""
        if not self._lease.holds():
            return False
        if self._shared is not None and self.outage.is_open and not await self._shared.may_go():
            return False
        if self._shared is None:
            await self._throttle.acquire()
            return True
        try:
            async with asyncio.timeout(RATE_WAIT_S):
                await self._throttle.acquire()
        except TimeoutError:
            return False
        except StoreUnavailableError as error:
            self._trouble.met(error, "keeping the rate")
            return False
        return True

    async def _fly(self, flight: Flight) -> None:
        try:
            await self._asker.fly(flight)
            if self._shared is not None:
                await self._shared.tell(canary=flight.canary)
        finally:
            self._turns.land(flight)
            self._bell.ring()
        if flight.again and flight.pending.state is not State.PENDING:
            # It was final when this query went out, and may have been reopened since.
            try:
                await self.ask_now(flight.pending.key, flight.again)
            except StoreUnavailableError as error:
                self._trouble.met(error, "asking about an order again")

    async def _hand_over(self, errand: Errand) -> None:
        if self._fleet is None:
            raise StoreUnavailableError("the order is held by another daemon, and this one is alone")
        await self._fleet.hand_over(errand)

    async def _cancel_elsewhere(self, key: OrderKey) -> None:
        await self._ledger.change(key, lambda order, _: request_cancel(order))
        await self._hand_over(Errand(key, Prompt.REQUEST))
        await self._ledger.wait_final(key, CANCEL_WAIT_S)

    async def _cancel_idle(self, pending: Pending) -> None:
        losses = self._turns.losses
        self._barred.add(pending.id)
        self._turns.forget(pending)
        try:
            await self._ledger.change(pending.key, lambda order, at: end(order, State.CANCELLED, at))
        except StoreUnavailableError:
            if losses == self._turns.losses:
                self._turns.put(pending)
            raise
        finally:
            self._barred.discard(pending.id)
