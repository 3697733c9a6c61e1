"""One history of a fleet: daemons join, leave, freeze, are cut off and die while gate and operators go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]
import pytest
import structlog

from poller.core.delivery import DeliveryState
from poller.core.orders import NewOrder, NotAllowedError, OrderKey, State
from poller.desk import Desk
from poller.ports import Accepted, Known, StoreUnavailableError, UnknownOrderError
from poller.stores.postgres import engine, fleet, heartbeat, horizon, lane, overview, rate, session
from tests.world.adapters import EPOCH
from tests.world.fleet.members import Member
from tests.world.fleet.network import AT_RISK_S, Network
from tests.world.fleet.outside import Flight, Ground
from tests.world.fleet.plan import OF_THE_DATABASE, Blow, Fault, FleetPlan, Place, draw_fleet
from tests.world.fleet.processes import PROCESS, FleetLoop, Process, clock, leaps
from tests.world.fleet.server import Server
from tests.world.history import bury
from tests.world.truth import Plan, Record

CLIENT_S = 5.0  # for so long the gate and the operators wait for an answer
GATE_RETRY_S = 0.5
RECOVERY_S = 30.0 + AT_RISK_S  # after the last fault the fleet goes on for at least so long
LOOK_EVERY_S = 5.0
SLACK_S = 2.0  # ages compare across daemons within the second between two heartbeats

TRUTH = (
    "SELECT (SELECT count(*) FROM orders WHERE state = 'pending'), "
    "(SELECT count(*) FROM orders WHERE state = 'pending' AND undecided_at IS NOT NULL), "
    "(SELECT count(*) FROM deliveries WHERE state = 'pending'), "
    "(SELECT count(*) FROM deliveries WHERE state = 'dead')"
)
HELD_BY_NOBODY = (
    "SELECT holder FROM (SELECT holder FROM schedule UNION ALL SELECT holder FROM deliveries) h "
    "WHERE holder IS NOT NULL AND holder NOT IN (SELECT id FROM sessions)"
)
ENDS = (
    "SELECT o.pay_partner, e.writer, e.holder, e.dead FROM fleet.ends e JOIN orders o ON o.id = e.order_id "
    "ORDER BY e.n"
)

T = TypeVar("T")


class UnansweredError(Exception):
    """No daemon has answered in time."""


class FleetHistory:
    """Runs a plan to its end; afterwards the rest is what the promises are held against."""

    def __init__(self, seed: int, server: Server, plan: FleetPlan | None = None) -> None:
        self.fleet: FleetPlan = plan or draw_fleet(seed)
        self.plan: Plan = self.fleet.world
        self.record = Record()
        self.final: dict[OrderKey, State] = {}
        self.undelivered: list[str] = []
        self.flights: list[Flight] = []
        self.members: list[Member] = []
        self.ends: list[Any] = []  # as `ENDS` has them
        self.held_by_nobody: list[Any] = []
        self.ended_at = 0.0
        self.counts: list[int] = []  # as the fleet has them, and as they are
        self.truth: list[int] = []
        self._server = server
        self._dice = random.Random(seed + 1)
        self._ids = random.Random(seed + 2)
        self._waiting = dict(self.plan.arrivals)  # orders that the gate has yet to hand in
        self._operators = list(self.plan.operators)

    def run(self) -> None:
        """Live through the plan. What a daemon raises unexpectedly passes through."""
        self._server.clean()
        loop = FleetLoop()
        network = Network(loop, self._server, self._dice, self.fleet.latency, self.fleet.loses_hints)
        ground = Ground(loop, network, self.plan, self.record, self._dice, self.flights)
        self.members = [
            Member(ground, number, boot, steps)
            for number, (boot, steps) in enumerate(zip(self.fleet.boots, self.fleet.wall_steps, strict=True))
        ]
        asyncio.set_event_loop(loop)
        try:
            with self._simulated(network):
                loop.run_until_complete(self._live(ground))
                self._look_at_the_store(loop, network)
            if loop.defects:
                raise loop.defects[0]
        finally:
            bury(loop)
            loop.close()
            asyncio.set_event_loop(None)

    @contextmanager
    def _simulated(self, network: Network) -> Iterator[None]:
        """The store goes by the world's time and dice, and reaches PostgreSQL by the world's network."""

        def draw_session(bits: int) -> int:
            process, number = PROCESS.get(), self._ids.getrandbits(bits)
            assert process is not None
            process.sessions.add(number + 1)
            return number

        def wall(_zone: object) -> Any:
            return EPOCH

        with pytest.MonkeyPatch.context() as patch:
            for module in (fleet, heartbeat, horizon, lane, rate, session):
                patch.setattr(module, "time", SimpleNamespace(monotonic=clock))
            patch.setattr(session, "secrets", SimpleNamespace(randbits=draw_session))
            patch.setattr(rate, "random", SimpleNamespace(random=self._dice.random))
            patch.setattr(engine, "datetime", SimpleNamespace(now=wall))
            patch.setattr(asyncpg, "connect", network.connect)
            yield

    async def _live(self, ground: Ground) -> None:
        async with asyncio.TaskGroup() as group:
            for member, joins in zip(self.members, self.fleet.joins, strict=True):
                group.create_task(member.run(joins))
            others = [
                group.create_task(self._strike(ground)),
                group.create_task(self._hand_in()),
                group.create_task(self._operate()),
            ]
            await self._until_settled()
            await self._look()
            for other in others:
                other.cancel()
            for member in self.members:
                member.leave()

    async def _strike(self, ground: Ground) -> None:
        for fault in self.fleet.faults:
            await asyncio.sleep(max(fault.at - ground.loop.time(), 0.0))
            if fault.blow is Blow.CRASH_DATABASE and fault.place is not Place.ANYWHERE:
                ground.network.at_risk(partial(self._strike_the_database, ground, fault))
            elif fault.blow in OF_THE_DATABASE:
                ground.loop.outside(0.0, self._strike_the_database, ground, fault)
            else:
                self.members[fault.daemon].strike(fault)

    def _strike_the_database(self, ground: Ground, fault: Fault) -> None:
        for member in self.members:
            if member.process is not None:
                member.process.struck.append((ground.loop.time(), fault))
        if fault.blow is Blow.CRASH_DATABASE:
            ground.network.crash()
        else:
            ground.network.go_down()
        ground.loop.outside(fault.seconds, ground.network.come_up)

    async def _until_settled(self) -> None:
        loop = asyncio.get_running_loop()
        recovered = max((fault.at + fault.seconds + RECOVERY_S for fault in self.fleet.faults), default=0.0)
        until = max(self.plan.lasts, recovered)
        await asyncio.sleep(until)
        while loop.time() < until + self.fleet.patience:
            if await self._is_settled():
                break
            await asyncio.sleep(LOOK_EVERY_S)

    async def _is_settled(self) -> bool:
        try:
            orders = await self._ask(lambda desk: desk.orders(State.PENDING, None, 1, None))
            notices = await self._ask(lambda desk: desk.deliveries(DeliveryState.PENDING, None, 1))
        except (StoreUnavailableError, UnansweredError):
            return False
        return not (self._waiting or orders or notices)

    async def _ask(self, call: Callable[[Desk], Awaitable[T]]) -> T:
        """Have one of the daemons do something, as a client over HTTP does."""
        open_now = [member for member in self.members if member.desk is not None and member.process is not None]
        if not open_now:
            await asyncio.sleep(GATE_RETRY_S)
            raise UnansweredError
        member = self._dice.choice(open_now)
        assert member.desk is not None
        assert member.process is not None
        answering = asyncio.get_running_loop().create_task(
            _call(call, member.desk), context=member.process.context.copy()
        )
        done, _ = await asyncio.wait([answering], timeout=CLIENT_S)
        if not done:
            answering.add_done_callback(_forget)
            raise UnansweredError
        return answering.result()

    async def _ask_again(self, call: Callable[[Desk], Awaitable[T]]) -> T:
        """As `_ask`, of another one where that one is still away, or finds out that it was."""
        until = asyncio.get_running_loop().time() + self.fleet.patience
        while True:
            try:
                return await self._ask(call)
            except (StoreUnavailableError, UnansweredError):
                if asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(GATE_RETRY_S)

    async def _hand_in(self) -> None:
        """The gate: it hands each order in, to whichever daemon, until it is acknowledged."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            key = min(self._waiting, key=lambda key: self._waiting[key])
            await asyncio.sleep(max(self._waiting[key] - loop.time(), 0.0))
            if key in self._waiting and not await self._submit(key):
                self._waiting[key] = loop.time() + GATE_RETRY_S

    async def _submit(self, key: OrderKey) -> bool:
        self.record.handed_in.setdefault(key, asyncio.get_running_loop().time())
        try:
            [answer] = await self._ask(lambda desk: desk.submit([NewOrder(key, {"lane": key.pay_partner})]))
        except (StoreUnavailableError, UnansweredError):
            return False
        assert isinstance(answer, Accepted | Known), answer
        self.record.acknowledged.setdefault(key, asyncio.get_running_loop().time())
        self._waiting.pop(key, None)
        return True

    async def _operate(self) -> None:
        loop = asyncio.get_running_loop()
        for at, what, key in self._operators:
            await asyncio.sleep(max(at - loop.time(), 0.0))
            with suppress(UnknownOrderError, NotAllowedError, StoreUnavailableError, UnansweredError):
                await self._act(what, key)

    async def _act(self, what: str, key: OrderKey) -> None:
        match what:
            case "cancel":
                self.record.cancel_asked.add(key)
                await self._ask(lambda desk: desk.cancel(key))
                self.record.cancelled.add(key)
            case "poll":
                await self._ask(lambda desk: desk.poll(key))
            case "reopen":
                self.record.reopened[key] += 1
                await self._ask(lambda desk: desk.reopen(key))
            case "submit":
                await self._submit(key)
            case "redeliver":
                for delivery in await self._ask(lambda desk: desk.deliveries(None, key, 10)):
                    event_id = delivery.notice.event_id
                    await self._ask(lambda desk, event_id=event_id: desk.redeliver(event_id))  # type: ignore[misc]

    async def _look(self) -> None:
        """What the fleet says in the end."""
        for key in self.plan.fates:
            with suppress(UnknownOrderError):
                order = await self._ask_again(lambda desk, key=key: desk.order(key))  # type: ignore[misc]
                self.final[key] = order.state
        oldest_of: dict[OrderKey, str] = {}  # the others of its order wait for it
        for delivery in await self._ask_again(lambda desk: desk.deliveries(None, None, 1000)):  # newest first
            if delivery.state not in ("delivered", "dead"):
                oldest_of[delivery.notice.key] = delivery.notice.event_id
        self.undelivered = list(oldest_of.values())
        self.ended_at = asyncio.get_running_loop().time()

    def _look_at_the_store(self, loop: FleetLoop, network: Network) -> None:
        """What stands once all have left."""
        for process in self.lives():
            self.record.ups.append([process.born, loop.time() if process.died is None else process.died])
        self.record.ups = _union(self.record.ups)
        self.record.ups[-1][1] = self.ended_at
        self.ends = self._server.look(ENDS)
        self.held_by_nobody = self._server.look(HELD_BY_NOBODY)
        self.counts = [*self._server.look(overview.COUNTS)[0]][:4]
        self.truth = [*self._server.look(TRUTH)[0]]
        network.go_down()

    @property
    def slack(self) -> float:
        """By how much, in seconds, ages may be wrong."""
        return SLACK_S + leaps(self.lives())

    def lives(self) -> list[Process]:
        """All processes that there were."""
        return [process for member in self.members for process in member.lives]

    def note_log(self, _logger: object, _method: str, record: structlog.typing.EventDict) -> str:
        """A structlog processor: what the log says is part of the record."""
        if "event_id" in record and record["event"].startswith("order."):
            self.record.logged[record["event_id"]] = record["event"]
        raise structlog.DropEvent


def run_fleet(seed: int, server: Server, plan: FleetPlan | None = None) -> FleetHistory:
    """Live one history through; `plan` is another one than the seed's own."""
    history = FleetHistory(seed, server, plan)
    structlog.configure(
        processors=[history.note_log],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        cache_logger_on_first_use=False,
    )
    history.run()
    return history


async def _call(call: Callable[[Desk], Awaitable[T]], desk: Desk) -> T:
    return await call(desk)


def _forget(answering: asyncio.Task[Any]) -> None:
    if not answering.cancelled():
        answering.exception()  # nobody waits for it any more


def _union(spans: list[list[float]]) -> list[list[float]]:
    joined: list[list[float]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], end)
        else:
            joined.append([start, end])
    return joined
