"""The desk: what users of the daemon can ask of it, whichever way they come in."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog

from poller.core.cadence import Cadence
from poller.core.delivery import DeliveryState
from poller.core.documents import order_document
from poller.core.orders import NewOrder, NotAllowedError, Order, OrderKey, State, reopen
from poller.ledger import Bell, Ledger
from poller.polling import Poller
from poller.ports import Accepted, Clock, Delivery, HistoryEntry, Store, Submitted, UnknownOrderError
from poller.timeline import Timeline

log = structlog.get_logger()


class Desk:
    """Every call may raise StoreUnavailableError: then nothing of it was done and it may be repeated."""

    def __init__(
        self,
        *,
        store: Store,
        ledger: Ledger,
        poller: Poller,
        clock: Clock,
        timeline: Timeline,
        cadence: Cadence,
        park_uuids: Sequence[str],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._poller = poller
        self._clock = clock
        self._timeline = timeline
        self.configure(cadence, park_uuids)

    def configure(self, cadence: Cadence, park_uuids: Sequence[str]) -> None:
        """Take new settings over."""
        self.cadence = cadence
        self.park_uuids = park_uuids  # the configured lots

    async def submit(self, orders: Sequence[NewOrder]) -> list[Submitted]:
        """Take orders on, durable; one answer each, in order."""
        now, due = self._timeline.run(), self._timeline.schedule() + self.cadence.initial_delay
        answers = await self._store.submit(orders, self._clock.wall(), now, due)
        accepted = [answer for answer in answers if isinstance(answer, Accepted)]
        for answer in accepted:
            log.info("order.accepted", **_name(answer.order.key), metadata=answer.order.metadata)
        self._poller.take_on(answer.pending for answer in accepted)
        return answers

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

    async def poll(self, key: OrderKey) -> Order:
        """Ask the platform at once; a final order is asked about once. Raises UnknownOrderError."""
        await self._poller.ask_now(key)
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
        log.info("order.reopened", **_name(key))
        await self._poller.ask_now(key)
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

    async def delivery(self, event_id: str) -> Delivery:
        """One notice. Raises UnknownOrderError."""
        delivery = await self._store.delivery(event_id)
        if delivery is None:
            raise UnknownOrderError("there is no such notice")
        return delivery

    async def redeliver(self, event_id: str) -> Delivery:
        """Send a notice again. Raises UnknownOrderError, and NotAllowedError where there is no webhook."""
        if not self._ledger.webhook:
            raise NotAllowedError("no webhook is configured: set [webhook] url and secret_file, then SIGHUP")
        delivery = await self._store.redeliver(event_id, self._timeline.run(), self._timeline.schedule())
        log.info("delivery.retry_requested", event_id=event_id, **_name(delivery.notice.key))
        self._ledger.ring()
        return delivery

    async def next_notice(self, after: int, wait: float) -> None:
        """Return when there is a notice with an id above `after`, or after so many seconds."""
        bell = Bell()
        self._ledger.add_bell(bell)
        try:
            if not await self._store.deliveries(None, None, 1, after=after):
                await bell.wait(wait)
        finally:
            self._ledger.remove_bell(bell)

    def document(self, order: Order) -> dict[str, object]:
        """The order as the JSON document that users read."""
        return order_document(order, self.wall_at(order.due) if order.due is not None else None)

    def wall_at(self, due: float) -> datetime:
        """A schedule time as the wall clock will show it."""
        return self._timeline.wall_at(due)

    def why(self, order: Order) -> str:
        """Why the next query is when it is, for people."""
        if order.state is not State.PENDING:
            return f"the order is {order.state}: it is asked about on request only"
        if order.key.park_uuid not in self.park_uuids:
            return "its lot is not configured: add it under [[parks]] and send SIGHUP"
        if order.cancelling:
            return "it is being cancelled as soon as the query in the air has ended"
        if self._poller.outage.is_open:
            return f"the platform is down ({self._poller.outage.cause}): one order at a time is asked"
        if order.errors:
            return f"backing off after {order.errors} answers in a row that said nothing of the payment"
        if order.polls == 0:
            return f"not asked about yet: the first query comes {self.cadence.initial_delay:g} s after it came in"
        return f"in progress: gaps are {self.cadence.age_fraction:.0%} of its age, within the configured bounds"

    def health(self) -> dict[str, object]:
        """For `/healthz`."""
        return {"status": "ok"}

    def readiness(self) -> tuple[bool, dict[str, object]]:
        """For `/readyz`: able to take orders on; the platform's state is told and no reason to be unready."""
        outage = self._poller.outage
        platform: dict[str, object] = {"status": "down" if outage.is_open else "up"}
        if outage.is_open:
            platform["cause"] = outage.cause
        return True, {"status": "ok", "platform": platform, "orders_in_memory": self._poller.held()}


def _name(key: OrderKey) -> dict[str, str]:
    return {"park_uuid": key.park_uuid, "pay_partner": key.pay_partner}
