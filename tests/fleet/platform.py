"""The simulated platform, which takes its time to answer and notes by which connection each query came."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Iterable
from dataclasses import replace
from itertools import compress

from aiohttp import web

from poller.simulator.platform import _Plan
from poller.simulator.record import Key
from poller.simulator.replies import PATH
from tests.acceptance.processes import APP_SECRET, PARK
from tests.chaos.witness import Asked, Witness
from tests.fleet.plan import Plan

ANSWER_S = (0.005, 0.2)  # so that queries are in the air for a while


class Platform(Witness):
    """`ports` are the clients' ends of the connections that queries came by, in the order of arrival."""

    def __init__(self, plan: Plan) -> None:
        super().__init__({PARK: APP_SECRET}, seed=plan.seed, host="127.0.0.1")
        self.ports: array[int] = array("H")
        self._script = lambda _, number: plan.scenario(number, self._delay(number))
        self._of = plan
        self._early: list[str] = []
        self._all_since: float | None = None
        self._rng = plan.rng("answers")

    def all_in_flight(self) -> None:
        """From now on orders settle, each in its time."""
        self._all_since = time.monotonic()
        for number in self._early:
            self.record.life((PARK, number)).settles_at = self._all_since + self._of.settles_after(number)

    def asked_but(self, left_out: Iterable[int]) -> Iterable[Asked]:
        """Every query but those with these numbers, in the order of arrival."""
        wanted = bytearray(b"\1" * len(self.record))
        for number in left_out:
            wanted[number] = 0
        return compress(self.asked(), wanted)

    def _delay(self, number: str) -> float:
        if self._all_since is None:
            self._early.append(number)
            return float("inf")
        return max(self._all_since + self._of.settles_after(number) - time.monotonic(), 0.0)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.rel_url.path == PATH:
            peer = request.transport.get_extra_info("peername") if request.transport else None
            self.ports.append(peer[1] if peer else 0)
        return await super()._handle(request)

    def _plan(self, key: Key, params: Iterable[tuple[str, str]], now: float) -> _Plan:
        plan = super()._plan(key, params, now)
        return replace(plan, delay_s=plan.delay_s + self._rng.uniform(*ANSWER_S))


async def until(moment: float) -> None:
    """Of `time.monotonic()`."""
    await asyncio.sleep(max(moment - time.monotonic(), 0.0))
