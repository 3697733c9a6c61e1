"""The world behind the daemon's ports: clock, rate, platform and receiver of one life of the process."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from poller.core.delivery import Gone, NotReceived, Received, ReceiverAnswer
from poller.core.orders import OrderKey
from poller.core.replies import Cause, Result, Unavailable, is_usable
from poller.pyun.reply import parse
from tests.world.truth import PARK, Asked, Plan, Record, Told, Word

TIMEOUT_S = 10.0
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

_SAID = {
    Word.PAID: b'{"code":"1001","status":"1","seqno":"a1","pay_serial":"77"}',
    Word.FAILED: b'{"code":1001,"status":-1,"seqno":"a2"}',
    Word.REJECTED: b'{"code":"400","message":"bad","hint":"check","seqno":"a3"}',
    None: b'{"code":"1001","status":"0","seqno":"a4"}',
}
_UNCLEAR = (
    (200, b'{"code":"1001","seqno":"b1","time_cost":8}'),
    (200, b'{"code":"500","message":"oops","seqno":"b2"}'),
    (500, b'{"code":"1001","status":"1"}'),
    (200, b'{"code":"1001","status":"1","status":"1"}'),
    (200, b'{"code":"1001","status":"2"}'),
    (200, b"<html>paid</html>"),
    (302, b""),
)


class Clock:
    """The loop's time is world time; the daemon sees it from an offset of its own, and a wall clock that lies."""

    def __init__(self, plan: Plan, dice: random.Random, boot: float) -> None:
        self._plan = plan
        self._dice = dice
        self._boot = boot

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() - self._boot

    def wall(self) -> datetime:
        now = asyncio.get_running_loop().time()
        steps = sum(by for at, by in self._plan.wall_steps if at <= now)
        return EPOCH + timedelta(seconds=now + max(steps, -19_000 * 86_400.0))

    def jitter(self) -> float:
        return self._dice.random()

    def new_event_id(self) -> str:
        return f"evt_{self._dice.getrandbits(96):024x}"


class Throttle:
    """At most `rate` in any second, evenly spread; a new process starts with its quota used up."""

    def __init__(self, rate: int) -> None:
        self._gap = 1.05 / rate
        self._next = asyncio.get_running_loop().time() + self._gap

    async def acquire(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(self._next - loop.time(), 0.0))
        self._next = loop.time() + self._gap


class Platform:
    """Says what the plan has fated, and the record notes what was said."""

    def __init__(self, plan: Plan, record: Record, dice: random.Random, point: Callable[[], None]) -> None:
        self._plan = plan
        self._record = record
        self._dice = dice
        self._point = point

    def knows(self, park_uuid: str) -> bool:
        return park_uuid == PARK

    async def query(self, key: OrderKey) -> Result:
        self._point()
        loop = asyncio.get_running_loop()
        asked = Asked(loop.time())
        self._record.queries[key].append(asked)
        try:
            result = await self._answer(key, asked)
        finally:
            asked.ended = loop.time()
        self._point()
        return result

    async def _answer(self, key: OrderKey, asked: Asked) -> Result:
        loop, dice, fate = asyncio.get_running_loop(), self._dice, self._plan.fates[key]
        delay = self._plan.latency * dice.random()
        if any(start <= loop.time() < end for start, end in self._plan.outages):
            if dice.random() < 0.2:
                await asyncio.sleep(TIMEOUT_S)
                return Unavailable(Cause.TIMEOUT, "no whole reply in time")
            await asyncio.sleep(delay)
            return parse(503, b'{"code":"503","message":"busy"}', None, None)
        await asyncio.sleep(delay)
        if dice.random() < fate.unclear:
            if dice.random() < 0.2:
                await asyncio.sleep(TIMEOUT_S)
                return Unavailable(Cause.TIMEOUT, "no whole reply in time")
            status, body = dice.choice(_UNCLEAR)
            result = parse(status, body, None, None)
            asked.said = "unclear" if is_usable(result) else None
            return result
        word = fate.word if loop.time() >= fate.settles_at else None
        asked.said = word or "in progress"
        return parse(200, _SAID[word], None, None)


class Receiver:
    """Takes notices; sometimes its answer is lost, so that the same notice comes again."""

    def __init__(self, plan: Plan, record: Record, dice: random.Random, point: Callable[[], None]) -> None:
        self._plan = plan
        self._record = record
        self._dice = dice
        self._point = point

    async def send(self, event_id: str, body: str) -> ReceiverAnswer:
        self._point()
        now = self._record.tried[event_id] = asyncio.get_running_loop().time()
        await asyncio.sleep(self._plan.latency * self._dice.random())
        roll = self._dice.random()
        if roll < self._plan.webhook_faults / 2:
            return NotReceived("HTTP status 500", 500)
        self._note(event_id, body, now)
        if roll < self._plan.webhook_faults:
            return NotReceived("no whole reply in time")
        if self._plan.webhook_faults and roll > 0.995:
            self._record.gone.add(event_id)
            return Gone()
        self._record.told[event_id].received = True
        self._point()
        return Received(204)

    def _note(self, event_id: str, body: str, now: float) -> None:
        told = self._record.told.get(event_id)
        if told is None:
            notice = json.loads(body)
            key = OrderKey(notice["data"]["park_uuid"], notice["data"]["pay_partner"])
            self._record.told[event_id] = Told(notice["type"], key, body, now)
        elif told.body != body:
            told.other_body = True
