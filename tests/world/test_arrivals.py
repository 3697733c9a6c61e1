"""What becomes of new orders from the moment in which they are taken on, over the whole engine."""

from __future__ import annotations

import asyncio

from poller.core.orders import OrderKey, State
from poller.core.replies import Result
from poller.engine import Engine
from tests.world.stage import IN_PROGRESS, Stage, orders
from tests.world.truth import PARK

FIRST, SECOND = OrderKey(PARK, "order-0"), OrderKey(PARK, "order-1")


async def in_progress(key: OrderKey, now: float) -> Result:
    await asyncio.sleep(0.01)
    return IN_PROGRESS


def test_each_order_taken_on_has_its_line_once_whoever_sent_it_however_often() -> None:
    stage = Stage(in_progress)

    async def scene(engine: Engine) -> None:
        await asyncio.gather(*(engine.desk.submit(orders(2)) for _ in range(3)))
        await asyncio.sleep(0)
        told = [line["pay_partner"] for _, line in stage.events("order.accepted")]
        assert told == ["order-0", "order-1"]
        await engine.desk.submit(orders(3))

    stage.play(scene)
    assert [line["pay_partner"] for _, line in stage.events("order.accepted")] == ["order-0", "order-1", "order-2"]


def test_what_is_asked_of_an_order_as_soon_as_it_is_taken_on_is_not_undone_by_its_being_new() -> None:
    """Its first query would be half a second later; one that is cancelled has none."""
    stage = Stage(in_progress)

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
