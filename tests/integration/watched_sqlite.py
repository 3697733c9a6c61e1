"""A SQLite store with a look at what is under it: its statements, its faults, its thread, what others read."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

from poller.core.orders import Order
from poller.ports import Recorded
from poller.stores.sqlite import SqliteStore
from tests.integration.store_engines import key, making

NO_LIMIT = 2**31 - 2


class FaultyConnection(sqlite3.Connection):
    """Fails every statement that begins with one of `fails`, as `code`."""

    fails: tuple[str, ...] = ()
    code = sqlite3.SQLITE_IOERR

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if sql.startswith(self.fails):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode, error.sqlite_errorname = self.code, "SQLITE_IOERR_FSYNC"
            raise error
        return super().execute(sql, parameters)


class Opened:
    """A store and the connection under it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "poller.db"
        self.connection: FaultyConnection
        self.told: list[str] = []
        self.store: SqliteStore

    async def open(self, *, inline: bool = False) -> SqliteStore:
        self.store = await SqliteStore.open(self.path, inline=inline, connect=self._connect)
        return self.store

    def _connect(self, path: Path) -> sqlite3.Connection:
        self.connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, factory=FaultyConnection
        )
        self.connection.set_trace_callback(self.told.append)
        return self.connection

    def on_disk(self, sql: str) -> list[Any]:
        """What another process reads now."""
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as reader:
            return reader.execute(sql).fetchall()


class BusyWriter:
    """Keeps the store's thread inside a transaction until `end`, so that what comes meanwhile waits."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._begun = asyncio.Event()
        self._end = threading.Event()

    async def begin(self) -> asyncio.Task[Recorded]:
        """Needs an order named `busy`."""
        loop = asyncio.get_running_loop()

        def wait(order: Order) -> None:
            loop.call_soon_threadsafe(self._begun.set)
            assert self._end.wait(30)

        busy = asyncio.create_task(self._store.change(key("busy"), wait, making("never")))
        await self._begun.wait()
        return busy

    def end(self) -> None:
        self._end.set()


async def started(*calls: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(call) for call in calls]
    await asyncio.sleep(0)
    return tasks
