"""What every engine promises of notices and their deliveries as a `Store`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from poller.core.delivery import DeliveryState
from poller.core.orders import NoticeType, mark_undecided
from poller.ports import Attempt, Delivery, UnknownOrderError
from poller.stores import KeptStore
from tests.integration.store_engines import ALL, AT, ENGINES, Opener, events, key, making, paid, reopening, take_on


@pytest.fixture(params=list(ENGINES))
async def reopen_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    async with reopening(request.param, tmp_path) as opener:
        yield opener


@pytest.fixture
async def store(reopen_store: Opener) -> KeptStore:
    return await reopen_store()


async def tell_undecided(store: KeptStore, name: str, event: str, due: float = 5.0) -> None:
    await store.change(key(name), lambda order: mark_undecided(order, AT), making(event, due=due))


async def end_paid(store: KeptStore, name: str, event: str, due: float = 5.0) -> None:
    await store.change(key(name), paid, making(event, due=due))


async def received(store: KeptStore, delivery: Delivery) -> None:
    await store.record_attempt(Attempt(delivery.notice.id, DeliveryState.DELIVERED, AT, status=204))


async def try_again(store: KeptStore, delivery: Delivery, due: float) -> None:
    await store.record_attempt(
        Attempt(delivery.notice.id, DeliveryState.PENDING, AT, due=due, error="HTTP 500", status=500)
    )


async def test_the_notices_of_one_order_go_out_one_after_the_other(store: KeptStore) -> None:
    await take_on(store, "a", "b")
    await tell_undecided(store, "a", "a undecided", due=9.0)
    await end_paid(store, "a", "a paid", due=1.0)
    await end_paid(store, "b", "b paid", due=2.0)
    first = await store.claim_deliveries(ALL, 10)
    assert events(first) == ["b paid", "a undecided"]
    assert await store.claim_deliveries(ALL, 10) == []
    await try_again(store, first[1], due=30.0)
    assert await store.claim_deliveries(29.0, 10) == []
    again = await store.claim_deliveries(ALL, 10)
    assert events(again) == ["a undecided"]
    await received(store, again[0])
    assert events(await store.claim_deliveries(ALL, 10)) == ["a paid"]


async def test_deliveries_are_claimed_the_longest_due_first_and_only_what_is_due(store: KeptStore) -> None:
    await take_on(store, "a", "b", "c")
    for name, due in (("a", 30.0), ("b", 10.0), ("c", 20.0)):
        await end_paid(store, name, name, due)
    assert events(await store.claim_deliveries(10.0, 10)) == ["b"]
    assert events(await store.claim_deliveries(ALL, 1)) == ["c"]
    assert events(await store.claim_deliveries(ALL, 10)) == ["a"]


async def test_the_next_delivery_is_the_one_that_a_claim_would_give(store: KeptStore) -> None:
    assert await store.next_delivery() is None
    await take_on(store, "a", "b")
    await tell_undecided(store, "a", "a undecided", due=9.0)
    await end_paid(store, "a", "a paid", due=1.0)
    assert await store.next_delivery() == 9.0
    [delivery] = await store.claim_deliveries(ALL, 1)
    assert await store.next_delivery() is None
    await end_paid(store, "b", "b paid", due=12.0)
    assert await store.next_delivery() == 12.0
    await received(store, delivery)
    assert await store.next_delivery() == 1.0


async def test_each_try_is_written_down(reopen_store: Opener) -> None:
    store = await reopen_store()
    await take_on(store, "a")
    await end_paid(store, "a", "e1")
    [delivery] = await store.claim_deliveries(ALL, 1)
    await try_again(store, delivery, due=8.0)
    tried = replace(delivery, attempts=1, due=8.0, last_error="HTTP 500", last_status=500, last_at=AT)
    assert await store.delivery("e1") == tried
    [delivery] = await store.claim_deliveries(ALL, 1)
    assert delivery == tried
    later = AT + timedelta(hours=1)
    await store.record_attempt(Attempt(delivery.notice.id, DeliveryState.DEAD, later, error="gone", status=410))
    dead = replace(
        tried, state=DeliveryState.DEAD, attempts=2, due=None, last_error="gone", last_status=410, last_at=later
    )
    assert await (await reopen_store()).delivery("e1") == dead


async def test_a_try_at_a_notice_that_is_not_there_is_refused(store: KeptStore) -> None:
    with pytest.raises(UnknownOrderError):
        await store.record_attempt(Attempt(7, DeliveryState.DELIVERED, AT))


async def test_after_a_restart_deliveries_under_way_are_claimed_again(reopen_store: Opener) -> None:
    store = await reopen_store()
    await take_on(store, "a")
    await end_paid(store, "a", "e1")
    await store.claim_deliveries(ALL, 1)
    assert events(await (await reopen_store()).claim_deliveries(ALL, 1)) == ["e1"]


async def test_without_a_webhook_a_notice_is_for_the_log_alone(store: KeptStore) -> None:
    await take_on(store, "a")
    await store.change(key("a"), paid, making("e1", webhook=False))
    assert await store.claim_deliveries(ALL, 10) == []
    assert await store.next_delivery() is None
    [delivery] = await store.deliveries(DeliveryState.LOGGED, None, 10)
    assert (delivery.notice.event_id, delivery.due) == ("e1", None)


async def test_a_notice_is_unlogged_until_it_is_noted(reopen_store: Opener) -> None:
    store = await reopen_store()
    await take_on(store, "a")
    await tell_undecided(store, "a", "e1")
    await end_paid(store, "a", "e2")
    unlogged = await store.unlogged(10)
    assert [(notice.event_id, notice.type) for notice in unlogged] == [
        ("e1", NoticeType.UNDECIDED),
        ("e2", NoticeType.PAID),
    ]
    assert await store.unlogged(1) == unlogged[:1]
    store.note_logged([unlogged[0].id])
    assert await store.unlogged(10) == unlogged[1:]
    store.note_logged([unlogged[1].id])
    assert await (await reopen_store()).unlogged(10) == []


async def test_a_dead_notice_is_sent_again_on_request(store: KeptStore) -> None:
    await take_on(store, "a")
    await end_paid(store, "a", "e1")
    [delivery] = await store.claim_deliveries(ALL, 1)
    await store.record_attempt(Attempt(delivery.notice.id, DeliveryState.DEAD, AT, error="gone", status=410))
    revived = await store.redeliver("e1", run=70.0, due=71.0)
    assert (revived.state, revived.due, revived.notice.made_run) == (DeliveryState.PENDING, 71.0, 70.0)
    assert await store.claim_deliveries(ALL, 1) == [revived]
    with pytest.raises(UnknownOrderError):
        await store.redeliver("nothing", run=70.0, due=71.0)


async def test_a_delivery_under_way_is_not_sent_twice_on_request(store: KeptStore) -> None:
    await take_on(store, "a")
    await end_paid(store, "a", "e1")
    claimed = await store.claim_deliveries(ALL, 1)
    assert [await store.redeliver("e1", run=70.0, due=71.0)] == claimed
    assert await store.claim_deliveries(ALL, 1) == []


async def test_an_older_notice_sent_again_goes_before_the_newer_one(store: KeptStore) -> None:
    await take_on(store, "a")
    await tell_undecided(store, "a", "e1")
    [delivery] = await store.claim_deliveries(ALL, 1)
    await received(store, delivery)
    await end_paid(store, "a", "e2", due=1.0)
    await store.redeliver("e1", run=70.0, due=71.0)
    assert events(await store.claim_deliveries(ALL, 10)) == ["e1"]


async def test_deliveries_are_listed_both_ways_in_pages(store: KeptStore) -> None:
    await take_on(store, "a", "b", "c")
    await tell_undecided(store, "a", "e1")
    for event, name in (("e2", "a"), ("e3", "b"), ("e4", "c")):
        await end_paid(store, name, event)
    [first] = await store.claim_deliveries(ALL, 1)
    await received(store, first)
    newest = await store.deliveries(None, None, 3)
    assert events(newest) == ["e4", "e3", "e2"]
    assert events(await store.deliveries(None, None, 3, before=newest[-1].notice.id)) == ["e1"]
    assert events(await store.deliveries(None, None, 2, after=first.notice.id)) == ["e2", "e3"]
    assert events(await store.deliveries(DeliveryState.PENDING, None, 10)) == ["e4", "e3", "e2"]
    assert events(await store.deliveries(None, key("a"), 10)) == ["e2", "e1"]
    assert events(await store.deliveries(DeliveryState.DELIVERED, key("a"), 10)) == ["e1"]
    assert await store.deliveries(None, key("nobody"), 10) == []


async def test_the_freshest_delivery_can_be_claimed_first(store: KeptStore) -> None:
    await take_on(store, "a", "b", "c", "d")
    for name, due in (("a", 30.0), ("b", 10.0), ("c", 30.0), ("d", 50.0)):
        await end_paid(store, name, name, due)
    assert events(await store.claim_deliveries(40.0, 2, freshest=True)) == ["c", "a"]
    assert events(await store.claim_deliveries(ALL, 1)) == ["b"]


async def test_what_waits_for_later_is_brought_forward_step_by_step_each_once(store: KeptStore) -> None:
    await take_on(store, "a", "b", "c", "d", "e")
    for name, due in (("a", 300.0), ("b", 400.0), ("c", 5.0), ("d", 500.0), ("e", 600.0)):
        await end_paid(store, name, name, due)
    [under_way] = await store.claim_deliveries(ALL, 1, freshest=True)
    assert under_way.notice.event_id == "e"
    step = await store.bring_deliveries_forward(7.0, 2)
    assert [one.due for one in (await store.deliveries(None, None, 5))] == [600.0, 7.0, 5.0, 400.0, 300.0]
    while step is not None:
        step = await store.bring_deliveries_forward(8.0, 2, step)
    assert [one.due for one in (await store.deliveries(None, None, 5))] == [600.0, 7.0, 5.0, 8.0, 8.0]
    assert await store.next_delivery() == 5.0


async def test_bringing_forward_leaves_what_has_ended(store: KeptStore) -> None:
    await take_on(store, "a", "b")
    await end_paid(store, "a", "a", due=5.0)
    await end_paid(store, "b", "b", due=6.0)
    first, second = await store.claim_deliveries(ALL, 2)
    await received(store, first)
    await store.record_attempt(Attempt(second.notice.id, DeliveryState.DEAD, AT, error="gone", status=410))
    assert await store.bring_deliveries_forward(1.0, 10) is None
    assert [one.due for one in await store.deliveries(None, None, 5)] == [None, None]
