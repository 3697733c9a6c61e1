"""What every engine promises of orders as a `Store`; of the outbox, see `test_outbox_contract`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from poller.core.delivery import DeliveryState
from poller.core.documents import notice_body
from poller.core.orders import (
    Answer,
    NewOrder,
    NotAllowedError,
    NoticeType,
    Order,
    State,
    end,
    mark_undecided,
    reopen,
    request_cancel,
)
from poller.core.replies import Payment
from poller.ports import Accepted, Differs, HistoryEntry, Known, Pending, Progress, Recorded, UnknownOrderError
from poller.stores import KeptStore
from tests.integration.store_engines import (
    ALL,
    AT,
    ENGINES,
    LOT,
    Opener,
    events,
    give_back,
    key,
    making,
    names,
    paid,
    reopening,
    take_on,
)

IN_PROGRESS = Answer(AT, code="1001", status="0", seqno="s1")


@pytest.fixture(params=list(ENGINES))
async def reopen_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    async with reopening(request.param, tmp_path) as opener:
        yield opener


@pytest.fixture
async def store(reopen_store: Opener) -> KeptStore:
    return await reopen_store()


async def test_an_order_taken_on_reads_back_as_it_was_answered_after_a_restart_too(reopen_store: Opener) -> None:
    store = await reopen_store()
    late = AT + timedelta(microseconds=1999)
    metadata = {"plate": "粤B660PP", "lane": 3}
    [answer] = await store.submit([NewOrder(key("a"), metadata)], late, run=7.5, due=8.0)
    assert isinstance(answer, Accepted)
    assert answer.order == await store.get(key("a"))
    assert answer.order == Order(
        answer.order.id, key("a"), State.PENDING, metadata, AT + timedelta(milliseconds=1), 7.5, due=8.0
    )
    assert answer.pending == Pending(answer.order.id, key("a"), opened_run=7.5, due=8.0)
    assert await (await reopen_store()).get(key("a")) == answer.order


async def test_a_number_is_taken_on_once_whatever_is_sent_again(store: KeptStore) -> None:
    await store.submit([NewOrder(key("a"), {"x": [1, {"y": True}], "z": None})], AT, 0.0, 1.0)
    again = NewOrder(key("a"), {"z": None, "x": [1.0, {"y": True}]})
    other = NewOrder(key("a"), {"x": [1, {"y": 1}], "z": None})
    elsewhere = NewOrder(key("a", lot="another lot"))
    answers = await store.submit([again, other, elsewhere], AT, 9.0, 9.0)
    assert [type(answer) for answer in answers] == [Known, Differs, Accepted]
    assert answers[0].order.opened_run == 0.0


async def test_a_number_twice_in_one_batch_is_taken_on_once(store: KeptStore) -> None:
    new = [NewOrder(key("a")), NewOrder(key("a")), NewOrder(key("a"), {"other": 1}), NewOrder(key("b"))]
    answers = await store.submit(new, AT, 0.0, 1.0)
    assert [type(answer) for answer in answers] == [Accepted, Known, Differs, Accepted]
    assert len(await store.orders(None, None, 10, None)) == 2


async def test_a_thousand_orders_of_which_some_are_known_are_answered_in_their_order(store: KeptStore) -> None:
    known = range(0, 1000, 7)
    await store.submit([NewOrder(key(str(number)), {"n": number % 2}) for number in known], AT, 0.0, 1.0)
    new = [NewOrder(key(str(number)), {"n": 0}) for number in range(1000)]
    answers = await store.submit(new, AT, 5.0, 6.0)
    assert [answer.order.key for answer in answers] == [one.key for one in new]
    expected = [Accepted if number not in known else Differs if number % 2 else Known for number in range(1000)]
    assert [type(answer) for answer in answers] == expected
    numbers = [answer.order.id for answer in answers if isinstance(answer, Accepted)]
    assert numbers == sorted(set(numbers))
    assert (await store.counts()).pending == 1000
    assert await store.claim(ALL, 10) == []


async def test_a_final_order_is_known_and_not_polled_again(store: KeptStore) -> None:
    await take_on(store, "a")
    await store.change(key("a"), paid, making("e1"))
    [answer] = await store.submit([NewOrder(key("a"))], AT, 9.0, 9.0)
    assert isinstance(answer, Known)
    assert answer.order.state is State.PAID
    assert await store.claim(ALL, 10) == []


async def test_an_outcome_and_its_notice_are_written_together(reopen_store: Opener) -> None:
    store = await reopen_store()
    [pending] = await take_on(store, "a")
    ended = (await store.change(key("a"), paid, making("e1"))).order
    store = await reopen_store()
    assert await store.get(key("a")) == ended
    assert (ended.state, ended.final_at, ended.due) == (State.PAID, AT, None)
    assert ended.payment == Payment("serial", "4", "支付宝")
    delivery = await store.delivery("e1")
    assert delivery is not None
    assert (delivery.state, delivery.due, delivery.attempts) == (DeliveryState.PENDING, 5.0, 0)
    assert delivery.notice.type is NoticeType.PAID
    assert delivery.notice.body == notice_body(NoticeType.PAID, ended, AT, None)
    assert (delivery.notice.key, delivery.notice.made_at, delivery.notice.made_run) == (pending.key, AT, 3.0)


async def test_a_change_that_cannot_write_its_notice_ends_nothing(store: KeptStore) -> None:
    await take_on(store, "a")

    def broken(kind: NoticeType, order: Order) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.change(key("a"), paid, replace(making("e1"), body=broken))
    order = await store.get(key("a"))
    assert order is not None
    assert order.state is State.PENDING
    assert await store.delivery("e1") is None
    assert (await store.change(key("a"), paid, making("e1"))).order.state is State.PAID


async def test_what_a_transition_raises_passes_through_and_none_writes_nothing(store: KeptStore) -> None:
    await take_on(store, "a")
    ended = (await store.change(key("a"), paid, making("e1"))).order
    with pytest.raises(NotAllowedError):
        await store.change(key("a"), request_cancel, making("e2"))
    assert await store.change(key("a"), lambda order: mark_undecided(order, AT), making("e3")) == Recorded(ended)
    assert events(await store.deliveries(None, None, 10)) == ["e1"]
    with pytest.raises(UnknownOrderError):
        await store.change(key("nobody"), paid, making("e4"))


async def test_the_answer_that_ends_an_order_is_the_last_of_its_history(store: KeptStore) -> None:
    [pending] = await take_on(store, "a")
    store.note(Progress(pending.id, IN_PROGRESS, 2.0, 0))
    last = Answer(AT, code="1001", status="1", seqno="s9")
    recorded = await store.change(
        key("a"),
        lambda order: paid(order._replace(last_answer=last, polls=order.polls + 1)),
        making("e1"),
    )
    ended = recorded.order
    assert (ended.polls, ended.last_answer) == (2, last)
    assert [entry.answer for entry in await store.history(key("a"))] == [IN_PROGRESS, last]


async def test_a_held_order_is_claimed_by_nobody_until_it_is_given_back(store: KeptStore) -> None:
    [a, b] = await take_on(store, "a", "b")
    assert await store.claim(ALL, 10) == []
    assert await store.claim(ALL, 10, freshest=True) == []
    store.note(Progress(a.id, IN_PROGRESS, 4.0, 2, keep=False))
    assert await store.claim(ALL, 10) == [replace(a, due=4.0, errors=2)]
    give_back(store, b)
    give_back(store, a)
    assert names(await store.claim(ALL, 10)) == ["a", "b"]
    assert await store.claim(ALL, 10) == []


async def test_after_a_restart_nobody_holds_anything(reopen_store: Opener) -> None:
    await take_on(await reopen_store(), "a", "b")
    assert names(await (await reopen_store()).claim(ALL, 10)) == ["a", "b"]


async def test_a_claim_gives_the_longest_overdue_first_and_only_what_is_due(reopen_store: Opener) -> None:
    store = await reopen_store()
    for name, run, due in (("old", 1.0, 30.0), ("young", 9.0, 20.0), ("middle", 5.0, 10.0)):
        await take_on(store, name, run=run, due=due)
    store = await reopen_store()
    assert names(await store.claim(10.0, 10)) == ["middle"]
    assert names(await store.claim(ALL, 1)) == ["young"]
    assert names(await store.claim(ALL, 10)) == ["old"]
    store = await reopen_store()
    assert names(await store.claim(25.0, 1, freshest=True)) == ["young"]
    assert names(await store.claim(ALL, 10, freshest=True)) == ["middle", "old"]


async def test_the_freshest_are_those_of_which_the_gate_was_told_that_they_are_undecided_and_the_others(
    reopen_store: Opener,
) -> None:
    store = await reopen_store()
    for number in range(6):
        await take_on(store, str(number), run=float(number), due=10.0)
    for number in (1, 2, 4):
        await store.change(key(str(number)), lambda order: mark_undecided(order, AT), making(f"e{number}"))
    assert (await store.counts()).oldest_opened_run == 0.0
    store = await reopen_store()
    assert names(await store.claim(ALL, 4, freshest=True)) == ["5", "4", "3", "2"]
    await store.change(key("0"), lambda order: end(order, State.CANCELLED, AT), making("e0"))
    assert (await store.counts()).oldest_opened_run == 1.0


async def test_orders_given_back_as_they_are_kept_are_found_again_when_they_are_due(store: KeptStore) -> None:
    held = await take_on(store, "a", "b", due=10.0) + await take_on(store, "c", due=20.0)
    assert await store.claim(ALL, 10) == []
    store.give_back(held)
    assert await store.claim(9.0, 10) == []
    assert names(await store.claim(10.0, 10)) == ["a", "b"]
    assert await store.claim(ALL, 10) == [held[2]]
    assert {order.polls for order in await store.orders(None, None, 10, None)} == {0}


async def test_a_claim_of_lots_gives_each_lots_youngest_that_are_due_and_free_so_many_of_each(
    reopen_store: Opener,
) -> None:
    store = await reopen_store()
    for lot in ("a", "b", "c"):
        for number in range(4):
            new = [NewOrder(key(f"{lot}{number}", lot))]
            await store.submit(new, AT, float(number), 9.0 if number == 3 else 1.0)
    store = await reopen_store()
    assert names(await store.claim(1.0, 1, freshest=True)) == ["c2"]
    assert sorted(names(await store.claim_of_lots(5.0, {"a": 2, "b": 0, "c": 9, "none": 9}))) == [
        "a1",
        "a2",
        "c0",
        "c1",
    ]
    assert sorted(names(await store.claim(ALL, 99))) == ["a0", "a3", "b0", "b1", "b2", "b3", "c3"]


async def test_an_order_given_back_with_an_earlier_due_time_is_found_again(store: KeptStore) -> None:
    await take_on(store, "a", due=50.0)
    [b] = await take_on(store, "b", due=60.0)
    for due in (70.0, 10.0, 65.0):
        give_back(store, replace(b, due=due))
        assert [one.due for one in await store.claim(ALL, 10)] == [due]


async def test_an_order_that_ends_is_held_no_more_and_may_be_claimed_when_reopened(store: KeptStore) -> None:
    await take_on(store, "a")
    await store.change(key("a"), lambda order: end(order, State.CANCELLED, AT), making("e1"))
    reopened = (await store.change(key("a"), lambda order: reopen(order, 50.0, 51.0), making("e2"))).order
    assert (reopened.state, reopened.opened_run, reopened.due) == (State.PENDING, 50.0, 51.0)
    assert names(await store.claim(ALL, 10)) == ["a"]
    assert await store.undecided(50.0, 10) == [key("a")]


async def test_any_order_can_be_asked_for_and_a_pending_one_is_then_held(reopen_store: Opener) -> None:
    store = await reopen_store()
    await take_on(store, "a", "ended")
    await store.change(key("ended"), paid, making("e1"))
    store = await reopen_store()
    pending = await store.hold(key("a"))
    assert (pending.state, pending.due) == (State.PENDING, 1.0)
    assert await store.claim(ALL, 10) == []
    final = await store.hold(key("ended"))
    assert final.state is State.PAID
    store.note(Progress(final.id, IN_PROGRESS, None, 0, keep=False))
    order = await store.get(key("ended"))
    assert order is not None
    assert (order.state, order.due, order.polls, order.last_answer) == (State.PAID, None, 1, IN_PROGRESS)
    with pytest.raises(UnknownOrderError):
        await store.hold(key("nobody"))


async def test_a_note_is_read_back_at_once(store: KeptStore) -> None:
    [pending] = await take_on(store, "a")
    store.note(Progress(pending.id, IN_PROGRESS, 3.0, 0))
    store.note(Progress(pending.id, Answer(AT, error="timeout"), 4.0, 1))
    order = await store.get(key("a"))
    assert order is not None
    assert (order.polls, order.due, order.errors) == (2, 4.0, 1)
    assert order.last_answer == Answer(AT, error="timeout")
    assert await store.orders(None, None, 1, None) == [order]
    assert (await store.submit([NewOrder(key("a"))], AT, 0.0, 0.0))[0] == Known(order)


async def test_an_order_put_off_without_a_query_has_no_new_answer(store: KeptStore) -> None:
    [pending] = await take_on(store, "a")
    store.note(Progress(pending.id, None, 77.0, 1))
    order = await store.get(key("a"))
    assert order is not None
    assert (order.due, order.errors, order.polls, order.last_answer) == (77.0, 1, 0, None)


async def test_equal_answers_in_a_row_are_one_entry_of_the_history(reopen_store: Opener) -> None:
    store = await reopen_store()
    [pending] = await take_on(store, "a")
    for second in range(6):
        at = AT + timedelta(seconds=second)
        answer = Answer(at, error="timeout") if second == 3 else IN_PROGRESS._replace(at=at, seqno=f"s{second}")
        store.note(Progress(pending.id, answer, 2.0, 0))
        if second in (1, 4):
            await store.flush()

    def nth(second: int) -> datetime:
        return AT + timedelta(seconds=second)

    expected = [
        HistoryEntry(3, nth(0), IN_PROGRESS._replace(at=nth(2), seqno="s2")),
        HistoryEntry(1, nth(3), Answer(nth(3), error="timeout")),
        HistoryEntry(2, nth(4), IN_PROGRESS._replace(at=nth(5), seqno="s5")),
    ]
    assert await store.history(key("a")) == expected
    assert await (await reopen_store()).history(key("a")) == expected
    assert await (await reopen_store()).history(key("nobody")) == []


async def test_a_note_made_before_a_change_is_part_of_what_the_change_sees(store: KeptStore) -> None:
    [pending] = await take_on(store, "a")
    store.note(Progress(pending.id, IN_PROGRESS, 3.0, 2))
    seen: list[Order] = []

    def look(order: Order) -> None:
        seen.append(order)

    await store.change(key("a"), look, making("e1"))
    assert [(order.polls, order.due, order.errors) for order in seen] == [(1, 3.0, 2)]


async def test_a_refused_change_loses_no_note(store: KeptStore) -> None:
    [pending] = await take_on(store, "a")
    await store.change(key("a"), paid, making("e1"))
    store.note(Progress(pending.id, IN_PROGRESS, None, 0))
    with pytest.raises(NotAllowedError):
        await store.change(key("a"), request_cancel, making("e2"))
    order = await store.get(key("a"))
    assert order is not None
    assert order.polls == 1


async def test_the_gate_is_told_of_each_order_once_the_oldest_first(store: KeptStore) -> None:
    for name, run in (("b", 20.0), ("a", 10.0), ("c", 30.0)):
        await take_on(store, name, run=run)
    assert await store.oldest_untold() == 10.0
    assert await store.undecided(20.0, 10) == [key("a"), key("b")]
    assert await store.undecided(20.0, 1) == [key("a")]
    told = (await store.change(key("a"), lambda order: mark_undecided(order, AT), making("e1"))).order
    assert (told.state, told.undecided_at, told.due) == (State.PENDING, AT, 1.0)
    await store.change(key("b"), paid, making("e2"))
    assert await store.oldest_untold() == 30.0
    assert await store.undecided(ALL, 10) == [key("c")]
    await store.change(key("c"), paid, making("e3"))
    assert await store.oldest_untold() is None


async def test_a_wish_to_cancel_outlives_a_restart(reopen_store: Opener) -> None:
    store = await reopen_store()
    await take_on(store, "a")
    assert (await store.change(key("a"), request_cancel, making("e1"))).order.cancelling
    assert await store.deliveries(None, None, 10) == []
    [pending] = await (await reopen_store()).claim(ALL, 10)
    assert pending.cancelling


async def test_orders_are_listed_newest_first_in_pages(store: KeptStore) -> None:
    await take_on(store, *"abcde")
    await store.submit([NewOrder(key("other", lot="lot 2"))], AT, 0.0, 1.0)
    await store.change(key("b"), paid, making("e1"))
    await store.change(key("d"), paid, making("e2"))
    first = await store.orders(None, LOT, 2, None)
    second = await store.orders(None, LOT, 2, first[-1].id)
    assert [order.key.pay_partner for order in first + second] == ["e", "d", "c", "b"]
    assert [order.key.pay_partner for order in await store.orders(State.PAID, None, 9, None)] == ["d", "b"]
    assert [order.key.park_uuid for order in await store.orders(State.PENDING, "lot 2", 9, None)] == ["lot 2"]


async def test_answers_come_in_the_order_of_the_transactions(store: KeptStore) -> None:
    heard: list[str] = []

    async def tell(name: str, call: Awaitable[object]) -> None:
        await call
        heard.append(name)

    await asyncio.gather(
        tell("submit", store.submit([NewOrder(key("a"))], AT, 0.0, 1.0)),
        tell("change", store.change(key("a"), paid, making("e1"))),
        tell("claim", store.claim(ALL, 10)),
        tell("get", store.get(key("a"))),
    )
    assert heard == ["submit", "change", "claim", "get"]
