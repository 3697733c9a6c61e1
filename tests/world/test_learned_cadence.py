"""A cadence learned from a lot's own orders, over the whole engine in simulated time."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

from poller.core.cadence import Cadence
from poller.core.orders import NewOrder, OrderKey, Prompt, State
from poller.core.replies import Reply, Result, Settled
from poller.engine import Engine, Settings
from tests.world.stage import IN_PROGRESS, Stage
from tests.world.truth import PARK

PROPORTIONAL = Cadence(undecided_after=0.0)
LEARNED = Cadence(undecided_after=0.0, queries_per_order=12.0)
NEXT = OrderKey(PARK, "next")


class Lot:
    """Its orders settle after about 25 s, but for the `next` one, which is still in progress after a minute."""

    def __init__(self) -> None:
        self.settles_at: dict[str, float] = {}
        self.came_at = 0.0  # of the next one
        self.why: list[str] = []
        self._dice = random.Random(1)

    async def answer(self, key: OrderKey, now: float) -> Result:
        settled = now >= self.settles_at.get(key.pay_partner, float("inf"))
        return Settled(True, Reply("1001", status="1")) if settled else IN_PROGRESS

    async def live(self, engine: Engine) -> None:
        """200 orders, one every five seconds."""
        for number in range(200):
            now = asyncio.get_running_loop().time()
            self.settles_at[f"order-{number}"] = now + self._dice.gauss(25.0, 2.0)
            await engine.desk.submit([NewOrder(OrderKey(PARK, f"order-{number}"))])
            await asyncio.sleep(5.0)
        await asyncio.sleep(60.0)
        assert not await engine.desk.orders(State.PENDING, None, 1, None)

    async def one_more(self, engine: Engine) -> None:
        """The next order comes in, and is asked what it waits for now and then."""
        self.came_at = asyncio.get_running_loop().time()
        [submitted] = await engine.desk.submit([NewOrder(NEXT)])
        self.why.append(engine.desk.why(submitted.order))
        for _ in range(4):
            await asyncio.sleep(15.0)
            self.why.append(engine.desk.why(await engine.desk.order(NEXT)))


def ages(stage: Stage, lot: Lot) -> list[float]:
    """At which the next order was asked."""
    return [at - lot.came_at for at, name in stage.sent if name == NEXT.pay_partner]


def gaps(asked: list[float], low: float, high: float) -> list[float]:
    return [later - earlier for earlier, later in pairwise(asked) if low <= earlier < high]


def is_thin_and_then_crowded(asked: list[float]) -> bool:
    """Whether gaps are twice the proportional ones before orders settle, and the shortest there are then."""
    thin, crowded = gaps(asked, 2.0, 14.0), gaps(asked, 22.0, 26.0)
    usual = [PROPORTIONAL.gap(age, 0.0) for age in asked if 2.0 <= age < 14.0]
    return all(gap >= 2.0 * one for gap, one in zip(thin, usual, strict=True)) and max(crowded) < 1.3


def test_queries_thin_out_before_orders_settle_and_crowd_where_they_do() -> None:
    lot = Lot()
    stage = Stage(lot.answer, cadence=LEARNED)

    async def scene(engine: Engine) -> None:
        await lot.live(engine)
        await lot.one_more(engine)

    stage.play(scene)
    assert is_thin_and_then_crowded(ages(stage, lot))
    assert len([age for age in ages(stage, lot) if age < 20.0]) <= 8
    assert 0.5 < ages(stage, lot)[0] < 2.0
    assert lot.why[0] == f"not asked about yet: the first query comes {ages(stage, lot)[0]:.3g} s after it came in"
    assert "that are 15 s old, about" in lot.why[1]
    assert "% settle within a second, so that gaps are about" in lot.why[1]


def test_orders_that_a_callback_ends_are_learned_from_as_well() -> None:
    lot = Lot()
    stage = Stage(lot.answer, cadence=LEARNED)

    async def scene(engine: Engine) -> None:
        for number in range(80):
            key = OrderKey(PARK, f"order-{number}")
            await engine.desk.submit([NewOrder(key)])
            await asyncio.sleep(25.05)
            lot.settles_at[key.pay_partner] = asyncio.get_running_loop().time()
            await engine.desk.poll(key, Prompt.CALLBACK)
            await asyncio.sleep(1.0)
            assert (await engine.desk.order(key)).state is State.PAID
        await lot.one_more(engine)

    stage.play(scene)
    assert "% settle within a second, so that gaps are about" in lot.why[1]


def test_what_was_learned_is_known_again_after_a_restart() -> None:
    lot = Lot()
    stage = Stage(lot.answer, cadence=LEARNED)
    stage.play(lot.live)
    stage.play(lot.one_more, start=2000.0)
    assert is_thin_and_then_crowded(ages(stage, lot))


def test_a_reload_with_a_budget_learns_from_the_orders_of_before() -> None:
    lot = Lot()
    stage = Stage(lot.answer, cadence=PROPORTIONAL)

    async def scene(engine: Engine) -> None:
        await lot.live(engine)
        engine.configure(Settings(LEARNED, (PARK,), 32, 7200.0), None)
        await asyncio.sleep(1.0)
        await lot.one_more(engine)

    stage.play(scene)
    assert is_thin_and_then_crowded(ages(stage, lot))


def test_without_a_budget_the_proportional_rule_stays_as_it_is() -> None:
    lot = Lot()
    stage = Stage(lot.answer, cadence=PROPORTIONAL)

    async def scene(engine: Engine) -> None:
        await lot.live(engine)
        await lot.one_more(engine)

    stage.play(scene)
    assert not is_thin_and_then_crowded(ages(stage, lot))
    for earlier, later in pairwise(ages(stage, lot)):
        assert later - earlier <= PROPORTIONAL.gap(earlier, 0.0) + 0.01
    assert lot.why[0] == "not asked about yet: the first query comes 0.5 s after it came in"
    assert lot.why[1] == "in progress: gaps are 10% of its age, within the configured bounds"


def test_a_budget_without_history_changes_nothing_yet() -> None:
    lot = Lot()
    stage = Stage(lot.answer, cadence=LEARNED)
    stage.play(lot.one_more)
    for earlier, later in pairwise(ages(stage, lot)):
        assert later - earlier <= PROPORTIONAL.gap(earlier, 0.0) + 0.01
    assert "gaps are 10% of its age, within the configured bounds: too little is known" in lot.why[1]
