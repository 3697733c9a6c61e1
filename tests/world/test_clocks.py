"""Wall clocks that jump, over the whole engine in simulated time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from poller.core.cadence import Cadence
from poller.core.delivery import NotReceived, Received, ReceiverAnswer
from poller.core.orders import OrderKey, State
from poller.core.replies import Payment, Reply, Result, Settled
from poller.engine import Engine
from tests.world.stage import IN_PROGRESS, Stage, orders

JUMPS = [
    timedelta(days=1),
    timedelta(days=-1),
    timedelta(days=3650),
    datetime(1970, 1, 1, tzinfo=UTC) - datetime(2026, 1, 1, tzinfo=UTC),
]
NAMES = ["a day on", "a day back", "ten years on", "back to 1970"]


async def in_progress(key: OrderKey, now: float) -> Result:
    return IN_PROGRESS


@pytest.mark.parametrize("jump", JUMPS, ids=NAMES)
def test_no_order_stalls_or_expires_when_the_wall_clock_jumps(jump: timedelta) -> None:
    """A machine that was suspended looks the same: its monotonic clock stood still and its wall clock jumped."""
    stage = Stage(in_progress, cadence=Cadence(undecided_after=0.0, give_up_after=1000.0, max_interval=60.0))

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(3))
        await asyncio.sleep(200.0)
        stage.clock.wall_offset = jump
        await asyncio.sleep(300.0)
        for new in orders(3):
            assert (await engine.desk.order(new.key)).state is State.PENDING

    stage.play(scene)
    asked = [at for at, name in stage.sent if name == "order-0"]
    for earlier, later in pairwise(asked):
        assert later - earlier <= max(0.1 * earlier, 1.0) + 1.0
    [(_, stepped)] = stage.events("clock.stepped")
    assert stepped["by_s"] == pytest.approx(jump.total_seconds(), abs=1.0)


@pytest.mark.parametrize("jump", JUMPS, ids=NAMES)
def test_a_restart_with_another_wall_clock_neither_stalls_nor_expires(jump: timedelta) -> None:
    stage = Stage(in_progress, cadence=Cadence(undecided_after=0.0, give_up_after=1000.0, max_interval=60.0))

    async def before(engine: Engine) -> None:
        await engine.desk.submit(orders(1))
        await asyncio.sleep(300.0)

    async def after(engine: Engine) -> None:
        await asyncio.sleep(600.0)
        assert (await engine.desk.order(orders(1)[0].key)).state is State.PENDING
        await asyncio.sleep(105.0)
        assert (await engine.desk.order(orders(1)[0].key)).state is State.EXPIRED

    stage.play(before)
    last = stage.sent[-1][0]
    stage.clock.wall_offset = jump
    stage.play(after, start=302.0)
    first = next(at for at, _ in stage.sent if at > last)
    assert first - 302.0 <= 32.0


def test_no_notice_dies_of_a_jumping_clock() -> None:
    class Refusing:
        tries = 0

        async def send(self, event_id: str, body: str) -> ReceiverAnswer:
            self.tries += 1
            return Received(204) if self.tries > 8 else NotReceived("HTTP status 500", 500)

    async def paid(key: OrderKey, now: float) -> Result:
        return Settled(True, Reply("1001", status="1"), Payment())

    receiver = Refusing()
    stage = Stage(paid, receiver=receiver)

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(1))
        await asyncio.sleep(20.0)
        stage.clock.wall_offset = timedelta(days=3650)
        await asyncio.sleep(600.0)
        [delivery] = await engine.desk.deliveries(None, None, 10)
        assert delivery.state == "delivered"

    stage.play(scene)
    assert receiver.tries == 9
    assert stage.events("delivery.dead") == []
