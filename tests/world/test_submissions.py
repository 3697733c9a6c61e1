"""New orders from the moment in which they come in, over the whole engine."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import pytest

from poller import submissions
from poller.core.orders import NewOrder, OrderKey, State
from poller.engine import Engine
from poller.polling import Poller
from poller.ports import Accepted, Differs, Known, StoreUnavailableError, Submitted
from poller.stores.sqlite import SqliteStore
from tests.world.stage import Stage, never, orders
from tests.world.truth import PARK

FIRST, SECOND, THIRD = (OrderKey(PARK, f"order-{number}") for number in range(3))


class Calls:
    """Of the store: which orders came together. Refuses those of `refused`."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.together: list[list[str]] = []
        self.refused: dict[str, Exception] = {}
        submit = SqliteStore.submit

        async def watched(
            store: SqliteStore, orders: Sequence[NewOrder], at: datetime, run: float, due: float
        ) -> list[Submitted]:
            names = [order.key.pay_partner for order in orders]
            self.together.append(names)
            for name in names:
                if name in self.refused:
                    raise self.refused[name]
            return await submit(store, orders, at, run, due)

        patch.setattr(SqliteStore, "submit", watched)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def accepted(stage: Stage) -> list[str]:
    return [line["pay_partner"] for _, line in stage.events("order.accepted")]


def test_what_comes_in_one_turn_is_taken_on_together_and_each_caller_has_its_own_answers(calls: Calls) -> None:
    stage = Stage(never)

    async def scene(engine: Engine) -> None:
        submit = engine.desk.submit
        answers = await asyncio.gather(
            submit(orders(2)), submit([NewOrder(THIRD), NewOrder(FIRST)]), submit([NewOrder(FIRST, {"x": 1})])
        )
        assert [[type(one) for one in of] for of in answers] == [[Accepted] * 2, [Accepted, Known], [Differs]]
        assert [one.order.key for of in answers for one in of] == [FIRST, SECOND, THIRD, FIRST, FIRST]
        assert await submit([]) == []

    stage.play(scene)
    assert calls.together == [["order-0", "order-1", "order-2", "order-0", "order-0"]]
    assert accepted(stage) == ["order-0", "order-1", "order-2"]


def test_no_caller_waits_for_many_thousands_of_others(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submissions, "TOGETHER", 3)
    sizes = list(zip((1, 2, 1, 5, 1), "abcde", strict=True))
    stage = Stage(never)

    async def scene(engine: Engine) -> None:
        await asyncio.gather(*(engine.desk.submit(orders(count, name)) for count, name in sizes))

    stage.play(scene)
    assert [len(names) for names in calls.together] == [3, 1, 5, 1]
    assert len(set(accepted(stage))) == 10


def test_each_lots_orders_have_their_first_query_when_its_plan_wants_it(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {PARK: 0.5, "another lot": 3.0}
    monkeypatch.setattr(Poller, "first_query", lambda _, park_uuid: first[park_uuid])
    stage = Stage(never, lots=tuple(first))

    async def scene(engine: Engine) -> None:
        there = [NewOrder(OrderKey("another lot", "there"))]
        await asyncio.gather(*(engine.desk.submit(some) for some in (orders(1), there, orders(1, "b"), there)))
        await asyncio.sleep(4.0)

    stage.play(scene)
    assert calls.together == [["order-0", "b-0"], ["there", "there"]]
    asked = {name: at for at, name in reversed(stage.sent)}
    assert asked == pytest.approx({"order-0": 0.5, "b-0": 0.5, "there": 3.0}, abs=0.1)


def test_what_is_wrong_with_one_callers_order_is_no_others_trouble(calls: Calls) -> None:
    calls.refused["bad-0"] = ValueError("a defect")
    stage = Stage(never)

    async def scene(engine: Engine) -> None:
        submit = engine.desk.submit
        before, wrong, after = await asyncio.gather(
            submit(orders(1)), submit(orders(1, "bad")), submit(orders(1, "good")), return_exceptions=True
        )
        assert wrong is calls.refused["bad-0"]
        assert isinstance(before, list)
        assert isinstance(after, list)

    stage.play(scene)
    assert accepted(stage) == ["order-0", "good-0"]


def test_a_store_that_refuses_is_told_to_each_caller_and_once_in_the_log(calls: Calls) -> None:
    calls.refused["order-0"] = StoreUnavailableError("the disk is full: free some space")
    stage = Stage(never)

    async def scene(engine: Engine) -> None:
        submit = engine.desk.submit
        faults = await asyncio.gather(submit(orders(1)), submit(orders(1, "other")), return_exceptions=True)
        assert [type(fault) for fault in faults] == [StoreUnavailableError] * 2
        assert {str(fault) for fault in faults} == {"the disk is full: free some space"}
        assert faults[0] is not faults[1]
        assert not engine.desk.readiness()[0]
        calls.refused.clear()
        await submit(orders(1))
        assert engine.desk.readiness()[0]

    stage.play(scene)
    assert len(stage.events("store.unavailable")) == len(stage.events("store.available")) == 1
    assert accepted(stage) == ["order-0"]


def test_the_order_of_a_caller_that_goes_away_is_taken_on_and_asked_about_all_the_same() -> None:
    stage = Stage(never)

    async def scene(engine: Engine) -> None:
        gone, stays = (asyncio.create_task(engine.desk.submit(orders(1, name))) for name in ("gone", "stays"))
        await asyncio.sleep(0)
        gone.cancel()
        assert len(await stays) == 1
        with pytest.raises(asyncio.CancelledError):
            await gone
        await asyncio.sleep(1.0)

    stage.play(scene)
    assert accepted(stage) == ["gone-0", "stays-0"]
    assert {name for _, name in stage.sent} == {"gone-0", "stays-0"}


def test_what_is_asked_of_an_order_as_soon_as_it_is_taken_on_is_not_undone_by_its_being_new() -> None:
    """Its first query would be half a second later; one that is cancelled has none."""
    stage = Stage(never)

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(2))
        await engine.desk.poll(FIRST)
        await engine.desk.cancel(SECOND)
        await asyncio.sleep(0.1)
        assert (await engine.desk.order(FIRST)).polls == 1
        await asyncio.sleep(5.0)
        assert (await engine.desk.order(SECOND)).state is State.CANCELLED

    stage.play(scene)
    assert {name for _, name in stage.sent} == {"order-0"}


@pytest.mark.parametrize("rule", ["first_query", "take_on"])
def test_a_defect_in_how_new_orders_are_followed_ends_the_daemon_which_then_starts_anew(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or they would be on disk, and nobody would ask about them."""
    defect = RuntimeError("a defect")

    def broken(*_: object) -> None:
        raise defect

    monkeypatch.setattr(Poller, rule, broken)

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(1))

    with pytest.raises(ExceptionGroup) as raised:
        Stage(never).play(scene)
    assert raised.group_contains(RuntimeError, match="a defect")


def test_what_has_come_in_when_the_daemon_stops_is_answered_and_what_comes_then_is_refused(calls: Calls) -> None:
    stage = Stage(never)
    handed_in = list[asyncio.Task[list[Submitted]]]()

    async def scene(engine: Engine) -> None:
        await asyncio.sleep(1.0)  # all loops run
        handed_in.append(asyncio.create_task(engine.desk.submit(orders(2))))
        asyncio.get_running_loop().call_soon(engine._submissions.stop)  # right after its call has come in
        await asyncio.sleep(0.1)
        with pytest.raises(StoreUnavailableError, match="stopping"):
            await engine.desk.submit(orders(1, "late"))
        assert not any("Submissions.run" in repr(task.get_coro()) for task in asyncio.all_tasks())

    stage.play(scene)
    assert len(handed_in[0].result()) == 2
    assert accepted(stage) == ["order-0", "order-1"]
