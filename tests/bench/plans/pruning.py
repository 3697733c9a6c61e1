"""A day's orders let go while others are taken on, ended and told of: how long those wait for it."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable
from dataclasses import dataclass

from poller.core.orders import NewOrder, NoticeType, Order, OrderKey, State, end
from poller.core.replies import Payment
from poller.housekeeping import PRUNE_STEP
from poller.ports import Making
from poller.stores.postgres import PostgresStore
from tests.bench.plans.asking import AT
from tests.bench.plans.filling import A_DAY, Size

EVER = 1e12
QUIET = 300  # orders before the pruning begins


@dataclass(frozen=True, slots=True)
class Pruned:
    """What it took: milliseconds, in the median and at the 99th percentile, without pruning and beside it."""

    orders: int
    seconds: float
    step_first: float
    step_last: float
    waits: dict[str, tuple[float, float, float, float]]


async def prune_a_day(url: str, size: Size) -> Pruned:
    """Without the pauses that a daemon makes; of a small store a quarter of what can be let go."""
    worker, pruner = await PostgresStore.open(url), await PostgresStore.open(url)
    wanted, steps = min(A_DAY, size.kept // 4), list[float]()
    quiet, busy = Waits(), Waits()
    try:
        for number in range(QUIET):
            await quiet.one_order(worker, f"quiet {number}", size.run)
        pruning = asyncio.create_task(_prune(pruner, wanted, steps))
        began, number = time.monotonic(), 0
        while not pruning.done():
            number += 1
            await busy.one_order(worker, f"busy {number}", size.run)
        await pruning
        seconds = time.monotonic() - began
    finally:
        await worker.close()
        await pruner.close()
    waits = {what: (*_spread(quiet.ms[what]), *_spread(busy.ms[what])) for what in quiet.ms}
    tenth = max(len(steps) // 10, 1)
    first, last = statistics.median(steps[:tenth]), statistics.median(steps[-tenth:])
    return Pruned(len(steps) * PRUNE_STEP, seconds, first, last, waits)


class Waits:
    """How long each thing took, in milliseconds."""

    def __init__(self) -> None:
        self.ms: dict[str, list[float]] = defaultdict(list)

    async def one_order(self, store: PostgresStore, name: str, run: float) -> None:
        """What one order asks of a store."""
        key = OrderKey("lot", name)
        await self._timed("take an order on", store.submit([NewOrder(key)], AT, run, run))
        await self._timed("claim what is due", store.claim(run + 300, 1))
        making = Making(f"event {name}", AT, run, run, webhook=True, body=_body)
        await self._timed(
            "end it", store.change(key, lambda order: end(order, State.PAID, AT, Payment("s")), making)
        )
        await self._timed("claim deliveries", store.claim_deliveries(run + 30, 1))
        await self._timed("counts", store.counts())

    async def _timed(self, what: str, work: Awaitable[object]) -> None:
        began = time.monotonic()
        await work
        self.ms[what].append((time.monotonic() - began) * 1000)


async def _prune(store: PostgresStore, wanted: int, steps: list[float]) -> None:
    while len(steps) * PRUNE_STEP < wanted:
        began = time.monotonic()
        assert await store.prune(EVER, PRUNE_STEP)
        steps.append((time.monotonic() - began) * 1000)


def _spread(found: list[float]) -> tuple[float, float]:
    ordered = sorted(found)
    return statistics.median(ordered), ordered[len(ordered) * 99 // 100]


def _body(_kind: NoticeType, order: Order) -> str:
    return f'{{"pay_partner":"{order.key.pay_partner}"}}'
