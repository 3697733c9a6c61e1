"""A desk in memory, for tests of what stands before it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from poller.core.delivery import DeliveryState
from poller.core.documents import notice_body, order_document, same_json
from poller.core.orders import Answer, NewOrder, NoticeType, Order, OrderKey, Prompt, State, end, reopen
from poller.daybook import Hour
from poller.lookout import OutageSpan, Summary
from poller.ports import (
    Accepted,
    Delivery,
    Differs,
    HistoryEntry,
    Known,
    Notice,
    Pending,
    StoreUnavailableError,
    Submitted,
    UnknownOrderError,
)
from poller.ports.records import Group, Overview, Undelivered

NOW = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)


class DeskInMemory:
    """Orders live as long as the object. `full` makes every call fail as on a full disk."""

    def __init__(self, park_uuids: Sequence[str] = ("lot-1",)) -> None:
        self.park_uuids = park_uuids
        self.taken: dict[OrderKey, Order] = {}
        self.notices: list[Delivery] = []
        self.batches: list[int] = []
        self.asked: list[OrderKey] = []
        self.pages: list[int] = []
        self.full = False
        self.broken = False
        self.ready = True
        self.waiting = asyncio.Event()  # somebody waits for an order or a notice
        self.webhook = True
        self.outage: OutageSpan | None = None
        self._news = asyncio.Condition()

    def _check(self) -> None:
        if self.full:
            raise StoreUnavailableError("the disk is full: free some space")
        if self.broken:
            raise RuntimeError("a defect")

    async def submit(self, orders: Sequence[NewOrder]) -> list[Submitted]:
        self._check()
        self.batches.append(len(orders))
        return [self._take(order) for order in orders]

    def _take(self, new: NewOrder) -> Submitted:
        known = self.taken.get(new.key)
        if known is not None:
            return Known(known) if same_json(known.metadata, new.metadata) else Differs(known)
        number = len(self.taken) + 1
        order = Order(number, new.key, State.PENDING, new.metadata, NOW, opened_run=0.0, due=float(number))
        self.taken[new.key] = order
        return Accepted(order, Pending(number, new.key, 0.0, float(number)))

    async def order(self, key: OrderKey) -> Order:
        self._check()
        if key not in self.taken:
            raise UnknownOrderError
        return self.taken[key]

    async def wait(self, key: OrderKey, seconds: float) -> Order:
        order = await self.order(key)
        try:
            async with asyncio.timeout(seconds), self._news:
                self.waiting.set()
                await self._news.wait_for(lambda: self.taken[key].state is not State.PENDING)
        except TimeoutError:
            return order
        return self.taken[key]

    async def orders(
        self, state: State | None, park_uuid: str | None, limit: int, before: int | None
    ) -> list[Order]:
        self._check()
        found = [
            order
            for order in reversed(self.taken.values())
            if state in (None, order.state)
            and park_uuid in (None, order.key.park_uuid)
            and (before is None or order.id < before)
        ]
        return found[:limit]

    async def poll(self, key: OrderKey, prompt: Prompt = Prompt.REQUEST) -> Order:
        order = await self.order(key)
        self.asked.append(key)
        return order

    async def cancel(self, key: OrderKey) -> Order:
        return await self.finish(key, State.CANCELLED)

    async def finish(self, key: OrderKey, state: State) -> Order:
        order = end(await self.order(key), state, NOW + timedelta(seconds=5)).order
        self.taken[key] = order
        await self.tell(NoticeType(f"payment.{state}"), order)
        return order

    async def reopen(self, key: OrderKey) -> Order:
        self.taken[key] = reopen(await self.order(key), 0.0, 0.0).order
        return self.taken[key]

    async def history(self, key: OrderKey) -> list[HistoryEntry]:
        await self.order(key)
        at = NOW + timedelta(seconds=2)
        return [HistoryEntry(3, NOW, Answer(at, "1001", seqno="4b1889bde31f0561", status="0"))]

    async def tell(self, kind: NoticeType, order: Order, state: DeliveryState = DeliveryState.PENDING) -> Notice:
        """Make a notice of an order."""
        number = len(self.notices) + 1
        notice = Notice(number, f"evt-{number}", kind, order.key, notice_body(kind, order, NOW, None), NOW, 0.0)
        due = 10.0 if state is DeliveryState.PENDING else None
        self.notices.append(Delivery(notice, state, due=due))
        async with self._news:
            self._news.notify_all()
        return notice

    async def deliveries(
        self,
        state: DeliveryState | None,
        key: OrderKey | None,
        limit: int,
        before: int | None,
        after: int | None,
    ) -> list[Delivery]:
        self._check()
        self.pages.append(limit)
        found = [
            one
            for one in self.notices
            if state in (None, one.state)
            and key in (None, one.notice.key)
            and (before is None or one.notice.id < before)
            and (after is None or one.notice.id > after)
        ]
        return found[:limit] if after is not None else found[::-1][:limit]

    async def delivery(self, event_id: str) -> Delivery | None:
        self._check()
        return next((one for one in self.notices if one.notice.event_id == event_id), None)

    async def redeliver(self, event_id: str) -> Delivery:
        found = await self.delivery(event_id)
        if found is None:
            raise UnknownOrderError
        return replace(found, state=DeliveryState.PENDING, due=20.0)

    async def summary(self) -> Summary:
        self._check()
        orders = list(reversed(self.taken.values()))
        waiting = [order for order in orders if order.state is State.PENDING]
        dead = [
            Undelivered(one, self.taken[one.notice.key]) for one in self.notices if one.state is DeliveryState.DEAD
        ]
        nobody: Group[Order] = Group([], 0)
        overview = Overview(
            waiting=Group(waiting, len(waiting)),
            undecided=nobody,
            conflicting=nobody,
            late=nobody,
            undelivered=Group(dead, len(dead)),
            results=[order for order in orders if order.state is not State.PENDING],
        )
        hours = [Hour(NOW - timedelta(hours=back), {State.PAID: 2}, 1.5, 1.0, 3.0) for back in range(23, -1, -1)]
        outages = [self.outage] if self.outage else []
        return Summary(NOW, None if self.outage else NOW, outages, overview, hours, complete=True)

    async def next_notice(self, after: int, wait: float) -> None:
        try:
            async with asyncio.timeout(wait), self._news:
                self.waiting.set()
                await self._news.wait_for(lambda: len(self.notices) > after)
        except TimeoutError:
            return

    def document(self, order: Order) -> dict[str, object]:
        return order_document(order, self.wall_at(order.due) if order.due is not None else None)

    def reason(self, order: Order) -> str:
        return "in_progress"

    def why(self, order: Order) -> str:
        return f"the order is {order.state}"

    def wall_at(self, due: float) -> datetime:
        return NOW + timedelta(seconds=due)

    def health(self) -> dict[str, object]:
        return {"status": "ok"}

    def readiness(self) -> tuple[bool, dict[str, object]]:
        return self.ready, {"status": "ok" if self.ready else "unready", "store": {"status": "ok"}}
