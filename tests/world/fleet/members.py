"""The daemons of a fleet: each lives, is struck, and lives again."""

from __future__ import annotations

import asyncio
import traceback
from contextlib import suppress
from dataclasses import replace

from poller.desk import Desk
from poller.engine import Engine, Settings
from poller.liveness import StalledError
from poller.ports import StoreUnavailableError
from poller.stores.postgres import PostgresStore
from tests.world.adapters import Clock
from tests.world.fleet.outside import FleetPlatform, FleetReceiver, Ground
from tests.world.fleet.plan import Blow, Fault
from tests.world.fleet.processes import Fuse, Process
from tests.world.history import CADENCE, GIVE_UP_DELIVERY_S
from tests.world.truth import PARK

AGAIN_S = 1.0  # after which a daemon is started that could not open its store, or gave up


class Member:
    """A place in the fleet: a machine and the daemon on it, under one name through all its lives."""

    def __init__(self, ground: Ground, number: int, boot: float, wall_steps: list[tuple[float, float]]) -> None:
        self.desk: Desk | None = None
        self.process: Process | None = None  # the one that lives
        self.lives: list[Process] = []
        self._ground = ground
        self._number = number
        self._boot = boot
        self._plan = replace(ground.plan, wall_steps=wall_steps)
        self._over = asyncio.Event()
        self._stop = asyncio.Event()
        self._away = AGAIN_S
        self._leaving = False

    def leave(self) -> None:
        """Drain it for good."""
        self._leaving = True
        self._stop.set()

    async def run(self, joins: float) -> None:
        """Runs until `leave`. Raises what a daemon died of but should not have."""
        await asyncio.sleep(joins)
        while not self._leaving:
            self._away = AGAIN_S
            await self._live()
            if not self._leaving:
                await asyncio.sleep(self._away)

    async def _live(self) -> None:
        loop, self._over, self._stop = self._ground.loop, asyncio.Event(), asyncio.Event()
        process = self.process = Process(f"daemon-{self._number}.{len(self.lives)}", self._boot)
        process.born = loop.time()
        self.lives.append(process)
        life = loop.create_task(self._life(process, self._stop), context=process.context.copy())
        life.add_done_callback(lambda _: self._over.set(), context=loop.world)
        await self._over.wait()
        self.process = self.desk = None
        process.died = loop.time()
        if life.done():
            life.result()

    async def _life(self, process: Process, stop: asyncio.Event) -> None:
        ground = self._ground
        try:
            store = await PostgresStore.open(ground.network.server.url, name=f"daemon-{self._number}")
        except StoreUnavailableError:
            return
        try:
            engine = Engine(
                store=store,
                platform=FleetPlatform(ground),
                receiver=FleetReceiver(ground),
                throttle=store.fleet().throttle("the platform", ground.plan.rate),
                clock=Clock(self._plan, ground.dice, self._boot),
                settings=Settings(
                    replace(CADENCE, queries_per_order=ground.plan.queries_per_order),
                    (PARK,),
                    8,
                    GIVE_UP_DELIVERY_S,
                ),
            )
            self.desk = engine.desk
            await engine.run(stop, self._close_doors)
        except BaseExceptionGroup as group:
            # Frozen for so long that its loops seem stuck: it ends, and systemd starts it again.
            if not process.struck or group.split(StalledError)[1] is not None:
                raise
        finally:
            if not process.dead:
                with suppress(StoreUnavailableError):
                    await store.close()

    async def _close_doors(self) -> None:
        self.desk = None

    # What befalls it.

    def strike(self, fault: Fault) -> None:
        """Hit it, now or a few steps from now, unless something has already."""
        process = self.process
        if process is None or process.frozen or process.cut or process.fuse is not None or self._leaving:
            return
        process.fuse = Fuse(fault.place, fault.steps, lambda: self._hit(process, fault))

    def _hit(self, process: Process, fault: Fault) -> None:
        loop, network = self._ground.loop, self._ground.network
        if process is not self.process or process.dead:
            return
        process.struck.append((loop.time(), fault))
        match fault.blow:
            case Blow.KILL:
                process.dead = True
                self._away = fault.seconds
                network.died(process)
                self._over.set()
            case Blow.FREEZE:
                process.frozen = True
                loop.outside(fault.seconds, loop.thaw, process)
            case Blow.CUT:
                network.cut(process)
                loop.outside(fault.seconds, network.mend, process)
            case Blow.LEAVE:
                self._away = fault.seconds
                self._stop.set()
            case Blow.STOP_DATABASE | Blow.CRASH_DATABASE:
                raise AssertionError("that is not a daemon")


def last_words(error: BaseException) -> str:
    """A defect, as a broken promise."""
    return "".join(traceback.format_exception(error))
