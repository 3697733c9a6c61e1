"""Outage mode over the whole engine, in simulated time."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from poller.core.cadence import Cadence
from poller.core.orders import OrderKey, Prompt, State
from poller.core.replies import Cause, Payment, Reply, Result, Settled, Unavailable, Unclear
from poller.engine import Engine
from tests.world.stage import IN_PROGRESS, Stage, orders
from tests.world.truth import PARK

pytestmark = pytest.mark.timeout(120)

BUSY = Unavailable(Cause.BUSY, "code 503", Reply("503"))
DOWN, UP, SETTLED = 100.0, 700.0, 720.0


async def ten_minutes_of_503(key: OrderKey, now: float) -> Result:
    await asyncio.sleep(0.01)
    if now >= SETTLED:
        return Settled(True, Reply("1001", status="1"))
    return BUSY if DOWN <= now < UP else IN_PROGRESS


def test_ten_minutes_of_503_cost_a_canary_now_and_then_and_recovery_is_quick_and_freshest_first() -> None:
    stage = Stage(ten_minutes_of_503, cadence=Cadence(undecided_after=0.0))

    async def scene(engine: Engine) -> None:
        for new in orders(1000):
            await engine.desk.submit([new])
            await asyncio.sleep(0.01)
        await asyncio.sleep(400.0 - asyncio.get_running_loop().time())
        await engine.desk.submit(orders(1, "late"))
        await asyncio.sleep(UP + 70.0 - asyncio.get_running_loop().time())
        ready, body = engine.desk.readiness()
        assert ready
        assert body["platform"] == {"status": "up"}
        await asyncio.sleep(80.0)
        assert not await engine.desk.orders(State.PENDING, None, 1, None)
        assert len(await engine.desk.orders(State.PAID, None, 2000, None)) == 1001

    stage.play(scene)
    [(down, _)] = stage.events("platform.down")
    [(up, _)] = stage.events("platform.up")
    assert DOWN <= down < DOWN + 5
    canaries = [at for at, _ in stage.sent if down + 1.0 < at < UP]
    assert len(canaries) <= UP - DOWN
    assert min(later - earlier for earlier, later in pairwise(canaries)) >= 0.9
    assert min(at for at, name in stage.sent if name == "late-0") <= 405.0
    after = [(at, name) for at, name in stage.sent if at >= up - 0.02]
    assert {name for at, name in after if at <= up + 2.0} >= {f"order-{number}" for number in range(1000)}
    first_asked = list(dict.fromkeys(name for _, name in after))[:200]
    ages = [1001 if name == "late-0" else int(name.removeprefix("order-")) for name in first_asked]
    assert sum(age >= 800 for age in ages) >= 150  # four in five are of the freshest fifth


def test_an_outage_makes_no_orders_own_backoff_grow() -> None:
    stage = Stage(ten_minutes_of_503, cadence=Cadence(undecided_after=0.0, max_interval=30.0))
    errors: list[int] = []

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(40))
        await asyncio.sleep(UP - 1.0)
        errors.extend([(await engine.desk.order(new.key)).errors for new in orders(40)])

    stage.play(scene)
    assert max(errors) <= 2


def test_canaries_rotate_through_the_orders() -> None:
    stage = Stage(ten_minutes_of_503, cadence=Cadence(undecided_after=0.0))

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(10))
        await asyncio.sleep(UP)

    stage.play(scene)
    [(down, _)] = stage.events("platform.down")
    canaries = [name for at, name in stage.sent if down < at < UP]
    assert len(set(canaries)) >= min(len(canaries) // 2, 10)
    assert max(canaries.count(name) for name in canaries) <= len(canaries) // 2 + 2


def test_in_an_outage_an_order_that_a_person_asks_about_does_not_wait_for_the_pause() -> None:
    async def down(key: OrderKey, now: float) -> Result:
        return BUSY if now >= 10.0 else IN_PROGRESS

    stage = Stage(down, cadence=Cadence(undecided_after=0.0))
    asked: list[float] = []

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(5))
        await asyncio.sleep(900.0)
        for number in range(3):
            asked.append(asyncio.get_running_loop().time())
            await engine.desk.poll(OrderKey(PARK, f"order-{number}"))
            await asyncio.sleep(10.0)

    stage.play(scene)
    for number, at in enumerate(asked):
        assert any(at <= sent <= at + 1.1 and name == f"order-{number}" for sent, name in stage.sent)


def test_retry_after_is_honoured_within_the_bounds() -> None:
    async def script(key: OrderKey, now: float) -> Result:
        return Unavailable(Cause.BUSY, "HTTP 429", None, 3000.0) if now >= 10.0 else IN_PROGRESS

    stage = Stage(script, cadence=Cadence(undecided_after=0.0))

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(5))
        await asyncio.sleep(1000.0)

    stage.play(scene)
    [(down, _)] = stage.events("platform.down")
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(stage.sent) if earlier > down]
    young = [gap for (at, _), gap in zip(stage.sent[-len(gaps) - 1 :], gaps, strict=False) if at < 100.0]
    assert max(young) <= 5.1
    assert 59.0 <= max(gaps) <= 60.1


@pytest.mark.parametrize(
    "poison",
    [Unclear("code 500", Reply("500")), Unclear("not one JSON object"), BUSY],
    ids=["always 500", "always garbage", "always 503"],
)
def test_a_poisonous_order_costs_the_others_nothing(poison: Result) -> None:
    async def script(key: OrderKey, now: float) -> Result:
        return poison if key.pay_partner == "poison-0" else IN_PROGRESS

    def asked(*, poisoned: bool) -> list[tuple[float, str]]:
        stage = Stage(script, cadence=Cadence(undecided_after=0.0))

        async def scene(engine: Engine) -> None:
            if poisoned:
                await engine.desk.submit(orders(1, "poison"))
            await engine.desk.submit(orders(3))
            await asyncio.sleep(300.0)

        stage.play(scene)
        assert stage.events("platform.down") == []
        return [(at, name) for at, name in stage.sent if not name.startswith("poison")]

    alone, beside = asked(poisoned=False), asked(poisoned=True)
    assert abs(len(alone) - len(beside)) <= 6  # jitter falls differently
    assert all(later - earlier < 32.0 for (earlier, _), (later, _) in pairwise(beside))


def test_orders_that_hang_leave_half_of_the_places_to_the_others() -> None:
    async def script(key: OrderKey, now: float) -> Result:
        if key.pay_partner.startswith("hang"):
            await asyncio.sleep(10.0)
            return Unavailable(Cause.TIMEOUT, "no whole reply in time")
        return IN_PROGRESS

    stage = Stage(script, cadence=Cadence(undecided_after=0.0, max_interval=2.0), places=8)

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(100, "hang"))
        await engine.desk.submit(orders(4))
        await asyncio.sleep(600.0)

    stage.play(scene)
    late = [at for at, name in stage.sent if name == "order-0" and at > 400.0]
    assert max(later - earlier for earlier, later in pairwise(late)) <= 3.0


def test_an_order_expires_only_on_a_usable_reply_and_on_time() -> None:
    async def script(key: OrderKey, now: float) -> Result:
        return BUSY if 50.0 <= now < 200.0 else IN_PROGRESS

    stage = Stage(script, cadence=Cadence(undecided_after=20.0, give_up_after=100.0))
    states: list[State] = []

    async def scene(engine: Engine) -> None:
        [new] = orders(1)
        await engine.desk.submit([new])
        await asyncio.sleep(190.0)
        states.append((await engine.desk.order(new.key)).state)
        await asyncio.sleep(100.0)
        states.append((await engine.desk.order(new.key)).state)

    stage.play(scene)
    assert states == [State.PENDING, State.EXPIRED]
    [(undecided, _)] = stage.events("order.undecided")
    assert 20.0 <= undecided <= 20.1


def test_without_an_outage_the_last_query_is_asked_when_the_time_is_up() -> None:
    async def script(key: OrderKey, now: float) -> Result:
        return IN_PROGRESS

    stage = Stage(script, cadence=Cadence(undecided_after=0.0, give_up_after=1000.0))

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(1))
        await asyncio.sleep(1100.0)

    stage.play(scene)
    [(final, record)] = stage.events("order.final")
    assert record["state"] == "expired"
    assert 1000.0 <= final <= 1000.1
    assert 999.9 <= stage.sent[-1][0] <= 1000.1


def test_a_contradiction_after_the_end_is_told_and_never_applied() -> None:
    words = iter([Settled(True, Reply("1001", status="1"), Payment("7"))])

    async def script(key: OrderKey, now: float) -> Result:
        return next(words, Settled(False, Reply("1001", status="-1")))

    stage = Stage(script)
    key = OrderKey(PARK, "order-0")
    states: list[State] = []

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(1))
        await asyncio.sleep(2.0)
        for _ in range(2):
            await engine.desk.poll(key)
            await asyncio.sleep(2.0)
        order = await engine.desk.order(key)
        states.append(order.state)
        assert order.conflict_at is not None
        assert order.payment.serial == "7"

    stage.play(scene)
    assert states == [State.PAID]
    assert len(stage.events("order.conflict")) == 1
    assert len(stage.sent) == 3


def test_the_history_shows_what_prompted_a_query() -> None:
    async def script(key: OrderKey, now: float) -> Result:
        return IN_PROGRESS if now < 10.0 else Settled(True, Reply("1001", status="1"))

    stage = Stage(script, cadence=Cadence(min_interval=4.0))
    key = OrderKey(PARK, "order-0")
    prompts: list[tuple[str, int, str | None]] = []

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(1))
        await asyncio.sleep(5.0)
        await engine.desk.poll(key)
        await asyncio.sleep(5.05)
        await engine.desk.poll(key, Prompt.CALLBACK)
        await asyncio.sleep(0.5)
        for entry in await engine.desk.history(key):
            prompts.append((entry.answer.prompt, entry.count, entry.answer.status))

    stage.play(scene)
    assert [(prompt, status) for prompt, _, status in prompts] == [
        ("schedule", "0"),
        ("request", "0"),
        ("schedule", "0"),
        ("callback", "1"),
    ]
