"""The gate: a steady stream of new orders, each repeated until it is acknowledged."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

import aiohttp

from tests.acceptance.processes import PARK
from tests.chaos.ground import Door
from tests.chaos.plan import Plan, number

PATIENCE_S = 2.0  # for one answer; a stopped daemon takes the connection and says nothing
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.03, 0.25
WAITING_MAX = 200  # orders handed in at once; beyond it the gate takes no more cars


@dataclass(slots=True)
class Handed:
    """One order as the gate knows it; monotonic times. `refused` is an answer that repeating does not mend."""

    began: float
    tries: int = 0
    acknowledged: float | None = None
    refused: str | None = None


class Gate:
    def __init__(self, plan: Plan, door: Door) -> None:
        self.orders: dict[str, Handed] = {}
        self._rng = random.Random(f"{plan.seed}:orders")
        self._per_second = plan.orders_per_second
        self._door = door
        self._closed = asyncio.Event()

    def close(self) -> None:
        """No new orders; `run` returns once the last is acknowledged."""
        self._closed.set()

    def acknowledged(self) -> int:
        return sum(handed.acknowledged is not None for handed in self.orders.values())

    async def run(self) -> None:
        """Hand orders in until `close`."""
        waiting: set[asyncio.Task[None]] = set()
        async with self._door.session(PATIENCE_S) as session, asyncio.TaskGroup() as group:
            while not self._closed.is_set():
                if len(waiting) < WAITING_MAX:
                    name = number(self._rng, len(self.orders))
                    handed = self.orders[name] = Handed(time.monotonic())
                    task = group.create_task(_hand_in(session, name, handed))
                    waiting.add(task)
                    task.add_done_callback(waiting.discard)
                await self._next_car(self._rng.expovariate(self._per_second))

    async def _next_car(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return


def order(name: str) -> dict[str, object]:
    """What the gate hands in for an order, and what has to come back in each of its notices."""
    return {"park_uuid": PARK, "pay_partner": name, "metadata": {"plate": f"粤B{name[-5:]}", "lane": len(name)}}


async def _hand_in(session: aiohttp.ClientSession, name: str, handed: Handed) -> None:
    pause = FIRST_PAUSE_S
    while True:
        handed.tries += 1
        try:
            async with session.post("/v1/orders", json=order(name)) as answer:
                if answer.status in (200, 201):
                    handed.acknowledged = time.monotonic()
                    return
                if answer.status != 503:
                    handed.refused = f"{answer.status} {await answer.text()}"
                    return
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass  # it may have been taken on: the same again finds out
        await asyncio.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE_S)


async def states(session: aiohttp.ClientSession) -> dict[str, str]:
    """The state of every order by the daemon's own word."""
    found: dict[str, str] = {}
    after: str | None = None
    while True:
        params = {"limit": "1000"} | ({"after": after} if after else {})
        async with session.get("/v1/orders", params=params) as answer:
            answer.raise_for_status()
            page = await answer.json()
        found |= {item["pay_partner"]: item["state"] for item in page["orders"]}
        after = page["next"]
        if after is None:
            return found
