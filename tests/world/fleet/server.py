"""PostgreSQL in lockstep with the simulated world: it executes while the world's clock stands still."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]

from poller.stores.postgres import migration, schema
from tests.world.fleet import crashes

SCHEMA = "fleet"
DEADLOCK_S = 0.02  # after which PostgreSQL finds one
LOOK_S = 0.005

# The store asks for PostgreSQL's clock by a bare name; in the world's schema, which comes first, it is simulated.
# `ends` notes, as it happens, by whom an order is ended, and in whose name it was held.
_WORLD = """
CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS $$ SELECT to_timestamp(current_setting('world.now')::float8) $$;
CREATE TABLE ends (
    n bigint GENERATED ALWAYS AS IDENTITY, order_id bigint, writer text, holder bigint, dead boolean
);
CREATE FUNCTION note_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO fleet.ends (order_id, writer, holder, dead)
        SELECT OLD.order_id, current_setting('application_name'), OLD.holder,
            (SELECT s.dead FROM fleet.sessions s WHERE s.id = OLD.holder);
    RETURN OLD; END $$;
CREATE TRIGGER note_end BEFORE DELETE ON schedule FOR EACH ROW EXECUTE FUNCTION note_end();
"""
_CLEAN = (
    "TRUNCATE orders, schedule, history, deliveries, sessions, errands, outages, rates, ends RESTART IDENTITY; "
    f"{schema.LEFT_BEHIND}; {crashes.CLEAN}"
)
_TABLES = (
    "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1 "
    "WHERE c.relkind = 'r'"
)
_BLOCKED = "SELECT cardinality(pg_blocking_pids($1)) > 0"

T = TypeVar("T")
_connect = asyncpg.connect  # the driver's own, which the world puts its network in front of


@dataclass(eq=False, slots=True)
class Backend:
    """A connection to PostgreSQL; `settings` it was made with, `task` is the statement that is being executed."""

    connection: Any
    pid: int
    settings: tuple[tuple[str, str], ...]
    task: asyncio.Task[Any] | None = None

    def in_transaction(self) -> bool:
        return bool(self.connection.is_in_transaction())


class Server:
    """Call it from the world's loop, from a callback that is no task's; its own loop runs only within a call."""

    def __init__(self, url: str) -> None:
        """`url` is a database of the world's own."""
        self._url = f"{url}?search_path={SCHEMA},pg_catalog"
        self._loop = asyncio.new_event_loop()
        self._idle: list[Backend] = []
        self._blocked: list[Backend] = []
        self._awaited: asyncio.Task[Any] | None = None
        self._monitor = self.run(_connect(self._url))
        self.run(self._prepare())

    @property
    def url(self) -> str:
        """Of the store."""
        return self._url

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Have something done while the world stands still."""
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        try:
            return self._loop.run_until_complete(coroutine)
        finally:
            asyncio._set_running_loop(outer)

    async def _prepare(self) -> None:
        """An empty store; autovacuum would come in at moments of its own."""
        await self._monitor.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        await migration.migrate(self._monitor, "the world", 0.0)
        for (table,) in await self._monitor.fetch(_TABLES, SCHEMA):
            await self._monitor.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")
        await self._monitor.execute(f"{_WORLD} {crashes.DEFINITIONS}")
        for table in schema.TABLES:
            await self._monitor.execute(crashes.WATCH.format(table=table))

    def clean(self) -> None:
        """Empty the store for the next history."""
        self.run(self._monitor.execute(_CLEAN))

    def look(self, sql: str, *args: object) -> list[Any]:
        """Read what stands, beside all daemons."""
        found: list[Any] = self.run(self._monitor.fetch(sql, *args))
        return found

    def is_at_risk(self, now: float) -> bool:
        """Whether something was committed that is not on disk yet."""
        return bool(self._unsure(now))

    def _unsure(self, now: float) -> list[int]:
        return [since for (since,) in self.look(crashes.UNSURE, now - crashes.WRITTEN_S)]

    def crash(self, now: float, dice: random.Random) -> None:
        """Begin another life, once all backends have ended: what was not on disk may be forgotten."""
        unsure = self._unsure(now)
        forgotten = dice.randint(0, len(unsure))
        if forgotten:
            self.look(crashes.FORGET, unsure[-forgotten])
        self.run(self._monitor.execute(crashes.NEXT_LIFE))

    def begin(self, name: str, settings: dict[str, str]) -> Backend:
        """A backend for a daemon's new connection; `name` is whose."""
        key = tuple(sorted(settings.items()))
        for backend in self._idle:
            if backend.settings == key:
                self._idle.remove(backend)
                break
        else:
            connection = self.run(
                _connect(self._url, server_settings={**settings, "deadlock_timeout": f"{DEADLOCK_S * 1000:.0f}"})
            )
            backend = Backend(connection, connection.get_server_pid(), key)
        self.run(backend.connection.execute(f"SET application_name = '{name}'; SET world.now = 0"))
        return backend

    def end(self, backend: Backend) -> None:
        """Its client is gone: what was not committed is undone, and what it locked is free."""
        self.run(self._end(backend))
        self._idle.append(backend)

    async def _end(self, backend: Backend) -> None:
        if backend.in_transaction():
            await backend.connection.execute("ROLLBACK")
        await backend.connection.execute("SELECT pg_advisory_unlock_all()")

    def execute(self, backend: Backend, method: str, sql: str, args: tuple[object, ...], now: float) -> bool:
        """Execute a statement; False where it waits for a lock, which `unblocked` tells the end of."""
        if "clock_timestamp" in sql or sql == "COMMIT":
            self.run(backend.connection.execute(f"SELECT set_config('world.now', '{now!r}', false)"))
        backend.task = self._loop.create_task(getattr(backend.connection, method)(sql, *args))
        if self._settle(backend):
            return True
        self._blocked.append(backend)
        return False

    def unblocked(self) -> list[Backend]:
        """Those whose statements waited for a lock and have ended since, in the order in which they came."""
        ended: list[Backend] = []
        while now := [backend for backend in self._blocked if self._settle(backend)]:
            ended += now
            self._blocked = [backend for backend in self._blocked if backend not in now]
        return ended

    def cancel(self, backend: Backend) -> None:
        """Cancel a statement that waits for a lock."""
        self.run(self._monitor.execute("SELECT pg_cancel_backend($1)", backend.pid))
        assert backend.task is not None
        self.run(_ended(backend.task))
        backend.task.exception()
        backend.task = None
        self._blocked.remove(backend)

    def _settle(self, backend: Backend) -> bool:
        """Wait until the statement has ended, or is blocked for good: a deadlock would have been found."""
        assert backend.task is not None
        since = self._loop.time()
        while not self._ends_soon(backend.task):
            if self._loop.time() - since > 2 * DEADLOCK_S and self.look(_BLOCKED, backend.pid)[0][0]:
                return backend.task.done()
        return True

    def _ends_soon(self, task: asyncio.Task[Any]) -> bool:
        """Run until it has ended, for a moment at most: with no more turns of the loop than that takes."""
        if task.done():
            return True
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(None)
        self._awaited = task
        timer = self._loop.call_later(LOOK_S, self._stop, task)
        task.add_done_callback(self._stop)
        try:
            self._loop.run_forever()
        finally:
            self._awaited = None
            task.remove_done_callback(self._stop)
            timer.cancel()
            asyncio._set_running_loop(outer)
        return task.done()

    def _stop(self, task: asyncio.Task[Any]) -> None:
        if self._awaited is task:  # or it comes too late: the timer was quicker
            self._loop.stop()

    def close(self) -> None:
        for backend in (*self._idle, *self._blocked):
            backend.connection.terminate()
        self._monitor.terminate()
        self.run(asyncio.sleep(0))
        self._loop.close()


async def _ended(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])
