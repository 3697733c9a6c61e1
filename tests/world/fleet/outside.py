"""Platform and receiver as each daemon of a fleet reaches them: what has been sent goes on without the sender."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from poller.core.delivery import ReceiverAnswer
from poller.core.orders import OrderKey
from poller.core.replies import Result
from tests.world.adapters import Platform, Receiver
from tests.world.fleet.network import Network
from tests.world.fleet.plan import Place
from tests.world.fleet.processes import PROCESS, FleetLoop, Process
from tests.world.truth import Plan, Record

_HOLDER = (
    "SELECT s.holder FROM orders o JOIN schedule s ON s.order_id = o.id "
    "WHERE o.park_uuid = $1 AND o.pay_partner = $2"
)

T = TypeVar("T")


@dataclass(eq=False, slots=True)
class Flight:
    """A query. `of_final` says that PostgreSQL had the order as final, `held` that the asker held it, by then."""

    key: OrderKey
    by: Process
    sent: float
    of_final: bool
    held: bool
    ended: float | None = None


@dataclass(slots=True)
class Ground:
    """What all daemons stand on."""

    loop: FleetLoop
    network: Network
    plan: Plan
    record: Record
    dice: random.Random
    flights: list[Flight]
    flying: set[asyncio.Task[None]] = field(default_factory=set)

    async def beyond(self, work: Coroutine[Any, Any, T]) -> T:
        """Have something done outside the daemon that waits for it, whatever becomes of that."""
        return await asyncio.shield(self.loop.create_task(work, context=self.loop.world.copy()))


class FleetPlatform(Platform):
    """Notes who held an order that is asked about."""

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground.plan, ground.record, ground.dice, lambda: None)
        self._ground = ground

    async def query(self, key: OrderKey) -> Result:
        process = PROCESS.get()
        assert process is not None
        sent = self._ground.loop.create_future()
        self._ground.loop.call_soon(self._send, key, process, sent, context=self._ground.loop.world)
        result: Result = await sent
        await process.step(Place.QUERY)
        return result

    def _send(self, key: OrderKey, process: Process, answered: asyncio.Future[Result]) -> None:
        rows = self._ground.network.server.look(_HOLDER, *key)
        held = bool(rows) and rows[0][0] in process.sessions
        flight = Flight(key, process, self._ground.loop.time(), not rows, held)
        self._ground.flights.append(flight)
        query = super().query(key)

        async def fly() -> None:
            try:
                result = await query
            finally:
                flight.ended = self._ground.loop.time()
            if not answered.done():
                answered.set_result(result)

        self._ground.flying.add(self._ground.loop.create_task(fly(), context=self._ground.loop.world.copy()))
        process.hit(Place.QUERY)


class FleetReceiver(Receiver):
    def __init__(self, ground: Ground) -> None:
        super().__init__(ground.plan, ground.record, ground.dice, lambda: None)
        self._ground = ground

    async def send(self, event_id: str, body: str) -> ReceiverAnswer:
        process = PROCESS.get()
        assert process is not None
        await process.step()
        answer = await self._ground.beyond(super().send(event_id, body))
        await process.step()
        return answer
