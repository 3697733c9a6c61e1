"""More orders than memory has room for: each is asked about on time all the same."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from itertools import pairwise

import pytest

from poller.core.cadence import Cadence
from poller.core.orders import OrderKey
from poller.core.replies import Cause, Result, Unavailable
from poller.engine import Engine
from poller.polling import refill
from tests.world.stage import IN_PROGRESS, Stage, hold_at_most, never, orders

ROOM = 20


@pytest.fixture(autouse=True)
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_at_most(ROOM, monkeypatch)


def longest_gaps(stage: Stage) -> dict[str, float]:
    asked = defaultdict(list)
    for at, name in stage.sent:
        asked[name].append(at)
    return {name: max(later - earlier for earlier, later in pairwise(times)) for name, times in asked.items()}


@pytest.mark.parametrize("count", [ROOM // 2, ROOM, 2 * ROOM, 10 * ROOM])
def test_however_many_are_due_within_seconds_none_waits_longer_than_its_interval(count: int) -> None:
    stage = Stage(never, cadence=Cadence(min_interval=5.0, max_interval=5.0, undecided_after=0.0))

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(count))
        await asyncio.sleep(120.0)

    stage.play(scene)
    gaps = longest_gaps(stage)
    assert len(gaps) == count
    assert max(gaps.values()) < 6.0


def test_younger_ones_that_are_due_later_do_not_take_the_room_of_those_due_before() -> None:
    stage = Stage(never, cadence=Cadence(min_interval=60.0, max_interval=60.0, undecided_after=0.0))

    async def scene(engine: Engine) -> None:
        for new in orders(240):
            await engine.desk.submit([new])
            await asyncio.sleep(0.25)
        await asyncio.sleep(300.0)

    stage.play(scene)
    gaps = longest_gaps(stage)
    assert len(gaps) == 240
    assert max(gaps.values()) < 61.0


@pytest.mark.parametrize("down", [False, True])
def test_memory_does_not_grow_with_what_is_overdue_however_long_the_platform_takes(
    down: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refill, "FAIR", 2)

    async def slow(_: OrderKey, __: float) -> Result:
        await asyncio.sleep(9.0)
        return Unavailable(Cause.TIMEOUT, "no answer") if down else IN_PROGRESS

    stage = Stage(slow, cadence=Cadence(undecided_after=0.0), places=4)
    held: list[int] = []

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(50 * ROOM))
        for _ in range(20):
            await asyncio.sleep(10.0)
            held.append(engine.poller.held())

    stage.play(scene)
    assert max(held) < 3 * ROOM
