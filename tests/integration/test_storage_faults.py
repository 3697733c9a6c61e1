"""Faults of the disk and of the file under a store in use, and how it is closed over them."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from poller.core.orders import Order
from poller.ports import Progress, StoreCorruptError, StoreUnavailableError
from poller.stores import KeptStore
from poller.stores.sqlite import SqliteStore
from tests.integration.store_engines import ALL, events, key, making, names, paid, take_on


class FailingConnection(sqlite3.Connection):
    """Every statement that begins with `fails` fails as `code`, after which it is undone, as SQLite does it."""

    fails = "none"
    code = sqlite3.SQLITE_IOERR_FSYNC
    told: list[str]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self.told.append(sql)
        if sql.startswith(self.fails):
            error = sqlite3.OperationalError("it failed")
            error.sqlite_errorcode, error.sqlite_errorname = self.code, "SQLITE_IOERR_FSYNC"
            raise error
        return super().execute(sql, parameters)


class Disk:
    """A store, and the connection under it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "poller.db"
        self.connection: FailingConnection
        self.store: SqliteStore

    async def open(self) -> SqliteStore:
        self.store = await SqliteStore.open(self.path, connect=self._connect)
        self.connection.told.clear()
        return self.store

    def _connect(self, path: Path) -> sqlite3.Connection:
        self.connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, factory=FailingConnection
        )
        self.connection.told = []
        return self.connection

    def numbers(self) -> list[str]:
        """What another process reads now."""
        with closing(sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)) as reader:
            return [number for (number,) in reader.execute("SELECT pay_partner FROM orders ORDER BY id")]


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    disk = Disk(tmp_path)
    await disk.open()
    yield disk
    disk.connection.fails = "none"
    await disk.store.close()


async def test_after_a_failed_sync_nothing_is_acknowledged_before_all_of_the_log_is_in_the_file(
    disk: Disk,
) -> None:
    """The kernel forgets what it could not sync, and a later sync of the log says nothing of it."""
    store = disk.store
    await take_on(store, "a")
    assert not any("wal_checkpoint" in sql for sql in disk.connection.told)
    disk.connection.fails = "COMMIT"
    with pytest.raises(StoreUnavailableError, match="SQLITE_IOERR_FSYNC"):
        await take_on(store, "b")
    disk.connection.fails = "PRAGMA wal_checkpoint"
    with pytest.raises(StoreUnavailableError, match="SQLITE_IOERR_FSYNC"):
        await take_on(store, "b")
    assert (await store.get(key("a"))) is not None
    disk.connection.fails = "none"
    disk.connection.told.clear()
    await take_on(store, "b")
    await take_on(store, "c")
    steps = [sql for sql in disk.connection.told if sql.startswith(("PRAGMA wal_checkpoint", "COMMIT"))]
    assert steps == ["PRAGMA wal_checkpoint(TRUNCATE)", "COMMIT", "COMMIT"]
    assert disk.numbers() == ["a", "b", "c"]


async def test_a_reader_that_keeps_the_log_from_being_emptied_is_named(disk: Disk) -> None:
    store = disk.store
    await take_on(store, "a")
    disk.connection.fails = "COMMIT"
    with pytest.raises(StoreUnavailableError):
        await take_on(store, "b")
    disk.connection.fails = "none"
    disk.connection.execute("PRAGMA busy_timeout = 0")
    with closing(sqlite3.connect(f"{disk.path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT 1 FROM orders").fetchall()
        with pytest.raises(StoreUnavailableError, match="let the backup or other reader end"):
            await take_on(store, "b")
    assert names(await take_on(store, "b")) == ["b"]


async def test_a_store_that_can_only_be_read_says_so_and_goes_on_once_it_can_be_written(disk: Disk) -> None:
    store = disk.store
    await take_on(store, "a")
    disk.connection.execute("PRAGMA query_only = ON")
    for call in (lambda: take_on(store, "b"), lambda: store.change(key("a"), paid, making("e1"))):
        with pytest.raises(StoreUnavailableError, match=r"cannot be written.*mounted read-only"):
            await call()
    disk.connection.execute("PRAGMA query_only = OFF")
    await store.change(key("a"), paid, making("e2"))
    assert events(await store.deliveries(None, None, 10)) == ["e2"]
    assert disk.numbers() == ["a"]


@pytest.mark.parametrize("leave", [Path.unlink, lambda path: path.rename(path.with_name("away"))])
async def test_what_goes_to_a_file_that_nobody_will_find_again_is_not_acknowledged(
    disk: Disk, leave: Callable[[Path], object]
) -> None:
    await take_on(disk.store, "a")
    leave(disk.path)
    with pytest.raises(StoreUnavailableError, match="moved or removed while in use"):
        await take_on(disk.store, "b")
    disk.path.write_bytes(b"")
    with pytest.raises(StoreUnavailableError, match="moved or removed while in use"):
        await disk.store.change(key("a"), paid, making("e1"))
    assert names(await disk.store.claim(ALL, 10)) == []
    assert await disk.store.delivery("e1") is None


async def test_once_the_file_was_found_malformed_every_call_says_so(disk: Disk) -> None:
    """Whoever meets it first, even what is written behind, whose callers are told nothing."""
    store: KeptStore = disk.store
    [a] = await take_on(store, "a")
    store.check()
    store.note(Progress(a.id, None, 9.0, 0))
    disk.connection.fails, disk.connection.code = "UPDATE schedule", sqlite3.SQLITE_CORRUPT
    with pytest.raises(StoreCorruptError, match="restore a backup"):
        await store.flush()
    disk.connection.fails = "none"
    with pytest.raises(StoreCorruptError, match="restore a backup"):
        store.check()
    for call in (lambda: take_on(store, "b"), lambda: store.claim(ALL, 10), lambda: store.get(key("a"))):
        with pytest.raises(StoreCorruptError, match="restore a backup"):
            await call()
    await store.close()
    assert disk.numbers() == ["a"]


class LeapingLoop(asyncio.SelectorEventLoop):
    """A loop whose time can be moved on."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


async def leap(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LeapingLoop)
    loop.ahead += seconds
    for _ in range(3):
        await asyncio.sleep(0)


def in_leaping_time(steps: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(steps())


def test_closing_over_a_disk_that_does_not_answer_is_given_up_after_ten_seconds(tmp_path: Path) -> None:
    """And once the disk is back, everything is written and the store is free all the same."""
    disk, answers = Disk(tmp_path), threading.Event()

    async def steps() -> None:
        store = await disk.open()
        [a] = await take_on(store, "a")
        loop, stuck = asyncio.get_running_loop(), asyncio.Event()

        def wait(order: Order) -> None:
            loop.call_soon_threadsafe(stuck.set)
            assert answers.wait(30)

        change = asyncio.create_task(store.change(key("a"), wait, making("e1")))
        await stuck.wait()
        store.note(Progress(a.id, None, 77.0, 0))
        close = asyncio.create_task(store.close())
        await asyncio.sleep(0)
        await leap(9.9)
        assert not close.done()
        await leap(0.2)
        with pytest.raises(StoreUnavailableError, match=r"poller\.db could not be closed.*for 10 s"):
            await close
        answers.set()
        await change
        after = await SqliteStore.open(disk.path, lock_wait=30.0)
        [pending] = await after.claim(ALL, 10)
        assert pending.due == 77.0
        await after.close()

    in_leaping_time(steps)


def test_what_closing_met_is_told_and_the_store_is_free(tmp_path: Path) -> None:
    disk = Disk(tmp_path)

    async def steps() -> None:
        store = await disk.open()
        await take_on(store, "a")
        disk.connection.fails = "PRAGMA wal_checkpoint"
        with pytest.raises(StoreUnavailableError, match="SQLITE_IOERR_FSYNC"):
            await store.close()
        again = await SqliteStore.open(disk.path, lock_wait=0.0)
        assert names(await again.claim(ALL, 10)) == ["a"]
        await again.close()

    in_leaping_time(steps)
