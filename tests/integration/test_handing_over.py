"""What a store hands over of a new notice, so that nobody has to look for it; and that nothing is lost by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from poller.core.delivery import DeliveryState
from poller.core.orders import mark_undecided, request_cancel
from poller.ports import Attempt, Making, Recorded
from poller.stores import KeptStore
from poller.stores.sqlite import SqliteStore
from tests.integration.store_engines import ALL, AT, ENGINES, Opener, events, key, making, paid, reopening, take_on
from tests.integration.watched_sqlite import BusyWriter, started


@pytest.fixture(params=list(ENGINES))
async def reopen_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    async with reopening(request.param, tmp_path) as opener:
        yield opener


@pytest.fixture
async def store(reopen_store: Opener) -> KeptStore:
    return await reopen_store()


@pytest.fixture
async def one(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "poller.db")
    yield store
    await store.close()


def wanted(event: str, *, webhook: bool = True) -> Making:
    return replace(making(event, webhook=webhook), tell=True, send=webhook)


async def end(store: KeptStore, name: str, event: str) -> Recorded:
    return await store.change(key(name), paid, wanted(event))


async def unlogged(store: KeptStore) -> list[str]:
    return [notice.event_id for notice in await store.unlogged(10)]


async def test_what_is_handed_over_is_what_a_look_would_find_and_no_look_finds_the_rest(store: KeptStore) -> None:
    await take_on(store, "a")
    recorded = await end(store, "a", "e1")
    found, due = await store.unlogged(10), await store.claim_deliveries(ALL, 10)
    [delivery] = await store.deliveries(None, None, 10)
    assert [*found, *filter(None, [recorded.notice])] == [delivery.notice]
    assert [*due, *filter(None, [recorded.delivery])] == [delivery]


async def test_what_was_handed_over_and_not_told_of_is_found_after_a_restart(reopen_store: Opener) -> None:
    store = await reopen_store()
    await take_on(store, "a")
    await end(store, "a", "e1")
    store = await reopen_store()
    assert await unlogged(store) == ["e1"]
    assert events(await store.claim_deliveries(ALL, 10)) == ["e1"]


async def test_what_was_handed_over_is_done_once_it_has_been_told_of(one: SqliteStore) -> None:
    await take_on(one, "a")
    recorded = await end(one, "a", "e1")
    assert recorded.notice is not None
    one.note_logged([recorded.notice.id])
    await one.record_attempt(Attempt(recorded.notice.id, DeliveryState.DELIVERED, AT, status=204))
    assert await unlogged(one) == []
    assert await one.claim_deliveries(ALL, 10) == []
    [delivery] = await one.deliveries(None, None, 10)
    assert (delivery.state, delivery.attempts) == (DeliveryState.DELIVERED, 1)


async def test_nothing_is_handed_over_that_was_not_asked_for_or_not_made(one: SqliteStore) -> None:
    await take_on(one, "a", "b", "c")
    assert (await one.change(key("a"), paid, making("e1")))[1:] == (None, None)
    assert (await one.change(key("b"), request_cancel, wanted("e2")))[1:] == (None, None)
    recorded = await one.change(key("c"), paid, wanted("e3", webhook=False))
    assert recorded.notice is not None
    assert recorded.delivery is None
    assert await unlogged(one) == ["e1"]


async def test_a_notice_is_not_handed_over_for_sending_before_an_older_one_of_its_order(one: SqliteStore) -> None:
    await take_on(one, "a")
    told = await one.change(key("a"), lambda order: mark_undecided(order, AT), wanted("e1"))
    ended = await end(one, "a", "e2")
    assert told.delivery is not None
    assert ended.notice is not None
    assert ended.delivery is None
    assert await one.claim_deliveries(ALL, 10) == []
    await one.record_attempt(Attempt(told.delivery.notice.id, DeliveryState.DELIVERED, AT, status=204))
    assert events(await one.claim_deliveries(ALL, 10)) == ["e2"]


async def test_a_delivery_that_is_given_back_is_claimed_again(store: KeptStore) -> None:
    await take_on(store, "a")
    await store.change(key("a"), paid, making("e1"))
    [delivery] = await store.claim_deliveries(ALL, 10)
    store.give_back_deliveries([delivery.notice.id])
    assert await store.claim_deliveries(ALL, 10) == [delivery]


async def test_a_caller_that_was_cancelled_has_taken_nothing_with_it(one: SqliteStore) -> None:
    await take_on(one, "a")
    call = asyncio.create_task(end(one, "a", "e1"))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await one.flush()  # by then the change was answered, too
    assert await unlogged(one) == ["e1"]
    assert events(await one.claim_deliveries(ALL, 10)) == ["e1"]


async def test_a_caller_that_was_cancelled_takes_no_delivery_from_who_holds_it(one: SqliteStore) -> None:
    await take_on(one, "a", "busy")
    writer = BusyWriter(one)
    busy = await writer.begin()
    only_told_of = replace(making("e1"), tell=True)
    gone, claimed = await started(one.change(key("a"), paid, only_told_of), one.claim_deliveries(ALL, 10))
    gone.cancel()
    writer.end()
    await busy
    assert events(await claimed) == ["e1"]
    assert await one.claim_deliveries(ALL, 10) == []
    assert await unlogged(one) == ["e1"]


async def test_what_was_handed_over_in_a_transaction_that_failed_is_handed_over_the_next_time(
    one: SqliteStore,
) -> None:
    await take_on(one, "a")

    def broken(*_: object) -> str:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError):
        await one.change(key("a"), paid, replace(wanted("e1"), body=broken))
    recorded = await end(one, "a", "e1")
    assert recorded.notice is not None
    assert recorded.delivery is not None
    assert await unlogged(one) == []
