"""One history: the daemon lives, crashes and lives again while the gate and the operators go on."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import structlog

from poller.core.cadence import Cadence
from poller.core.delivery import DeliveryState
from poller.core.orders import NewOrder, NotAllowedError, OrderKey, State
from poller.desk import Desk
from poller.engine import Engine, Settings
from poller.ports import Accepted, Known, StoreUnavailableError, UnknownOrderError
from tests.world.adapters import Clock, Platform, Receiver, Throttle
from tests.world.loop import Crash, VirtualLoop
from tests.world.storage import EMPTY, Disk, store_with_a_past
from tests.world.truth import PARK, Plan, Record, draw

CADENCE = Cadence(
    initial_delay=0.5,
    min_interval=1.0,
    age_fraction=0.2,
    max_interval=60.0,
    undecided_after=45.0,
    give_up_after=240.0,
)
PAST = store_with_a_past([20.0 + number / 8 for number in range(80)])  # so that young orders are asked rarely
GIVE_UP_DELIVERY_S = 7200.0
GATE_RETRY_S = 2.0  # an order that was not acknowledged is handed in again
SETTLED_AFTER_S = 900.0  # at most, after the plan and the last start, so that everything can end
LOOK_EVERY_S = 20.0
SLACK_S = 2.0


class History:
    """Runs a plan to its end; afterwards `record` and `final` are what the promises are held against."""

    slack = SLACK_S

    def __init__(self, seed: int) -> None:
        self.plan: Plan = draw(seed)
        self.record = Record()
        self.final: dict[OrderKey, State] = {}
        self.undelivered: list[str] = []
        self._dice = random.Random(seed + 1)
        self._points = 0
        self._crash_at: int | None = None
        self._now = 0.0
        learns = self.plan.queries_per_order is not None
        self._disk = Disk(self._dice, self._point, self._disk_is_full, PAST if learns else EMPTY)
        self._cadence = replace(CADENCE, queries_per_order=self.plan.queries_per_order)
        self._stops = list(self.plan.stops)
        self._waiting = dict(self.plan.arrivals)  # orders that the gate has yet to hand in
        self._operators = list(self.plan.operators)

    def run(self) -> None:
        """Live through the plan. What a loop of the daemon raises unexpectedly passes through."""
        crashes = list(self.plan.crashes)
        boot = 0.0
        while True:
            crash: tuple[int | None, bool, float] = crashes.pop(0) if crashes else (None, False, 1.0)
            self._points, (self._crash_at, power, down) = 0, crash
            if not self._live(boot, power=power):
                return
            self._now += down
            boot = self._now if power else boot  # a power cut starts the monotonic clock anew

    def _live(self, boot: float, *, power: bool) -> bool:
        """One life of the process; True where there is to be another."""
        self.record.ups.append([self._now, self._now])
        loop = VirtualLoop(self._now, self._point)
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(self._life(boot))
        except Crash:
            self._crash_at = None
            self._disk.crash(power=power)
            bury(loop)
            return True
        finally:
            self._now = self.record.ups[-1][1] = loop.time()
            loop.close()
            asyncio.set_event_loop(None)

    async def _life(self, boot: float) -> bool:
        store = self._disk.open()
        engine = Engine(
            store=store,
            platform=Platform(self.plan, self.record, self._dice, self._point),
            receiver=Receiver(self.plan, self.record, self._dice, self._point),
            throttle=Throttle(self.plan.rate),
            clock=Clock(self.plan, self._dice, boot),
            settings=Settings(self._cadence, (PARK,), 8, GIVE_UP_DELIVERY_S),
        )
        stop = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                running = group.create_task(engine.run(stop, _nothing))
                gate = group.create_task(self._hand_in(engine.desk))
                operators = group.create_task(self._operate(engine.desk))
                again = await self._until_stop(engine.desk)
                if not again:
                    await self._look(engine.desk)
                stop.set()
                await running
                gate.cancel()
                operators.cancel()
        finally:
            with suppress(StoreUnavailableError):  # the disk is full: what was only noted is asked again
                await store.close()
        return again

    async def _until_stop(self, desk: Desk) -> bool:
        loop = asyncio.get_running_loop()
        ends = max(self.plan.lasts, loop.time()) + SETTLED_AFTER_S
        if self._stops and self._stops[0] < ends:
            await asyncio.sleep(max(self._stops.pop(0) - loop.time(), 0.0))
            return True
        await asyncio.sleep(max(self.plan.lasts - loop.time(), 0.0))
        while loop.time() < ends:
            await asyncio.sleep(LOOK_EVERY_S)
            with suppress(StoreUnavailableError):
                pending = await desk.orders(State.PENDING, None, 1, None)
                if not (self._waiting or pending or await desk.deliveries(DeliveryState.PENDING, None, 1)):
                    break
        return False

    async def _hand_in(self, desk: Desk) -> None:
        """The gate: it hands each order in until it is acknowledged."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            key = min(self._waiting, key=lambda key: self._waiting[key])
            await asyncio.sleep(max(self._waiting[key] - loop.time(), 0.0))
            if key not in self._waiting:
                continue  # an operator was quicker
            self.record.handed_in.setdefault(key, loop.time())
            try:
                [answer] = await desk.submit([NewOrder(key, {"lane": key.pay_partner})])
            except StoreUnavailableError:
                self._waiting[key] = loop.time() + GATE_RETRY_S
                continue
            assert isinstance(answer, Accepted | Known), answer
            self._point()
            self.record.acknowledged.setdefault(key, loop.time())
            self._waiting.pop(key, None)

    async def _operate(self, desk: Desk) -> None:
        loop = asyncio.get_running_loop()
        while self._operators:
            at, what, key = self._operators[0]
            await asyncio.sleep(max(at - loop.time(), 0.0))
            self._operators.pop(0)
            try:
                await self._act(desk, what, key)
            except (UnknownOrderError, NotAllowedError, StoreUnavailableError):
                continue

    async def _act(self, desk: Desk, what: str, key: OrderKey) -> None:
        match what:
            case "cancel":
                self.record.cancel_asked.add(key)
                await desk.cancel(key)
                self.record.cancelled.add(key)
            case "poll":
                await desk.poll(key)
            case "reopen":
                self.record.reopened[key] += 1
                await desk.reopen(key)
            case "submit":
                self.record.handed_in.setdefault(key, asyncio.get_running_loop().time())
                await desk.submit([NewOrder(key, {"lane": key.pay_partner})])
                self.record.acknowledged.setdefault(key, asyncio.get_running_loop().time())
                self._waiting.pop(key, None)
            case "redeliver":
                for delivery in await desk.deliveries(None, key, 10):
                    await desk.redeliver(delivery.notice.event_id)

    async def _look(self, desk: Desk) -> None:
        """What the daemon says in the end."""
        for key in self.plan.fates:
            try:
                self.final[key] = (await desk.order(key)).state
            except UnknownOrderError:
                continue
        oldest_of: dict[OrderKey, str] = {}  # the others of its order wait for it
        for delivery in await desk.deliveries(None, None, 1000):  # newest first
            if delivery.state not in ("delivered", "dead"):
                oldest_of[delivery.notice.key] = delivery.notice.event_id
        self.undelivered = list(oldest_of.values())

    def _point(self) -> None:
        """A place where the process may die."""
        self._points += 1
        if self._points == self._crash_at:
            raise Crash

    def _disk_is_full(self) -> bool:
        now = asyncio.get_running_loop().time()
        return any(start <= now < end for start, end in self.plan.full_disk)

    def note_log(self, _logger: object, _method: str, record: structlog.typing.EventDict) -> str:
        """A structlog processor: what the log says is part of the record."""
        if "event_id" in record and record["event"].startswith("order."):
            self.record.logged[record["event_id"]] = record["event"]
        raise structlog.DropEvent


def run(seed: int, watch: Callable[[History], None] | None = None) -> History:
    """Live one history through; `watch` may look at it before it starts."""
    history = History(seed)
    structlog.configure(
        processors=[history.note_log],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=False,
    )
    if watch is not None:
        watch(history)
    history.run()
    return history


async def _nothing() -> None:
    return


def bury(loop: VirtualLoop) -> None:
    """End the tasks of a process that died; its disk is closed, so that what they still do reaches nobody."""
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        _close(task.get_coro())
    for generator in [*loop._asyncgens]:  # type: ignore[attr-defined]
        _close(generator.ag_await)  # which closing the task does not reach
    loop._ready.clear()  # type: ignore[attr-defined]
    loop._scheduled.clear()  # type: ignore[attr-defined]


def _close(coroutine: object) -> None:
    if inspect.iscoroutine(coroutine):
        for _ in range(20):  # each `finally` that awaits takes one more
            try:
                coroutine.close()
            except BaseException:
                continue
            break
