"""New orders: what comes in one turn of the loop is taken on together."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import chain, islice

import structlog

from poller.bell import Bell
from poller.core.orders import NewOrder
from poller.liveness import Liveness
from poller.metrics import Metrics
from poller.polling import Poller
from poller.ports import Accepted, Clock, Store, StoreUnavailableError, Submitted
from poller.ports.errors import for_one
from poller.timeline import Timeline
from poller.trouble import StoreTrouble

TOGETHER = 1000  # orders in one call of the store, unless a caller has more

log = structlog.get_logger()


class _Call:
    """What one caller hands in; `answers` is done when they are durable."""

    __slots__ = ("answers", "orders")

    def __init__(self, orders: Sequence[NewOrder]) -> None:
        self.orders = orders
        self.answers: asyncio.Future[list[Submitted]] = asyncio.get_running_loop().create_future()

    def give(self, answers: list[Submitted]) -> None:
        if not self.answers.done():  # the caller was cancelled: its orders are taken on all the same
            self.answers.set_result(answers)

    def refuse(self, error: Exception) -> None:
        if not self.answers.done():
            self.answers.set_exception(error)


class Submissions:
    def __init__(
        self,
        *,
        store: Store,
        poller: Poller,
        clock: Clock,
        timeline: Timeline,
        liveness: Liveness,
        trouble: StoreTrouble,
        metrics: Metrics,
    ) -> None:
        self._store = store
        self._poller = poller
        self._clock = clock
        self._timeline = timeline
        self._liveness = liveness
        self._trouble = trouble
        self._metrics = metrics
        self._calls: list[_Call] = []  # of this turn
        self._stopping = False
        self._bell = Bell()

    async def submit(self, orders: Sequence[NewOrder]) -> list[Submitted]:
        """Take orders on, durable; one answer each, in order. They are taken on even if the caller goes away.

        Raises StoreUnavailableError: then nothing of it was done and it may be repeated.
        """
        if not orders:
            return []
        if self._stopping:
            raise StoreUnavailableError("the daemon is stopping: hand it in again once it runs")
        call = _Call(orders)
        self._calls.append(call)
        self._bell.ring()
        return await call.answers

    def stop(self) -> None:
        """Take nothing more on; `run` returns once what has come in is answered."""
        self._stopping = True
        self._bell.ring()

    async def run(self) -> None:
        """Runs until `stop`. What it raises is a defect in how orders are followed; callers have their answers."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._liveness.turn("intake of orders")
                calls, self._calls = self._calls, []
                for first, some in self._groups(calls):
                    group.create_task(self._take_on(first, some))
                if self._stopping:  # looked at after the last calls are taken: one ring may stand for both
                    return
                await self._bell.wait(None)

    def _groups(self, calls: Sequence[_Call]) -> Iterator[tuple[float, list[_Call]]]:
        """Those whose first query is due after as long, and the seconds until then."""
        first_query = cache(self._poller.first_query)
        groups: defaultdict[float, list[_Call]] = defaultdict(list)
        sizes: defaultdict[float, int] = defaultdict(int)
        for call in calls:
            first = min(map(first_query, {order.key.park_uuid for order in call.orders}))
            if groups[first] and sizes[first] + len(call.orders) > TOGETHER:
                yield first, groups.pop(first)
                del sizes[first]
            groups[first].append(call)
            sizes[first] += len(call.orders)
        yield from groups.items()

    async def _take_on(self, first: float, calls: Sequence[_Call]) -> None:
        now, due = self._timeline.run(), self._timeline.schedule() + first
        orders = list(chain.from_iterable(call.orders for call in calls))
        try:
            answers = await self._store.submit(orders, self._clock.wall(), now, due)
        except StoreUnavailableError as error:
            self._trouble.met(error, "taking orders on")
            for call in calls:
                call.refuse(for_one(error, error))
        except Exception as error:
            if len(calls) == 1:
                calls[0].refuse(error)
            else:  # one caller's orders are no others' trouble
                for call in calls:
                    await self._take_on(first, [call])
        else:
            self._trouble.over()
            rest = iter(answers)
            for call in calls:  # first, though none of them goes on before this step ends: nothing may hold it up
                call.give(list(islice(rest, len(call.orders))))
            self._see_in([answer for answer in answers if isinstance(answer, Accepted)])

    def _see_in(self, accepted: Sequence[Accepted]) -> None:
        """Have them asked about, then log each: by turns, the two take twice the time."""
        self._poller.take_on([answer.pending for answer in accepted])
        told = log.bind()
        for answer in accepted:
            park_uuid, pay_partner = answer.order.key
            told.info(
                "order.accepted", park_uuid=park_uuid, pay_partner=pay_partner, metadata=answer.order.metadata
            )
        self._metrics.accepted(len(accepted))
