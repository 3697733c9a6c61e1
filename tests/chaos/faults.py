"""What befalls the machine and the receiver, whichever life is led: the weather."""

from __future__ import annotations

import asyncio
import random
import time

from poller.simulator import Answers, HangsUp, WebhookReceiver
from poller.simulator.receiver import Hangs, Mood
from tests.chaos.ground import Ground
from tests.chaos.plan import WEATHER, Kind, Plan
from tests.chaos.spans import Span

BEAT_S = 0.01
LATE_S = 0.004


class Weather:
    """Network cuts and full disks, one at a time."""

    def __init__(self, plan: Plan, ground: Ground) -> None:
        self.faults = 0
        self._rng = random.Random(f"{plan.seed}:weather")
        self._calm = plan.calm
        self._ground = ground
        self._kinds = sorted((plan.kinds & WEATHER) - ground.skipped.keys())
        self._most = None if plan.kinds - WEATHER else plan.count
        self._over = asyncio.Event()

    def end(self) -> None:
        """The sky clears; `run` then returns."""
        self._over.set()

    async def run(self) -> None:
        """Until `end` or, where there are no other faults, until as many as were planned."""
        while self._kinds and (self._most is None or self.faults < self._most):
            if await self._ended_within(self._rng.uniform(*self._calm)):
                return
            self.faults += 1
            kind = self._rng.choice(self._kinds)
            seconds = self._rng.uniform(0.5, 5.0)
            try:
                self._begin(kind)
                await self._ended_within(seconds)
            finally:
                self._heal()

    def _begin(self, kind: Kind) -> None:
        if kind is Kind.NETWORK and self._ground.wire:
            self._ground.wire.cut(blackhole=self._rng.random() < 0.7)
        if kind is Kind.DISK and self._ground.disk:
            self._ground.disk.fill()

    def _heal(self) -> None:
        if self._ground.wire:
            self._ground.wire.mend()
        if self._ground.disk:
            self._ground.disk.free()

    async def _ended_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return False
        return True


async def moods(plan: Plan, receiver: WebhookReceiver) -> None:
    """A receiver that is mostly well, often slow, and now and then refuses a few. Until it is cancelled."""
    rng = random.Random(f"{plan.seed}:moods")
    choices: list[tuple[int, Mood, int | None]] = [
        (50, Answers(), None),
        (25, Answers(delay_s=0.1), None),
        (10, Answers(delay_s=0.7), None),
        (6, Answers(500), 2),
        (5, HangsUp(), 2),
        (4, Hangs(), 1),
    ]
    try:
        while True:
            [(_, mood, times)] = rng.choices(choices, [weight for weight, _, _ in choices])
            receiver.behave(mood, times=times)
            await asyncio.sleep(rng.uniform(0.3, 2.0))
    finally:
        receiver.recover()


async def keep_watch(blocked: list[Span]) -> None:
    """Note when this process was itself too late to see a query come, so that the daemon is not blamed for it."""
    while True:
        due = time.monotonic() + BEAT_S
        await asyncio.sleep(BEAT_S)
        now = time.monotonic()
        if now - due > LATE_S:
            blocked.append(Span(due, now + LATE_S))
