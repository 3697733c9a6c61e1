"""The desk: what users of the daemon can ask of it, whichever way they come in."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

import structlog

from poller.bell import Bell
from poller.core.cadence import Cadence
from poller.core.delivery import DeliveryState
from poller.core.documents import order_document
from poller.core.orders import NewOrder, NotAllowedError, Order, OrderKey, Prompt, State, reopen
from poller.ledger import Ledger
from poller.lookout import Lookout, Summary
from poller.polling import Poller
from poller.ports import Clock, Delivery, HistoryEntry, Store, Submitted, UnknownOrderError
from poller.submissions import Submissions
from poller.timeline import Timeline
from poller.trouble import StoreTrouble

log = structlog.get_logger()


class Reason(enum.StrEnum):
    """Why an order's next query is when it is, or why there is none."""

    FINAL = "final"
    UNKNOWN_LOT = "unknown_lot"
    CANCELLING = "cancelling"
    OUTAGE = "outage"
    BACKING_OFF = "backing_off"
    FIRST = "first"
    IN_PROGRESS = "in_progress"


class Desk:
    """Every call may raise StoreUnavailableError: then nothing of it was done and it may be repeated."""

    def __init__(
        self,
        *,
        store: Store,
        submissions: Submissions,
        ledger: Ledger,
        poller: Poller,
        clock: Clock,
        timeline: Timeline,
        trouble: StoreTrouble,
        lookout: Lookout,
        cadence: Cadence,
        park_uuids: Sequence[str],
    ) -> None:
        self._store = store
        self._submissions = submissions
        self._lookout = lookout
        self._ledger = ledger
        self._poller = poller
        self._clock = clock
        self._timeline = timeline
        self._trouble = trouble
        self.configure(cadence, park_uuids)

    def configure(self, cadence: Cadence, park_uuids: Sequence[str]) -> None:
        """Take new settings over."""
        self.cadence = cadence
        self.park_uuids = park_uuids  # the configured lots

    async def submit(self, orders: Sequence[NewOrder]) -> list[Submitted]:
        """As `Submissions.submit`."""
        return await self._submissions.submit(orders)

    async def order(self, key: OrderKey) -> Order:
        """Raises UnknownOrderError."""
        order = await self._store.get(key)
        if order is None:
            raise UnknownOrderError("there is no such order")
        return order

    async def wait(self, key: OrderKey, seconds: float) -> Order:
        """The order as soon as it is final, or as it stands after so many seconds. Raises UnknownOrderError."""
        order = await self._ledger.wait_final(key, seconds)
        if order is None:
            raise UnknownOrderError("there is no such order")
        return order

    async def orders(
        self, state: State | None, park_uuid: str | None, limit: int, before: int | None
    ) -> list[Order]:
        """At most `limit` orders, newest first, with ids below `before`."""
        return await self._store.orders(state, park_uuid, limit, before)

    async def poll(self, key: OrderKey, prompt: Prompt = Prompt.REQUEST) -> Order:
        """Ask the platform at once; a final order is asked about once.

        Raises UnknownOrderError, and NotAllowedError where the lot is not configured.
        """
        if key.park_uuid not in self.park_uuids:
            await self.order(key)
            raise NotAllowedError("its lot is not configured: add it under [[parks]] and send SIGHUP")
        await self._poller.ask_now(key, prompt)
        return await self.order(key)

    async def cancel(self, key: OrderKey) -> Order:
        """Stop asking. Raises UnknownOrderError, and NotAllowedError where the order ended otherwise."""
        await self._poller.cancel(key)
        order = await self.order(key)
        if order.state not in (State.CANCELLED, State.PENDING):
            raise NotAllowedError(f"the order is already {order.state}")
        return order

    async def reopen(self, key: OrderKey) -> Order:
        """Ask again, with both deadlines anew. Raises UnknownOrderError and NotAllowedError."""
        run, due = self._timeline.run(), self._timeline.schedule()
        order = await self._ledger.change(key, lambda order, _: reopen(order, run, due))
        log.info("order.reopened", **key._asdict())
        await self._poller.ask_now(key, Prompt.REQUEST)
        return order

    async def history(self, key: OrderKey) -> list[HistoryEntry]:
        """The queries of an order, oldest first. Raises UnknownOrderError."""
        await self.order(key)
        return await self._store.history(key)

    async def deliveries(
        self,
        state: DeliveryState | None,
        key: OrderKey | None,
        limit: int,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Delivery]:
        """See `Store.deliveries`."""
        return await self._store.deliveries(state, key, limit, before, after)

    async def delivery(self, event_id: str) -> Delivery | None:
        """One notice."""
        return await self._store.delivery(event_id)

    async def redeliver(self, event_id: str) -> Delivery:
        """Send a notice again. Raises UnknownOrderError, and NotAllowedError where there is no webhook."""
        if not self._ledger.webhook:
            raise NotAllowedError("no webhook is configured: set [webhook] url and secret_file, then SIGHUP")
        delivery = await self._store.redeliver(event_id, self._timeline.run(), self._timeline.schedule())
        log.info("delivery.retry_requested", event_id=event_id, **delivery.notice.key._asdict())
        self._ledger.ring()
        return delivery

    @property
    def webhook(self) -> bool:
        """Whether one is configured, so that a notice can be sent."""
        return self._ledger.webhook

    async def summary(self) -> Summary:
        """What a person needs to see at a glance."""
        return await self._lookout.summary()

    async def next_notice(self, after: int, wait: float) -> None:
        """Return when there is a notice with an id above `after`, or after so many seconds."""
        bell = Bell()
        self._ledger.add_bell(bell)
        try:
            if not await self._store.deliveries(None, None, 1, after=after):
                await bell.wait(min(wait, self._ledger.look_every))
        finally:
            self._ledger.remove_bell(bell)

    def document(self, order: Order) -> dict[str, object]:
        """The order as users read it. What is overdue is due now; an order of an unknown lot is never due."""
        asked = order.due is not None and order.key.park_uuid in self.park_uuids
        due = max(order.due or 0.0, self._timeline.schedule())
        return order_document(order, self.wall_at(due) if asked else None)

    def wall_at(self, due: float) -> datetime:
        """A schedule time as the wall clock will show it."""
        return self._timeline.wall_at(due)

    def reason(self, order: Order) -> Reason:
        """Why the next query is when it is."""
        if order.state is not State.PENDING:
            return Reason.FINAL
        if order.key.park_uuid not in self.park_uuids:
            return Reason.UNKNOWN_LOT
        if order.cancelling:
            return Reason.CANCELLING
        if self._poller.outage.is_open:
            return Reason.OUTAGE
        if order.errors:
            return Reason.BACKING_OFF
        return Reason.IN_PROGRESS if order.polls else Reason.FIRST

    def why(self, order: Order) -> str:
        """Its `reason`, in words for people."""
        reason, cadence = self.reason(order), self.cadence
        plan = self._poller.plan(order.key.park_uuid)
        match reason:
            case Reason.FINAL:
                return f"the order is {order.state}: it is asked about on request only"
            case Reason.UNKNOWN_LOT:
                return "its lot is not configured: add it under [[parks]] and send SIGHUP"
            case Reason.CANCELLING:
                return "it is being cancelled as soon as the query in the air has ended"
            case Reason.OUTAGE:
                return f"the platform is down ({self._poller.outage.cause}): one order at a time is asked"
            case Reason.BACKING_OFF:
                return f"backing off after {order.errors} answers in a row that said nothing of the payment"
            case Reason.FIRST:
                first = self._poller.first_query(order.key.park_uuid)
                return f"not asked about yet: the first query comes {first:.3g} s after it came in"
            case Reason.IN_PROGRESS if plan is not None:
                return f"in progress: {plan.why(max(self._timeline.run() - order.opened_run, 0.0))}"
            case Reason.IN_PROGRESS:
                return f"in progress: gaps are {cadence.age_fraction:.0%} of its age, within the configured bounds"
            case _:
                assert_never(reason)

    def health(self) -> dict[str, object]:
        """For `/healthz`."""
        return {"status": "ok"}

    def readiness(self) -> tuple[bool, dict[str, object]]:
        """For `/readyz`: whether orders can be taken on, as far as the last write to the store showed.

        The platform's state is told and is no reason to be unready.
        """
        outage = self._poller.outage
        platform: dict[str, object] = {"status": "down" if outage.is_open else "up"}
        if outage.is_open:
            platform["cause"] = outage.cause
        trouble = self._trouble.current
        store = {"status": "ok"} if trouble is None else {"status": "unavailable", "cause": trouble}
        status = "ok" if trouble is None else "unavailable"
        return trouble is None, {"status": status, "platform": platform, "store": store}
