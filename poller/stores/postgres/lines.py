"""Connections, each opened when it is needed and dropped at the first fault. Every wait is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import asyncpg  # type: ignore[import-untyped]

from poller.stores.postgres.address import SCHEMA, Address
from poller.stores.postgres.connecting import Life, Servers
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.faults import fault_of

CONNECT_S = 5.0
STATEMENT_S = 8.0
LOCK_S = 4.0  # below the next, so that whoever waits for a stuck session lives to see it ended
IDLE_IN_TRANSACTION_S = 5.0  # a daemon paused inside a transaction keeps its locks no longer

SETTINGS = {
    "application_name": "poller",
    "search_path": SCHEMA,
    "timezone": "UTC",
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "statement_timeout": f"{STATEMENT_S * 1000:.0f}",
    "lock_timeout": f"{LOCK_S * 1000:.0f}",
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S * 1000:.0f}",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    # Each query walks an index in its order and looks the rest up row by row. With the statistics of tables
    # that fill and empty within minutes the planner would read and sort all of one now and then.
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}

CHANNEL = "SELECT left('poller ' || current_schema(), 63)"


def servers_of(address: Address) -> Servers:
    """For the lines of one store. Raises as `Servers` does."""
    return Servers(address, STATEMENT_S + 1.0)


class Line:
    """One connection for one user at a time."""

    def __init__(self, servers: Servers, *, greeting: str | None = None, **settings: str) -> None:
        """`greeting` is a statement that begins each connection."""
        self.life: Life | None = None  # of the server that it was connected to last
        self._servers = servers
        servers.on_new_life.append(self._leave)
        self._greeting = greeting
        self._heard: Callable[[str], None] | None = None
        self._settings = {**SETTINGS, **settings}
        if "search_path=" in servers.address.url:
            del self._settings["search_path"]
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None

    @asynccontextmanager
    async def use(self, seconds: float, *, greet: bool = True) -> AsyncIterator[Connection]:
        """The connection, for so many seconds at most, beside what connecting takes.

        Whatever leaves it but a StoreUnavailableError of the caller's own, the connection is dropped, and what
        was not committed with it. Raises StoreUnavailableError for every fault of the world's.
        """
        async with self._lock:
            try:
                connection = await self._open(greet=greet)
                async with asyncio.timeout(seconds):
                    yield connection
            except BaseException as error:
                fault = fault_of(error, self._servers.address.place)
                if fault is not error:
                    self.drop()
                if fault is None or fault is error:
                    raise
                raise fault from error

    async def listen(self, heard: Callable[[str], None]) -> None:
        """From now on tell what others say to the fleet, on this connection and those that follow it."""
        self._heard = heard
        if self._connection is not None:
            await self._listen(self._connection)

    async def _listen(self, connection: Connection) -> None:
        if self._heard is not None:
            await connection.add_listener(await connection.fetchval(CHANNEL), self._hear)

    def _hear(self, connection: Connection, pid: int, _channel: str, said: object) -> None:
        if self._heard is not None and pid != connection.get_server_pid():
            self._heard(str(said))

    def drop(self) -> None:
        """Let the connection go at once, whatever it is doing."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _leave(self, life: Life) -> None:
        """Drop what leads to a server that has ended, or that has been superseded."""
        if self.life != life:
            self.drop()

    async def close(self, seconds: float) -> None:
        """Say goodbye, or drop it where that takes too long."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await connection.close(timeout=seconds)  # it is dropped where this fails

    async def _open(self, *, greet: bool) -> Connection:
        if self._connection is not None and self._connection.is_closed():
            self._connection = None
        if self._connection is None:
            async with asyncio.timeout(CONNECT_S):
                self._connection, self.life = await self._servers.connect(CONNECT_S, self._settings)
                if self._greeting is not None and greet:
                    await self._connection.execute(self._greeting)
                await self._listen(self._connection)
        return self._connection


class Readers:
    """A few lines to read on."""

    def __init__(self, servers: Servers, count: int) -> None:
        self._all = [Line(servers, default_transaction_read_only="on") for _ in range(count)]
        self._idle = list(self._all)
        self._free = asyncio.Semaphore(count)

    @asynccontextmanager
    async def use(self, seconds: float) -> AsyncIterator[Connection]:
        """As `Line.use`; the line used last comes first."""
        async with self._free:
            line = self._idle.pop()
            try:
                async with line.use(seconds) as connection:
                    yield connection
            finally:
                self._idle.append(line)

    async def close(self, seconds: float) -> None:
        await asyncio.gather(*(line.close(seconds) for line in self._all))
