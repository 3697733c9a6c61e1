"""What every engine tells people of many orders at once (`poller.ports.records`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from poller.core.delivery import DeliveryState
from poller.core.documents import notice_body
from poller.core.orders import (
    Answer,
    Change,
    NewOrder,
    NoticeType,
    Order,
    State,
    contradict,
    end,
    mark_undecided,
    reopen,
)
from poller.core.replies import Payment
from poller.ports import Accepted, Attempt, Making, Progress
from poller.ports.records import COUNTED, Ended, Ending, Group, Overview, Settlement, Since
from poller.stores import KeptStore
from poller.stores.sqlite import overview as glance
from poller.stores.sqlite.opening import open_connection
from tests.integration.store_engines import AT, ENGINES, LOT, key, reopening, take_on

EVER = Since(late=0.0, conflicts=AT - timedelta(days=1), undelivered=1e9)


@pytest.fixture(params=list(ENGINES))
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeptStore]:
    async with reopening(request.param, tmp_path) as opener:
        yield await opener()


def at(run: float) -> datetime:
    return AT + timedelta(seconds=run)


def making(run: float, *, webhook: bool = False) -> Making:
    def body(kind: NoticeType, order: Order) -> str:
        return notice_body(kind, order, at(run), None)

    return Making(uuid4().hex, at(run), run=run, due=run, webhook=webhook, body=body)


async def finish(
    store: KeptStore, name: str, run: float, state: State = State.PAID, *, webhook: bool = False
) -> None:
    def ending(order: Order) -> Change:
        return end(order, state, at(run), Payment())

    await store.change(key(name), ending, making(run, webhook=webhook))


async def tell(store: KeptStore, name: str, run: float) -> None:
    await store.change(key(name), lambda order: mark_undecided(order, at(run)), making(run))


def shown(group: Group[Order]) -> list[str]:
    return [order.key.pay_partner for order in group.shown]


def undelivered(overview: Overview) -> list[tuple[str, str]]:
    return [(one.order.key.pay_partner, one.delivery.state) for one in overview.undelivered.shown]


async def test_a_new_store_has_nothing_to_tell(store: KeptStore) -> None:
    nothing: Group[Order] = Group([], 0)
    assert await store.overview(EVER, 10) == Overview(nothing, nothing, nothing, nothing, Group([], 0), [])
    assert await store.ended(Ending(0.0, 0), 10) == []


async def test_pending_orders_wait_until_the_gate_was_told_of_them_newest_first(store: KeptStore) -> None:
    for run, name in enumerate("abcd"):
        await take_on(store, name, run=float(run))
    await tell(store, "b", 9.0)
    overview = await store.overview(EVER, 2)
    assert (shown(overview.waiting), overview.waiting.count) == (["d", "c"], 3)
    assert (shown(overview.undecided), overview.undecided.count) == (["b"], 1)
    assert overview.results == []


async def test_a_result_after_undecided_is_late_as_long_as_that_is_news(store: KeptStore) -> None:
    await take_on(store, *"abc")
    await tell(store, "a", 1.0)
    await tell(store, "b", 1.5)
    await finish(store, "a", 100.0)
    await finish(store, "b", 200.0, State.FAILED)
    await finish(store, "c", 300.0)
    overview = await store.overview(EVER, 10)
    assert shown(overview.late) == ["b", "a"]
    assert [order.key.pay_partner for order in overview.results] == ["c", "b", "a"]
    assert shown((await store.overview(Since(150.0, AT, 0.0), 10)).late) == ["b"]
    assert [order.key.pay_partner for order in (await store.overview(EVER, 1)).results] == ["c"]


async def test_a_contradicted_order_is_told_of_for_some_time(store: KeptStore) -> None:
    await take_on(store, "a")
    await finish(store, "a", 1.0)
    await store.change(key("a"), lambda order: contradict(order, False, at(60.0)), making(60.0))
    assert shown((await store.overview(EVER, 10)).conflicting) == ["a"]
    assert shown((await store.overview(Since(0.0, at(60.0), 0.0), 10)).conflicting) == ["a"]
    assert shown((await store.overview(Since(0.0, at(61.0), 0.0), 10)).conflicting) == []


async def test_notices_that_are_dead_or_old_and_pending_are_undelivered(store: KeptStore) -> None:
    await take_on(store, *"abcd")
    for run, name in enumerate("abcd", start=1):
        await finish(store, name, float(run), webhook=True)
    for name, state in (("b", DeliveryState.DEAD), ("d", DeliveryState.DELIVERED)):
        [one] = await store.deliveries(None, key(name), 1)
        await store.record_attempt(Attempt(one.notice.id, state, AT))
    overview = await store.overview(EVER, 10)
    assert undelivered(overview) == [("b", "dead"), ("a", "pending"), ("c", "pending")]
    assert overview.undelivered.count == 3
    young = await store.overview(Since(0.0, AT, 2.0), 10)
    assert undelivered(young) == [("b", "dead"), ("a", "pending")]
    few = (await store.overview(EVER, 1)).undelivered
    assert (len(few.shown), few.count) == (1, 3)


async def test_what_ended_is_read_page_by_page_and_once(store: KeptStore) -> None:
    await take_on(store, *"abcd", run=1.0)
    for name, run in (("c", 2.0), ("a", 3.5), ("b", 3.5)):  # two at one moment
        await finish(store, name, run, State.FAILED if name == "b" else State.PAID)
    first = await store.ended(Ending(0.0, 0), 2)
    assert first[0] == Ended(Ending(2.0, 3), State.PAID, at(2.0), 1.0)
    assert [one.ending.id for one in first] == [3, 1]
    assert await store.ended(first[-1].ending, 2) == [Ended(Ending(3.5, 2), State.FAILED, at(3.5), 2.5)]
    assert await store.ended(Ending(3.5, 2), 2) == []


async def test_an_order_that_was_reopened_has_not_ended(store: KeptStore) -> None:
    await take_on(store, "a")
    await tell(store, "a", 1.0)
    await finish(store, "a", 2.0, State.CANCELLED)
    await store.change(key("a"), lambda order: reopen(order, 5.0, 5.0), making(5.0))
    overview = await store.overview(EVER, 10)
    assert shown(overview.waiting) == ["a"]
    assert (shown(overview.late), overview.results) == ([], [])
    assert await store.ended(Ending(0.0, 0), 10) == []
    await finish(store, "a", 7.0)
    assert [one.seconds for one in await store.ended(Ending(0.0, 0), 10)] == [2.0]


async def test_nothing_is_counted_beyond_a_bound(store: KeptStore) -> None:
    await take_on(store, *(str(number) for number in range(COUNTED + 5)))
    assert (await store.overview(EVER, 1)).waiting.count == COUNTED


async def asked(
    store: KeptStore, name: str, *ages: float, state: State = State.PAID, lot: str = LOT, away: float = 0.0
) -> None:
    """An order taken on at 100 s of running time is asked at these ages; the last answer ends it.

    The wall clock is `away` seconds further by then than the running time says.
    """
    [answer] = await store.submit([NewOrder(key(name, lot))], at(100.0), 100.0, 100.0)
    assert isinstance(answer, Accepted)
    number = answer.order.id
    for age in ages[:-1]:
        store.note(Progress(number, Answer(at(100.0 + age), code="1001", status="0"), 100.0 + age, 0))
    run = 100.0 + ages[-1]
    store.note(Progress(number, Answer(at(run + away), code="1001", status="1"), run, 0))

    def ending(order: Order) -> Change:
        return end(order, state, at(run + away), Payment())

    await store.change(key(name, lot), ending, making(run))


async def test_a_settlement_lies_between_the_last_answer_in_progress_and_the_end(store: KeptStore) -> None:
    await asked(store, "a", 0.5, 1.5, 2.75, state=State.FAILED)
    await asked(store, "b", 0.5, 3.0)
    await asked(store, "c", 4.0)
    assert await store.settlements(10) == [
        Settlement(LOT, 1.5, 2.75),
        Settlement(LOT, 0.5, 3.0),
        Settlement(LOT, 0.0, 4.0),
    ]


async def test_an_answer_that_says_nothing_of_the_payment_does_not_narrow_a_settlement_down(
    store: KeptStore,
) -> None:
    [pending] = await take_on(store, "a", run=0.0)
    store.note(Progress(pending.id, Answer(at(1.0), code="1001", status="0"), 2.0, 0))
    store.note(Progress(pending.id, Answer(at(2.0), error="HTTP status 503"), 3.0, 1))
    store.note(Progress(pending.id, Answer(at(3.0), code="500", status="0", error="code 500"), 4.0, 2))
    await finish(store, "a", 4.0)
    await store.change(key("a"), lambda order: contradict(order, False, at(60.0)), making(60.0))
    store.note(Progress(pending.id, Answer(at(60.0), code="1001", status="-1"), None, 0, keep=False))
    assert await store.settlements(10) == [Settlement(LOT, 1.0, 4.0)]


async def test_only_the_last_paid_and_failed_orders_of_each_lot_are_settlements(store: KeptStore) -> None:
    for name, age in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        await asked(store, name, age)
    await asked(store, "other", 2.5, lot="another lot")
    for name, state in (("d", State.REJECTED), ("e", State.EXPIRED), ("f", State.CANCELLED)):
        await asked(store, name, 4.0, state=state)
    await take_on(store, "pending")
    found = await store.settlements(2)
    assert [(one.park_uuid, one.by) for one in found] == [(LOT, 2.0), ("another lot", 2.5), (LOT, 3.0)]


async def test_an_order_whose_ages_make_no_sense_is_no_settlement(store: KeptStore) -> None:
    await asked(store, "the clock went back", 0.5, 2.0, away=-86_400.0)
    await asked(store, "the daemon was away", 0.5, 2.5, away=3600.0)
    await asked(store, "sound", 0.5, 3.0)
    assert await store.settlements(10) == [Settlement(LOT, 0.5, 3.0)]


async def test_an_order_without_its_history_is_no_settlement(store: KeptStore) -> None:
    await asked(store, "a", 0.5, 2.0)
    await asked(store, "b", 0.5, 3.0)
    assert await store.prune(102.0, 10) == 1
    assert [one.by for one in await store.settlements(10)] == [3.0]


def test_settlements_are_found_by_an_index_alone(tmp_path: Path) -> None:
    """However many orders there are: what is sorted and scanned otherwise is all of them."""
    with closing(open_connection(tmp_path / "poller.db")) as connection:
        for sql, bound in ((glance.SETTLED, (9,)), (glance.IN_PROGRESS, (9,))):
            [(*_, plan)] = connection.execute(f"EXPLAIN QUERY PLAN {sql}", bound).fetchall()
            assert plan.startswith("SEARCH")
