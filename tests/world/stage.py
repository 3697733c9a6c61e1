"""A stage for single scenes: the real engine and store in simulated time, with a platform that a test scripts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from poller.core.cadence import Cadence
from poller.core.delivery import Received, ReceiverAnswer
from poller.core.orders import NewOrder, OrderKey
from poller.core.replies import InProgress, Reply, Result
from poller.engine import Engine, Settings
from poller.metrics import Metrics
from poller.polling import poller, query, refill
from poller.ports import Receiver, Throttle
from tests.world.adapters import EPOCH
from tests.world.loop import VirtualLoop
from tests.world.storage import Disk
from tests.world.truth import PARK

IN_PROGRESS = InProgress(Reply("1001", status="0"))

Script = Callable[[OrderKey, float], Awaitable[Result]]


async def never(_: OrderKey, __: float) -> Result:
    """A platform that settles nothing."""
    await asyncio.sleep(0.01)
    return IN_PROGRESS


def hold_at_most(room: int, patch: pytest.MonkeyPatch) -> None:
    """Have the daemon keep so many orders in memory."""
    for module in (poller, query, refill):
        patch.setattr(module, "HELD_MAX", room)
    patch.setattr(refill, "FRESHEST", room // 4)


@dataclass(slots=True)
class StageClock:
    """World time, and a wall clock that a test sets."""

    wall_offset: timedelta = timedelta()
    ids: Iterator[int] = field(default_factory=lambda: iter(range(10**9)))
    dice: random.Random = field(default_factory=lambda: random.Random(0))

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time()) + self.wall_offset

    def jitter(self) -> float:
        return self.dice.random()

    def new_event_id(self) -> str:
        return f"evt_{next(self.ids)}"


@dataclass(slots=True)
class StageThrottle:
    rate: float
    free_at: float = 0.0

    async def acquire(self) -> None:
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(max(self.free_at - now, 0.0))
        self.free_at = asyncio.get_running_loop().time() + 1.0 / self.rate


class Taking:
    """A receiver that takes everything."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    async def send(self, event_id: str, body: str) -> ReceiverAnswer:
        self.bodies.append(body)
        return Received(204)


class Stage:
    """`play` runs a scene; `sent` and `log` are what it left."""

    def __init__(
        self,
        script: Script,
        *,
        cadence: Cadence | None = None,
        rate: float = 1000.0,
        places: int = 32,
        receiver: Receiver | None = None,
        give_up_delivery: float = 7200.0,
        lots: tuple[str, ...] = (PARK,),
    ) -> None:
        self.sent: list[tuple[float, str]] = []
        self.log: list[tuple[float, dict[str, Any]]] = []
        self.clock = StageClock()
        self.disk = Disk(random.Random(0), lambda: None, lambda: False)
        self.throttle: Throttle = StageThrottle(rate)
        self.receiver = receiver or Taking()
        self._script = script
        self._settings = Settings(cadence or Cadence(), lots, places, give_up_delivery)

    def knows(self, park_uuid: str) -> bool:
        return park_uuid in self._settings.park_uuids

    async def query(self, key: OrderKey) -> Result:
        now = asyncio.get_running_loop().time()
        self.sent.append((now, key.pay_partner))
        return await self._script(key, now)

    def play(
        self,
        scene: Callable[[Engine], Awaitable[None]],
        *,
        start: float = 0.0,
        metrics: Metrics | None = None,
    ) -> None:
        """Run the daemon while `scene` lasts, then drain it."""
        loop = VirtualLoop(start, lambda: None)
        asyncio.set_event_loop(loop)
        try:
            with self._logging():
                loop.run_until_complete(self._play(scene, metrics))
        finally:
            loop.close()
            asyncio.set_event_loop(None)

    async def _play(self, scene: Callable[[Engine], Awaitable[None]], metrics: Metrics | None) -> None:
        store = self.disk.open()
        engine = Engine(
            store=store,
            platform=self,
            receiver=self.receiver,
            throttle=self.throttle,
            clock=self.clock,
            settings=self._settings,
            metrics=metrics,
        )
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(engine.run(stop, _nothing))
            await scene(engine)
            stop.set()
            await running
        await store.close()

    def events(self, name: str) -> list[tuple[float, dict[str, Any]]]:
        return [(at, record) for at, record in self.log if record["event"] == name]

    @contextmanager
    def _logging(self) -> Iterator[None]:
        def note(_logger: object, _method: str, record: structlog.typing.EventDict) -> str:
            self.log.append((asyncio.get_running_loop().time(), dict(record)))
            raise structlog.DropEvent

        structlog.configure(
            processors=[note],
            wrapper_class=structlog.make_filtering_bound_logger("info"),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.reset_defaults()


def orders(count: int, prefix: str = "order", lot: str = PARK) -> Sequence[NewOrder]:
    return [NewOrder(OrderKey(lot, f"{prefix}-{number}")) for number in range(count)]


async def _nothing() -> None:
    return
