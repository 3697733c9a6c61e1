"""What daemons of a fleet have together beside orders: errands, an outage, and notices in an order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from poller.core.orders import Prompt, mark_undecided
from poller.core.outage import Told
from poller.core.replies import Cause
from poller.ports import Errand, UnknownOrderError
from poller.stores.postgres import PostgresStore
from tests.integration.postgres_server import beside, schema_for, shared_server
from tests.integration.store_engines import AT, events, give_back, key, making, paid, take_on

DOWN = Told(since=3.0, last_canary=1.0, canaries=0, wish=2.0, kind=Cause.BUSY, cause="HTTP status 503")

Join = Callable[..., Awaitable[PostgresStore]]


@pytest.fixture
async def join(tmp_path: Path) -> AsyncIterator[Join]:
    async with AsyncExitStack() as leaving:

        async def joining() -> PostgresStore:
            store = await PostgresStore.open(shared_server().url(schema_for(tmp_path)))
            leaving.push_async_callback(store.close)
            return store

        yield joining


async def test_an_errand_is_seen_by_who_holds_the_order_once_and_soon(join: Join) -> None:
    holder, other, third = await join(), await join(), await join()
    await take_on(holder, "a")
    heard = asyncio.Event()
    holder.fleet().on_news(heard.set)
    heard.clear()
    await other.fleet().hand_over(Errand(key("a"), Prompt.CALLBACK))
    async with asyncio.timeout(2.0):  # a heartbeat comes later
        await heard.wait()
    assert await third.fleet().errands() == []
    assert await holder.fleet().errands() == [Errand(key("a"), Prompt.CALLBACK)]
    assert await holder.fleet().errands() == []


async def test_an_errand_for_an_order_that_nobody_holds_is_anybodys_once(join: Join) -> None:
    one, other = await join(), await join()
    [waiting] = await take_on(one, "a")
    await take_on(one, "b")
    give_back(one, waiting)
    await one.change(key("b"), paid, making("e1"))
    await one.flush()
    await one.fleet().hand_over(Errand(key("a"), Prompt.REQUEST))
    await one.fleet().hand_over(Errand(key("b"), Prompt.REQUEST))
    shares = await asyncio.gather(one.fleet().errands(), other.fleet().errands())
    assert sorted(errand.key for share in shares for errand in share) == [key("a"), key("b")]


async def test_an_errand_for_an_unknown_order_is_refused(join: Join) -> None:
    with pytest.raises(UnknownOrderError):
        await (await join()).fleet().hand_over(Errand(key("a"), Prompt.REQUEST))


async def test_a_notice_made_here_is_hinted_at_there_and_not_here(join: Join) -> None:
    here, there = await join(), await join()
    hints: list[str] = []
    heard = asyncio.Event()
    here.fleet().on_change(lambda: hints.append("here"))
    there.fleet().on_change(heard.set)
    await take_on(here, "a")
    await here.change(key("a"), paid, making("e1"))
    async with asyncio.timeout(2.0):
        await heard.wait()
    await here.flush()
    assert hints == []


async def test_an_outage_is_one_for_all_with_one_canary(join: Join) -> None:
    fleets = [(await join()).fleet() for _ in range(2)]
    assert await fleets[1].outage() is None
    await fleets[0].outage_opened(DOWN)
    await fleets[1].outage_opened(DOWN)
    told = await fleets[1].outage()
    assert told is not None
    assert (told.canaries, told.kind, told.cause, told.wish) == (0, DOWN.kind, DOWN.cause, 2.0)
    assert sorted(await asyncio.gather(*(one.take_canary(0) for one in fleets))) == [False, True]
    await fleets[0].canary_failed(DOWN)
    assert not await fleets[1].take_canary(0)  # there has been another since
    assert await fleets[1].take_canary(1)
    await fleets[1].outage_over()
    assert await fleets[0].outage() is None
    assert not await fleets[0].take_canary(1)


async def test_who_reads_notices_on_misses_none_that_a_slower_transaction_makes(
    join: Join, tmp_path: Path
) -> None:
    """A notice that got its id first is told first, though its transaction ends last."""
    store = await join()
    await take_on(store, "a")
    async with beside(shared_server().url(schema_for(tmp_path))) as slow:
        await slow.execute("BEGIN")
        await slow.execute(
            "INSERT INTO deliveries (event_id, order_id, type, body, made_at, made_run, state) "
            "SELECT 'slow', id, 'payment.undecided', '{}', now(), 0, 'logged' FROM orders"
        )
        await store.change(key("a"), lambda order: mark_undecided(order, AT), making("quick"))
        assert events(await store.deliveries(None, None, 9)) == ["quick"]
        assert await store.deliveries(None, None, 9, after=0) == []
        await slow.execute("COMMIT")
    assert events(await store.deliveries(None, None, 9, after=0)) == ["slow", "quick"]
