"""What lies between the daemons and PostgreSQL: ways that take time and are cut, and what each side does about it.

The times that PostgreSQL and the kernels go by are simulated: for how long a statement waits for a lock, a session
sits idle, a peer is silent.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable
from typing import Any

import asyncpg  # type: ignore[import-untyped]

from tests.world.fleet.plan import Place
from tests.world.fleet.processes import PROCESS, FleetLoop, Process
from tests.world.fleet.server import Backend, Server

KEEPALIVE_S = 11.0  # after which PostgreSQL finds out that a peer is silent, as the store's settings have it
AT_RISK_S = 10.0  # for so long at most one waits for the database to have something that is not on disk
CUT_SHORT = 0.5  # the chance that what is under way to a daemon in a crash had not been sent yet
TIMEOUTS = ("lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout")
_NOTIFY = re.compile(r"pg_notify\(.*, '(\w+)'\)")


class Network:
    """`connect` stands for the driver's. `loses_hints` is the chance that a daemon does not hear another one."""

    def __init__(
        self, loop: FleetLoop, server: Server, dice: random.Random, latency: float, loses_hints: float
    ) -> None:
        self.loop = loop
        self.server = server
        self.dice = dice
        self.is_down = False  # the database
        self.wires: list[Wire] = []
        self.waiting: dict[Backend, Callable[[], None]] = {}  # for a lock, and what to do when they have it
        self._latency = latency
        self._loses_hints = loses_hints
        self._at_risk: list[Callable[[], None]] = []
        self._stuck: list[tuple[Process, Callable[..., None], tuple[Any, ...]]] = []

    async def connect(
        self, _url: str, *, timeout: float, command_timeout: float, server_settings: dict[str, str], **_: object
    ) -> Wire:
        process = PROCESS.get()
        assert process is not None
        await process.step()
        wire = Wire(self, process, command_timeout, server_settings)
        try:
            async with asyncio.timeout(timeout):
                await wire.open()
        except BaseException:
            wire.terminate()
            raise
        return wire

    def carry(self, process: Process, not_before: float, deliver: Callable[..., None], *args: Any) -> float:
        """Take something to the other side; when it arrives, unless the way is cut: then once it is mended."""
        now = self.loop.time()
        arrives = max(now + self._latency * (0.5 + self.dice.random()), not_before)
        self.loop.outside(arrives - now, self._arrive, process, deliver, *args)
        return arrives

    def _arrive(self, process: Process, deliver: Callable[..., None], *args: Any) -> None:
        if process.cut:
            self._stuck.append((process, deliver, args))
        else:
            deliver(*args)

    def cut(self, process: Process) -> None:
        """Nothing goes to and fro any more."""
        process.cut = True
        self.loop.outside(KEEPALIVE_S, self._silent, process, [*self.wires])

    def mend(self, process: Process) -> None:
        process.cut = False
        stuck = [one for one in self._stuck if one[0] is process]
        self._stuck = [one for one in self._stuck if one[0] is not process]
        for _, deliver, args in stuck:
            deliver(*args)

    def _silent(self, process: Process, wires: list[Wire]) -> None:
        if process.cut:
            for wire in wires:
                if wire.process is process:
                    wire.end(asyncpg.ConnectionDoesNotExistError("connection timed out"))

    def died(self, process: Process) -> None:
        """The kernel closes what a process had open; what it had sent still arrives."""
        for wire in [*self.wires]:
            if wire.process is process:
                wire.terminate()

    def go_down(self) -> None:
        """The database is stopped: every connection ends."""
        self.is_down = True
        for wire in [*self.wires]:
            wire.end(asyncpg.AdminShutdownError("terminating connection due to administrator command"))

    def crash(self) -> None:
        """The database falls: what it was about to answer is not said, though it may be on disk."""
        self.is_down = True
        for wire in [*self.wires]:
            wire.is_cut_short = self.dice.random() < CUT_SHORT
            wire.end(asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"))
        self.server.crash(self.loop.time(), self.dice)

    def at_risk(self, strike: Callable[[], None]) -> None:
        """Do it once something has been committed that is not on disk yet."""
        self._at_risk.append(strike)
        self.loop.outside(AT_RISK_S, self._strike, strike)

    def _strike(self, strike: Callable[[], None]) -> None:
        if strike in self._at_risk:
            self._at_risk.remove(strike)
            strike()

    def committed(self) -> None:
        if self._at_risk and self.server.is_at_risk(self.loop.time()):
            self.loop.outside(self._latency * 3 * self.dice.random(), self._strike, self._at_risk[0])

    def come_up(self) -> None:
        """The database is started again."""
        self.is_down = False

    def tell(self, speaker: Wire, sql: str) -> None:
        """A notification reaches those that listen, but for those that lose it."""
        found = _NOTIFY.search(sql)
        if found is None:
            return
        for wire in [*self.wires]:
            if wire.is_listening and wire is not speaker and self.dice.random() >= self._loses_hints:
                self.carry(wire.process, 0.0, wire.notified, speaker.pid, found[1])

    def go_on(self) -> None:
        """Something was executed: who waited for its locks may have them."""
        if self.waiting:
            for backend in self.server.unblocked():
                self.waiting.pop(backend)()


class Wire:
    """One connection, as `poller.stores.postgres.lines.Connection` has it, and what PostgreSQL knows of it."""

    def __init__(
        self, network: Network, process: Process, command_timeout: float, settings: dict[str, str]
    ) -> None:
        self.process = process
        self.pid = 0
        self.is_listening = False
        self.is_cut_short = False
        self._network = network
        self._command_timeout = command_timeout
        self._limits = {name: float(settings.get(name, "inf")) / 1000 for name in TIMEOUTS}
        self._settings = {name: value for name, value in settings.items() if "timeout" not in name}
        self._closed = False
        self._left = False
        self._answer: asyncio.Future[Any] | None = None
        self._listener: Callable[..., None] = lambda *_: None
        self._there = self._here = 0.0  # when the last message arrives on either side
        self._backend: Backend | None = None
        self._gone = False  # the client, as PostgreSQL knows
        self._used = 0  # statements, to find out how long it was idle

    # The daemon's side.

    async def execute(self, query: str, *args: object) -> str:
        return str(await self._ask("execute", query, args))

    async def fetch(self, query: str, *args: object) -> list[Any]:
        rows: list[Any] = await self._ask("fetch", query, args)
        return rows

    async def fetchrow(self, query: str, *args: object) -> Any:
        return await self._ask("fetchrow", query, args)

    async def fetchval(self, query: str, *args: object) -> Any:
        return await self._ask("fetchval", query, args)

    def get_server_pid(self) -> int:
        return self.pid

    async def add_listener(self, _channel: str, callback: Callable[..., None]) -> None:
        self._listener = callback
        await self._ask("execute", "SELECT 'LISTEN'", ())
        self.is_listening = True

    def add_log_listener(self, callback: Callable[..., None]) -> None:
        """No commit of the world's waits for a standby, so nobody is warned."""

    def remove_log_listener(self, callback: Callable[..., None]) -> None: ...

    async def close(self, *, timeout: float) -> None:
        await self.process.step()
        self.terminate()

    def terminate(self) -> None:
        self._closed = True
        if not self._left:
            self._left = True
            self._there = self._network.carry(self.process, self._there, self._bye)

    def is_closed(self) -> bool:
        return self._closed

    async def open(self) -> None:
        await self._send(self._begin)

    async def _ask(self, method: str, sql: str, args: tuple[object, ...]) -> Any:
        await self.process.step(_place(sql))
        if self._closed:
            raise asyncpg.InterfaceError("connection is closed")
        if self._answer is not None:
            raise asyncpg.InterfaceError("cannot perform operation: another operation is in progress")
        async with asyncio.timeout(self._command_timeout):
            return await self._send(self._execute, method, sql, args)

    async def _send(self, arrive: Callable[..., None], *words: Any) -> Any:
        self._answer = answer = self._network.loop.create_future()
        self._there = self._network.carry(self.process, self._there, arrive, answer, *words)
        try:
            return await answer
        finally:
            self._answer = None

    def _answered(self, answer: asyncio.Future[Any], result: object) -> None:
        if answer.done():
            return
        if isinstance(result, BaseException):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    def _ended(self, error: BaseException) -> None:
        """PostgreSQL has closed the connection."""
        self._closed = True
        if self._answer is not None:
            self._answered(self._answer, error)

    def notified(self, pid: int, payload: str) -> None:
        """Somebody said something to the fleet."""
        self._network.loop.call_soon(self._listener, self, pid, "", payload, context=self.process.context.copy())

    # PostgreSQL's side.

    def _reply(self, answer: asyncio.Future[Any], result: object) -> None:
        self._here = self._network.carry(self.process, self._here, self._arrived, answer, result)

    def _arrived(self, answer: asyncio.Future[Any], result: object) -> None:
        if not self.is_cut_short:
            self._answered(answer, result)

    def _begin(self, answer: asyncio.Future[Any]) -> None:
        if self._network.is_down:
            self._reply(answer, ConnectionRefusedError("connection refused"))
            return
        self._backend = self._network.server.begin(self.process.name, self._settings)
        self.pid = self._backend.pid
        self._network.wires.append(self)
        self._reply(answer, None)
        self._rest()

    def _execute(self, answer: asyncio.Future[Any], method: str, sql: str, args: tuple[object, ...]) -> None:
        if self._backend is None:
            self._reply(answer, asyncpg.ConnectionDoesNotExistError("connection was closed"))
            return
        self._used += 1
        if self._network.server.execute(self._backend, method, sql, args, self._network.loop.time()):
            self._executed(answer, sql)
            return
        backend = self._backend
        self._network.waiting[backend] = lambda: self._executed(answer, sql)
        self._network.loop.outside(self._limits["lock_timeout"], self._waited, backend, answer, self._used)

    def _executed(self, answer: asyncio.Future[Any], sql: str) -> None:
        assert self._backend is not None
        assert self._backend.task is not None
        task, self._backend.task = self._backend.task, None
        error = task.exception()
        if error is None:
            self._network.tell(self, sql)
            if sql == "COMMIT":
                self._network.committed()
        self.process.hit(_place(sql))
        if self._gone:
            self._let_go()
        else:
            self._reply(answer, task.result() if error is None else error)
            self._rest()
        self._network.go_on()

    def _waited(self, backend: Backend, answer: asyncio.Future[Any], used: int) -> None:
        if self._used == used and backend in self._network.waiting:
            self._cancel(backend)
            self._reply(answer, asyncpg.LockNotAvailableError("canceling statement due to lock timeout"))
            self._rest()
            self._network.go_on()

    def _cancel(self, backend: Backend) -> None:
        self._network.waiting.pop(backend)
        self._network.server.cancel(backend)

    def _rest(self) -> None:
        """It is idle from now on."""
        assert self._backend is not None
        in_transaction = self._backend.in_transaction()
        name = "idle_in_transaction_session_timeout" if in_transaction else "idle_session_timeout"
        if self._limits[name] < float("inf"):
            self._used += 1
            self._network.loop.outside(self._limits[name], self._idled, self._used, in_transaction)

    def _idled(self, used: int, in_transaction: bool) -> None:
        if self._used == used:
            kind = (
                asyncpg.IdleInTransactionSessionTimeoutError if in_transaction else asyncpg.IdleSessionTimeoutError
            )
            self.end(kind("terminating connection due to a timeout"))

    def _bye(self) -> None:
        """The client has closed it. A statement that waits for a lock does not notice."""
        self._gone = True
        if self._backend is not None and self._backend not in self._network.waiting:
            self._let_go()
            self._network.go_on()

    def end(self, error: BaseException) -> None:
        """PostgreSQL closes it."""
        if self._backend is None:
            return
        if self._backend in self._network.waiting:
            self._cancel(self._backend)
        self._let_go()
        self._here = self._network.carry(self.process, self._here, self._ended, error)
        self._network.go_on()

    def _let_go(self) -> None:
        assert self._backend is not None
        backend, self._backend = self._backend, None
        self._used += 1
        self.is_listening = False
        self._network.wires.remove(self)
        self._network.server.end(backend)


def _place(sql: str) -> Place:
    if "UPDATE rates" in sql:
        return Place.RATE
    return Place.COMMIT if sql == "COMMIT" else Place.ANYWHERE
