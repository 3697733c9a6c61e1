"""The gate: all orders at once, shared out over the fleet, then a few more each second, whoever answers."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence

import aiohttp

from tests.chaos.load import Handed, order
from tests.fleet.members import Member
from tests.fleet.plan import Plan

BATCH = 500
PAUSE_S = 0.2  # before the next try
PATIENCE_S = 5.0  # for one answer to an order that comes alone


class Gate:
    def __init__(self, plan: Plan, members: Sequence[Member]) -> None:
        self.orders: dict[str, Handed] = {}
        self._members = members
        self._rng = plan.rng("gate")
        self._per_second = plan.trickle
        self._closed = asyncio.Event()

    def acknowledged(self) -> int:
        return sum(handed.acknowledged is not None for handed in self.orders.values())

    async def hand_in_all(self, count: int) -> None:
        """So many orders, in batches, an equal share at each daemon."""
        names = [self._name() for _ in range(count)]
        batches = iter([names[start : start + BATCH] for start in range(0, count, BATCH)])
        async with asyncio.TaskGroup() as group:
            for member in self._members:
                group.create_task(self._batches(member, batches))

    def close(self) -> None:
        """No new orders; `run` returns once the last is acknowledged."""
        self._closed.set()

    async def run(self) -> None:
        """One by one until `close`, each repeated, at another daemon, until one acknowledges it."""
        async with asyncio.TaskGroup() as group:
            while not self._closed.is_set():
                group.create_task(self._until_taken_on(self._name()))
                try:
                    async with asyncio.timeout(self._rng.expovariate(self._per_second)):
                        await self._closed.wait()
                except TimeoutError:
                    continue

    def _name(self) -> str:
        name = f"{len(self.orders)}-{self._rng.randrange(10**6):06d}"
        self.orders[name] = Handed(time.monotonic())
        return name

    async def _batches(self, member: Member, batches: Iterator[list[str]]) -> None:
        for names in batches:
            for name in names:
                self.orders[name].tries += 1
            async with member.session.post("/v1/orders", json=[order(name) for name in names]) as answer:
                answer.raise_for_status()
                items = await answer.json()
            for name, item in zip(names, items, strict=True):
                self._answered(name, item["status"], item)

    async def _until_taken_on(self, name: str) -> None:
        start = self._rng.randrange(len(self._members))
        for member in itertools.islice(itertools.cycle(self._members), start, None):
            self.orders[name].tries += 1
            try:
                async with (
                    asyncio.timeout(PATIENCE_S),
                    member.session.post("/v1/orders", json=order(name)) as answer,
                ):
                    if answer.status != 503:
                        self._answered(name, answer.status, await answer.text())
                        return
            except (aiohttp.ClientError, TimeoutError, OSError):
                pass  # it may have been taken on: the same again finds out
            await asyncio.sleep(PAUSE_S)

    def _answered(self, name: str, status: int, answer: object) -> None:
        if status in (200, 201):
            self.orders[name].acknowledged = time.monotonic()
        else:
            self.orders[name].refused = f"{status} {answer}"
