"""Several lots and one rate: one lot's flood takes nothing of what another needs."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from poller.core.cadence import Cadence
from poller.engine import Engine
from tests.world.stage import Stage, hold_at_most, never, orders

ROOM = 200
RATE = 20.0
FLOOD = 10 * ROOM


@pytest.fixture(autouse=True)
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_at_most(ROOM, monkeypatch)


def stage_of(*lots: str) -> Stage:
    return Stage(never, cadence=Cadence(age_fraction=0.0, undecided_after=0.0), rate=RATE, lots=lots)


def asked(stage: Stage, prefix: str, since: float) -> list[float]:
    return [at for at, name in stage.sent if name.startswith(prefix) and at >= since]


@pytest.mark.parametrize("handed_in", [0.0, 30.0])
def test_an_order_beside_another_lots_flood_is_asked_about_as_if_it_were_alone(handed_in: float) -> None:
    """Whether it is older than the flood or younger."""
    stage = stage_of("flooded", "quiet")

    async def scene(engine: Engine) -> None:
        quiet, flood = orders(1, "quiet", "quiet"), orders(FLOOD, "flood", "flooded")
        for at, new in sorted([(handed_in, quiet), (10.0, flood)]):
            await asyncio.sleep(at - asyncio.get_running_loop().time())
            await engine.desk.submit(new)
        await asyncio.sleep(120.0)

    stage.play(scene)
    times = asked(stage, "quiet", 0.0)
    assert times[0] < handed_in + 0.5 + 2 / RATE
    assert times[-1] > stage.sent[-1][0] - 1.5
    assert max(later - earlier for earlier, later in pairwise(times)) < 1.1 + 2 / RATE


def test_lots_that_are_all_behind_have_an_equal_share_and_what_one_does_not_need_the_others_have() -> None:
    counts = {"most": FLOOD, "more": FLOOD // 4, "few": ROOM, "little": 2}
    stage = stage_of(*counts)

    async def scene(engine: Engine) -> None:
        for lot, count in counts.items():
            await engine.desk.submit(orders(count, lot, lot))
        await asyncio.sleep(200.0)

    stage.play(scene)
    shares = {lot: len(asked(stage, lot, 50.0)) / 150 for lot in counts}
    print(shares)
    assert sum(shares.values()) == pytest.approx(RATE, rel=0.02)
    assert shares["little"] > 1.5
    rest = (RATE - shares["little"]) / 3
    assert all(shares[lot] == pytest.approx(rest, rel=0.1) for lot in ("most", "more", "few"))


def test_after_a_restart_with_a_backlog_no_lot_waits_for_anothers() -> None:
    """The few of one are neither the longest overdue nor the youngest."""
    stage = stage_of("flooded", "quiet")

    async def before(engine: Engine) -> None:
        await engine.desk.submit(orders(FLOOD, "flood-before", "flooded"))
        await asyncio.sleep(1.0)
        await engine.desk.submit(orders(10, "quiet", "quiet"))
        await asyncio.sleep(1.0)
        await engine.desk.submit(orders(FLOOD, "flood-after", "flooded"))

    async def after(_: Engine) -> None:
        await asyncio.sleep(30.0)

    stage.play(before)
    stage.sent.clear()
    stage.play(after, start=100.0)
    assert len({name for _, name in stage.sent if name.startswith("quiet")}) == 10
    assert len(asked(stage, "quiet", 110.0)) > 0.45 * RATE * 20
