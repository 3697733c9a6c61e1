"""Orders that are claimed or cancelled at the very moment at which the lease on them is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from poller.core.cadence import Cadence
from poller.core.orders import Change, NewOrder, Order, OrderKey
from poller.core.replies import InProgress, Reply, Result
from poller.ledger import Ledger
from poller.liveness import Liveness
from poller.metrics import Metrics
from poller.polling import Poller
from poller.ports import LeaseLostError, Making, Pending, Recorded
from poller.relay import Relay
from poller.stores.sqlite import SqliteStore
from poller.system import RateThrottle, SystemClock
from poller.timeline import Timeline
from poller.trouble import StoreTrouble
from tests.integration.store_engines import AT, give_back, key, take_on


class LosingStore(SqliteStore):
    """`lose` is called right before the next claim, or in place of the next change."""

    lose: Callable[[], None] | None = None

    def _loses(self) -> bool:
        lose, self.lose = self.lose, None
        if lose is not None:
            lose()
        return lose is not None

    async def claim(self, by: float, limit: int, *, freshest: bool = False) -> list[Pending]:
        self._loses()
        return await super().claim(by, limit, freshest=freshest)

    async def change(self, key: OrderKey, change: Callable[[Order], Change | None], making: Making) -> Recorded:
        if self._loses():
            raise LeaseLostError("the others have it")
        return await super().change(key, change, making)


class Platform:
    def __init__(self) -> None:
        self.asked = asyncio.Event()

    def knows(self, park_uuid: str) -> bool:
        return True

    async def query(self, key: OrderKey) -> Result:
        self.asked.set()
        return InProgress(Reply("1001", status="0"))


@asynccontextmanager
async def polling(folder: Path) -> AsyncIterator[tuple[LosingStore, Poller, Platform]]:
    store = await LosingStore.open(folder / "poller.db")
    assert isinstance(store, LosingStore)
    clock, trouble, metrics, platform = SystemClock(), StoreTrouble(), Metrics(), Platform()
    timeline = Timeline(clock, store.last_stamp())
    relay = Relay(
        store=store,
        clock=clock,
        timeline=timeline,
        liveness=Liveness(clock),
        trouble=trouble,
        metrics=metrics,
        receiver=None,
        give_up_after=1.0,
    )
    ledger = Ledger(
        store=store,
        clock=clock,
        timeline=timeline,
        trouble=trouble,
        metrics=metrics,
        outlet=relay,
        webhook=False,
    )
    poller = Poller(
        store=store,
        records=store,
        platform=platform,
        throttle=RateThrottle(100),
        fleet=None,
        ledger=ledger,
        clock=clock,
        timeline=timeline,
        liveness=Liveness(clock),
        trouble=trouble,
        metrics=metrics,
        cadence=Cadence(),
        max_concurrency=10,
        lots=[key("a").park_uuid],
    )
    try:
        yield store, poller, platform
    finally:
        await store.close()


async def test_what_was_claimed_as_the_lease_was_lost_is_claimed_anew_and_asked_about(tmp_path: Path) -> None:
    async with polling(tmp_path) as (store, poller, platform):
        [one] = await take_on(store, "a", due=0.0)
        give_back(store, one)
        store.lose = poller.forget_all
        running = asyncio.create_task(poller.run())
        async with asyncio.timeout(10):
            await platform.asked.wait()
            poller.stop()
            await running


async def test_an_order_that_was_lost_as_it_was_to_be_cancelled_is_not_asked_about_here(tmp_path: Path) -> None:
    async with polling(tmp_path) as (store, poller, _):
        await store.submit([NewOrder(key("a"))], AT, 0.0, 0.0)
        store.lose = poller.forget_all
        with pytest.raises(LeaseLostError):
            await poller.cancel(key("a"))
        assert poller.held() == 0
