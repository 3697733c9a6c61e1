"""Hours of a receiver's moods over the whole engine, in simulated time."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest

from poller.core.cadence import Cadence
from poller.core.delivery import DeliveryState, NotReceived, Received, ReceiverAnswer
from poller.core.orders import NewOrder, OrderKey
from poller.core.replies import Payment, Reply, Result, Settled
from poller.engine import Engine
from tests.world.stage import IN_PROGRESS, Stage, orders
from tests.world.truth import PARK

pytestmark = pytest.mark.timeout(120)

HOUR = 3600.0
DAY = 24 * HOUR
PROMPT = Cadence(undecided_after=0.0)
PAID = Settled(True, Reply("1001", status="1"), Payment("77"))
TAKEN = Received(204)
BROKEN = NotReceived("HTTP status 500", 500)

Mood = Callable[[str, float], Awaitable[ReceiverAnswer]]


async def paid(key: OrderKey, now: float) -> Result:
    return PAID


class Receiver:
    """Answers by order's number and time, and keeps every try."""

    def __init__(self, mood: Mood) -> None:
        self._mood = mood
        self.tries: dict[str, list[float]] = defaultdict(list)
        self.taken: dict[str, float] = {}
        self.bodies: dict[str, set[str]] = defaultdict(set)
        self.at_once = 0
        self._now = 0

    async def send(self, event_id: str, body: str) -> ReceiverAnswer:
        now = asyncio.get_running_loop().time()
        number = json.loads(body)["data"]["pay_partner"]
        self.tries[number].append(now)
        self.bodies[event_id].add(body)
        self._now += 1
        self.at_once = max(self.at_once, self._now)
        try:
            answer = await self._mood(number, now)
        finally:
            self._now -= 1
        if answer == TAKEN:
            self.taken.setdefault(number, asyncio.get_running_loop().time())
        return answer

    def gaps(self, number: str) -> list[float]:
        return [later - earlier for earlier, later in pairwise(self.tries[number])]


def down_until(end: float, start: float = 0.0) -> Receiver:
    async def mood(number: str, now: float) -> ReceiverAnswer:
        await asyncio.sleep(0.005)
        return BROKEN if start <= now < end else TAKEN

    return Receiver(mood)


def submit_and_sleep(count: int, every: float, until: float) -> Callable[[Engine], Awaitable[None]]:
    async def scene(engine: Engine) -> None:
        for new in orders(count):
            await engine.desk.submit([new])
            await asyncio.sleep(every)
        await asyncio.sleep(until - asyncio.get_running_loop().time())

    return scene


def test_a_receiver_that_is_down_for_hours_is_tried_ever_more_rarely_and_told_in_the_end() -> None:
    """1 s doubling to 60 s in the first hour, then every ten minutes at most; two lines of log in all."""
    receiver = down_until(5 * HOUR)
    stage = Stage(paid, cadence=PROMPT, receiver=receiver, give_up_delivery=DAY)
    stage.play(submit_and_sleep(1, 0.0, 6 * HOUR))
    first = receiver.tries["order-0"][0]
    pauses = zip((1, 2, 4, 8, 16, 32, 60, 60, 60), receiver.gaps("order-0"), strict=False)
    assert all(0.9 * pause <= gap <= pause + 0.1 for pause, gap in pauses)
    pairs = list(zip(receiver.tries["order-0"], receiver.gaps("order-0"), strict=False))
    assert max(gap for at, gap in pairs if at < first + HOUR - 1) <= 60.1
    assert all(540.0 <= gap <= 600.1 for at, gap in pairs if at > first + HOUR)
    assert 5 * HOUR <= receiver.taken["order-0"] <= 5 * HOUR + 600.1
    [(_, failed)] = stage.events("delivery.failed")
    assert 0.9 <= failed["next_in_s"] <= 1.0
    assert len(stage.events("delivery.recovered")) == 1


def test_once_the_receiver_is_back_no_notice_sits_its_own_pause_out() -> None:
    """The first that arrives brings all the others with it, in steps, and none more than once."""
    receiver = down_until(600.0, start=20.0)
    stage = Stage(paid, cadence=PROMPT, receiver=receiver)
    stage.play(submit_and_sleep(260, 2.0, 700.0))
    back = sorted(at for at in receiver.taken.values() if at >= 600.0)
    assert 248 <= len(back) <= 252
    assert len(receiver.taken) == 260
    assert back[-1] - back[0] <= 2.0
    assert all(sum(at >= 600.0 for at in tries) <= 1 for tries in receiver.tries.values())
    assert receiver.at_once == 16
    assert len(receiver.bodies) == 260
    assert all(len(bodies) == 1 for bodies in receiver.bodies.values())


def test_a_notice_that_the_receiver_never_takes_is_not_hurried_by_the_success_of_others() -> None:
    async def mood(number: str, now: float) -> ReceiverAnswer:
        return BROKEN if number == "order-3" else TAKEN

    receiver = Receiver(mood)
    stage = Stage(paid, cadence=PROMPT, receiver=receiver)
    stage.play(submit_and_sleep(400, 3.0, 1260.0))
    assert len(receiver.taken) == 399
    expected = [1, 2, 4, 8, 16, 32] + [60] * 50
    assert all(gap >= 0.9 * pause for gap, pause in zip(receiver.gaps("order-3"), expected, strict=False))


def test_after_a_restart_the_first_notice_that_arrives_brings_the_waiting_ones_with_it() -> None:
    receiver = down_until(3 * HOUR)
    stage = Stage(paid, cadence=PROMPT, receiver=receiver, give_up_delivery=DAY)
    stage.play(submit_and_sleep(20, 50.0, 3 * HOUR - 1.0))
    assert not receiver.taken
    stage.play(submit_and_sleep(0, 0.0, 4 * HOUR), start=3 * HOUR)
    back = sorted(receiver.taken.values())
    assert len(back) == 20
    assert back[-1] - back[0] <= 1.0


def test_a_new_result_does_not_wait_behind_a_backlog() -> None:
    """300 notices hang for ten minutes; then each takes a second, and 16 go at once: 19 s for all of them."""

    async def mood(number: str, now: float) -> ReceiverAnswer:
        if now < 600.0:
            await asyncio.sleep(10.0)
            return NotReceived("no whole reply in time")
        await asyncio.sleep(1.0)
        return TAKEN

    receiver = Receiver(mood)
    stage = Stage(paid, cadence=PROMPT, receiver=receiver)

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(300))
        await asyncio.sleep(595.0)
        await engine.desk.submit(orders(1, "hanging"))
        await asyncio.sleep(612.0 - asyncio.get_running_loop().time())
        await engine.desk.submit(orders(1, "after"))
        await asyncio.sleep(120.0)

    stage.play(scene)
    assert len(receiver.taken) == 302
    backlog = sorted(at for number, at in receiver.taken.items() if number.startswith("order"))
    assert backlog[-1] >= 617.0
    assert receiver.taken["after-0"] <= 612.5 + 2.5
    assert receiver.taken["hanging-0"] <= backlog[100]
    assert all(len(receiver.tries[new.key.pay_partner]) >= 2 for new in orders(300))


def test_no_notice_starves_while_new_ones_keep_coming() -> None:
    """A receiver so slow that it cannot keep up with the new ones alone still gets every old one."""

    async def mood(number: str, now: float) -> ReceiverAnswer:
        await asyncio.sleep(4.0)
        return TAKEN

    receiver = Receiver(mood)
    stage = Stage(paid, cadence=PROMPT, receiver=receiver)

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(100, "old"))
        for new in orders(500, "new"):
            await engine.desk.submit([new])
            await asyncio.sleep(0.2)  # 5 a second, where 4 a second can be taken

    stage.play(scene)
    assert all(f"old-{number}" in receiver.taken for number in range(100))


def test_a_flapping_receiver_gets_every_notice_and_those_of_one_order_in_their_order() -> None:
    told: list[tuple[str, str]] = []
    dice = iter(range(10**9))

    async def mood(number: str, now: float) -> ReceiverAnswer:
        await asyncio.sleep(0.01)
        return BROKEN if next(dice) % 3 or now % 20.0 < 10.0 else TAKEN

    class Noting(Receiver):
        async def send(self, event_id: str, body: str) -> ReceiverAnswer:
            answer = await super().send(event_id, body)
            if answer == TAKEN:
                notice = json.loads(body)
                told.append((notice["data"]["pay_partner"], notice["type"]))
            return answer

    receiver = Noting(mood)
    stage = Stage(in_progress_for(60.0), cadence=Cadence(undecided_after=10.0), receiver=receiver)
    stage.play(submit_and_sleep(60, 0.5, 1500.0))
    by_order: dict[str, list[str]] = defaultdict(list)
    for number, kind in told:
        by_order[number].append(kind)
    assert len(by_order) == 60
    assert set(map(tuple, by_order.values())) == {("payment.undecided", "payment.paid")}


def in_progress_for(seconds: float) -> Callable[[OrderKey, float], Awaitable[Result]]:
    async def script(key: OrderKey, now: float) -> Result:
        return PAID if now > seconds else IN_PROGRESS

    return script


def test_a_dead_notice_is_kept_and_sent_again_on_request_with_its_time_anew() -> None:
    receiver = down_until(3.2 * HOUR)
    stage = Stage(paid, cadence=PROMPT, receiver=receiver, give_up_delivery=HOUR)

    async def scene(engine: Engine) -> None:
        await engine.desk.submit([NewOrder(OrderKey(PARK, "order-0"))])
        await asyncio.sleep(2 * HOUR)
        [dead] = await engine.desk.deliveries(DeliveryState.DEAD, None, 10)
        assert dead.last_error == "not received in 3600 s, last: HTTP status 500"
        tried = len(receiver.tries["order-0"])
        await engine.desk.redeliver(dead.notice.event_id)
        await asyncio.sleep(HOUR / 2)
        assert len(receiver.tries["order-0"]) > tried + 20
        await asyncio.sleep(0.6 * HOUR)
        [again] = await engine.desk.deliveries(DeliveryState.DEAD, None, 10)
        assert again.notice.event_id == dead.notice.event_id
        await asyncio.sleep(0.2 * HOUR)
        await engine.desk.redeliver(dead.notice.event_id)
        await asyncio.sleep(1.0)

    stage.play(scene)
    assert "order-0" in receiver.taken
    assert [len(bodies) for bodies in receiver.bodies.values()] == [1]
    dead = stage.events("delivery.dead")
    assert [record["error"] for _, record in dead] == ["not received in 3600 s, last: HTTP status 500"] * 2
