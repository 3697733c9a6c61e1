"""What every engine promises of letting history go: an order keeps its number, its metadata and its outcome."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from poller.core.delivery import DeliveryState
from poller.core.orders import Answer, NewOrder, State, end, mark_undecided, reopen
from poller.ports import Attempt, Known, Progress
from poller.stores import KeptStore
from tests.integration.store_engines import ALL, AT, ENGINES, Opener, events, key, making, paid, reopening, take_on


@pytest.fixture(params=list(ENGINES))
async def reopen_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    async with reopening(request.param, tmp_path) as opener:
        yield opener


@pytest.fixture
async def store(reopen_store: Opener) -> KeptStore:
    return await reopen_store()


async def asked_about(store: KeptStore, *names: str) -> None:
    for pending in await take_on(store, *names):
        store.note(Progress(pending.id, Answer(AT, error="timeout"), 2.0, 1))


async def end_at(store: KeptStore, name: str, run: float, *, webhook: bool = False) -> None:
    """Its notice has the order's name and, without a webhook, is in the log."""
    await store.change(key(name), paid, replace(making(name, webhook=webhook), run=run))
    if not webhook:
        store.note_logged([notice.id for notice in await store.unlogged(10)])


async def entries(store: KeptStore, *names: str) -> list[int]:
    return [len(await store.history(key(name))) for name in names]


async def test_a_pruned_order_keeps_everything_but_its_history_and_its_notices(reopen_store: Opener) -> None:
    store = await reopen_store()
    await store.submit([NewOrder(key("a"), {"plate": "粤B660PP"})], AT, 0.0, 1.0)
    await store.claim(ALL, 1)
    store.note(Progress((await store.hold(key("a"))).id, Answer(AT, error="timeout"), 2.0, 1))
    await end_at(store, "a", 50.0)
    before = await store.get(key("a"))
    assert before is not None
    assert (before.polls, before.last_answer) == (1, Answer(AT, error="timeout"))
    assert await store.prune(50.0, 10) == 1
    store = await reopen_store()
    assert await store.get(key("a")) == before._replace(last_answer=None)
    assert await store.history(key("a")) == []
    assert await store.deliveries(None, None, 10) == []
    [again] = await store.submit([NewOrder(key("a"), {"plate": "粤B660PP"})], AT, 0.0, 1.0)
    assert isinstance(again, Known)
    assert await store.claim(ALL, 10) == []


async def test_only_what_ended_by_then_is_pruned_the_longest_ended_first_and_once(store: KeptStore) -> None:
    await asked_about(store, "late", "early", "middle", "pending")
    for name, run in (("late", 30.0), ("early", 10.0), ("middle", 20.0)):
        await end_at(store, name, run)
    assert await store.prune(9.9, 10) == 0
    assert await store.prune(20.0, 1) == 1
    assert await entries(store, "early", "middle", "late", "pending") == [0, 1, 1, 1]
    assert await store.prune(20.0, 10) == 1
    assert await entries(store, "early", "middle", "late", "pending") == [0, 0, 1, 1]
    assert await store.prune(20.0, 10) == 0
    assert events(await store.deliveries(None, None, 10)) == ["late"]


async def test_a_notice_that_somebody_may_still_want_is_never_pruned(store: KeptStore) -> None:
    """Neither one to be sent, nor a dead one, nor one that may not have reached the log yet."""
    await asked_about(store, "delivered", "dead", "waiting", "unlogged")
    for name in ("delivered", "dead", "waiting"):
        await end_at(store, name, 10.0, webhook=True)
    claimed = {one.notice.event_id: one.notice.id for one in await store.claim_deliveries(ALL, 10)}
    for name, state in (("delivered", DeliveryState.DELIVERED), ("dead", DeliveryState.DEAD)):
        await store.record_attempt(Attempt(claimed[name], state, AT))
    store.note_logged([notice.id for notice in await store.unlogged(10)])
    await store.change(key("unlogged"), paid, replace(making("unlogged", webhook=False), run=10.0))
    assert await store.prune(10.0, 10) == 4
    assert events(await store.deliveries(None, None, 10)) == ["unlogged", "waiting", "dead"]
    assert [notice.event_id for notice in await store.unlogged(10)] == ["unlogged"]
    assert await entries(store, "delivered", "dead", "waiting", "unlogged") == [0, 0, 0, 0]


async def test_an_order_that_was_reopened_counts_from_its_second_end(store: KeptStore) -> None:
    await asked_about(store, "a")
    cancelled = replace(making("first", webhook=False), run=10.0)
    await store.change(key("a"), lambda order: end(order, State.CANCELLED, AT), cancelled)
    await store.change(key("a"), lambda order: reopen(order, 20.0, 21.0), making("none"))
    assert await store.prune(ALL, 10) == 0
    await store.change(key("a"), lambda order: mark_undecided(order, AT), making("told", webhook=False))
    await end_at(store, "a", 30.0)
    assert await store.prune(29.0, 10) == 0
    assert await entries(store, "a") == [1]
    assert await store.prune(30.0, 10) == 1
    assert await entries(store, "a") == [0]
