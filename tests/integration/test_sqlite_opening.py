"""The file of a SQLite store: who may have it, what is refused, and how its queries find rows."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest

from poller.core.delivery import DeliveryState
from poller.core.orders import Answer, State, mark_undecided
from poller.ports import (
    Attempt,
    Progress,
    StoreCorruptError,
    StoreHeldError,
    StoreTooNewError,
    StoreUnavailableError,
)
from poller.ports.records import Ending, Since
from poller.stores import open_store, sqlite_path
from poller.stores.sqlite import SqliteStore
from tests.integration.store_engines import ALL, AT, LOT, give_back, key, making, names, paid, take_on

HOLDER = """
import asyncio, sys
from pathlib import Path
from poller.stores.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    print("held", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "poller.db"


@asynccontextmanager
async def another_daemon(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that holds the store until its standard input ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", HOLDER, str(path)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.stdin.close()
        await process.wait()


async def close_new(path: Path, *orders: str) -> None:
    store = await SqliteStore.open(path)
    await take_on(store, *orders)
    await store.close()


def write_garbage(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


def spoil(path: Path) -> None:
    """Leave the header alone that says what the file is."""
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" * (len(whole) - 100))


def size(path: Path) -> int:
    return path.stat().st_size


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix != ".lock"}


async def test_a_second_process_is_kept_out_and_told_who_holds_the_store(path: Path) -> None:
    async with another_daemon(path) as process:
        with pytest.raises(StoreHeldError, match=rf"\bpid {process.pid}\b"):
            await SqliteStore.open(path, lock_wait=0.0)


async def test_a_store_that_is_held_is_waited_for(path: Path) -> None:
    async with another_daemon(path) as process:
        opening = asyncio.create_task(SqliteStore.open(path, lock_wait=30.0))
        await asyncio.sleep(0)
        assert not opening.done()
        assert process.stdin is not None
        process.stdin.close()
        await (await opening).close()


async def test_a_holder_that_is_killed_holds_nothing(path: Path) -> None:
    async with another_daemon(path) as process:
        process.kill()
        await process.wait()
        await (await SqliteStore.open(path, lock_wait=0.0)).close()


async def test_a_store_cannot_be_opened_twice_in_one_process(path: Path) -> None:
    store = await SqliteStore.open(path)
    with pytest.raises(StoreHeldError, match=str(os.getpid())):
        await SqliteStore.open(path, lock_wait=0.0)
    await store.close()
    await (await SqliteStore.open(path, lock_wait=0.0)).close()


async def test_a_store_of_a_newer_version_is_refused_untouched(path: Path) -> None:
    await close_new(path, "a")
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    before = content(path.parent)
    with pytest.raises(StoreTooNewError, match="version 99"):
        await SqliteStore.open(path)
    assert content(path.parent) == before


async def test_a_newer_version_that_was_killed_is_refused_untouched_too(path: Path, tmp_path: Path) -> None:
    await close_new(path, "a")
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
        for name in ("poller.db", "poller.db-wal"):
            shutil.copy(path.with_name(name), crashed / name)
    before = content(crashed)
    with pytest.raises(StoreTooNewError):
        await SqliteStore.open(crashed / "poller.db")
    after = content(crashed)
    after.pop("poller.db-shm", None)
    assert after == before


async def test_a_file_that_is_no_database_is_refused_untouched(path: Path) -> None:
    write_garbage(path)
    before = content(path.parent)
    with pytest.raises(StoreCorruptError, match="move it"):
        await SqliteStore.open(path)
    assert content(path.parent) == before


async def test_an_empty_file_beside_a_log_that_is_not_is_refused_untouched(path: Path, tmp_path: Path) -> None:
    """SQLite would take it for new, and remove the log with what was taken on."""
    store = await SqliteStore.open(path)
    await take_on(store, "a")
    emptied = tmp_path / "emptied"
    emptied.mkdir()
    shutil.copy(path.with_name("poller.db-wal"), emptied)
    (emptied / "poller.db").touch()
    await store.close()
    before = content(emptied)
    with pytest.raises(StoreCorruptError, match="write-ahead log"):
        await SqliteStore.open(emptied / "poller.db")
    assert content(emptied) == before


async def test_a_malformed_file_is_refused(path: Path) -> None:
    await close_new(path, "a")
    spoil(path)
    with pytest.raises(StoreCorruptError, match="restore a backup"):
        await SqliteStore.open(path)


async def test_another_programs_database_is_refused_untouched(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE theirs (x)")
    before = content(path.parent)
    with pytest.raises(StoreCorruptError, match="another program"):
        await SqliteStore.open(path)
    assert content(path.parent) == before


async def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"folder .*nowhere.* does not exist"):
        await SqliteStore.open(tmp_path / "nowhere" / "poller.db")


async def test_a_refused_store_is_free_for_the_next_try(path: Path) -> None:
    write_garbage(path)
    for _ in range(2):
        with pytest.raises(StoreCorruptError):
            await SqliteStore.open(path, lock_wait=0.0)


async def test_only_the_owner_can_read_what_the_store_writes(path: Path) -> None:
    store = await SqliteStore.open(path)
    await take_on(store, "a")
    modes = {file.name: oct(file.stat().st_mode & 0o777) for file in path.parent.iterdir()}
    await store.close()
    files = ("poller.db", "poller.db-wal", "poller.db-shm", "poller.db.lock")
    assert modes == dict.fromkeys(files, "0o600")


async def test_a_closed_store_is_one_file(path: Path) -> None:
    await close_new(path, "a")
    assert sorted(content(path.parent)) == ["poller.db"]


async def test_a_url_names_the_file(path: Path) -> None:
    store = await open_store(f"sqlite:///{path}")
    await take_on(store, "a")
    assert store.size_bytes() > size(path)
    await store.close()
    assert store.size_bytes() == size(path) > 0
    assert sqlite_path("sqlite:///poller.db") == Path("poller.db")
    for url in ("postgresql://host/db", "sqlite:///", "sqlite://poller.db"):
        with pytest.raises(ValueError, match="sqlite:///"):
            sqlite_path(url)


async def every_call(store: SqliteStore) -> None:
    """Each query of the store, with rows for it to find."""
    a, b, *_ = await take_on(store, *"abcd")
    store.note(Progress(a.id, Answer(AT, error="timeout"), 2.0, 1, keep=False))
    give_back(store, b)
    await store.claim(ALL, 1)
    await store.claim(ALL, 1, freshest=True)
    await store.claim_of_lots(ALL, {LOT: 1})
    await store.hold(key("c"))
    await take_on(store, "a")
    await store.history(key("a"))
    for state in (None, State.PENDING):
        for lot in (None, LOT):
            for before in (None, 9):
                await store.orders(state, lot, 10, before)
    await store.undecided(ALL, 10)
    await store.oldest_untold()
    await store.change(key("a"), lambda order: mark_undecided(order, AT), making("e1"))
    await store.change(key("a"), paid, making("e2"))
    await store.unlogged(10)
    store.note_logged([1])
    await store.next_delivery()
    [delivery] = await store.claim_deliveries(ALL, 10)
    await store.record_attempt(Attempt(delivery.notice.id, DeliveryState.DEAD, AT))
    await store.redeliver("e1", 0.0, 0.0)
    for delivery_state in (None, DeliveryState.DEAD):
        for order in (None, key("a")):
            await store.deliveries(delivery_state, order, 10)
            await store.deliveries(delivery_state, order, 10, before=9)
            await store.deliveries(delivery_state, order, 10, after=0)
    await store.overview(Since(0.0, AT, ALL), 10)
    await store.ended(Ending(0.0, 0), 10)
    await store.prune(ALL, 10)
    await store.flush()


async def test_no_query_reads_or_sorts_a_whole_table(path: Path) -> None:
    told: list[str] = []

    def connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.set_trace_callback(told.append)
        return connection

    store = await SqliteStore.open(path, connect=connect)
    told.clear()
    await every_call(store)
    await store.close()
    statements = {
        sql.replace("Inf", "9e999")  # as a literal
        for sql in told
        if sql.split()[0] in ("SELECT", "UPDATE", "DELETE") and " FROM meta" not in sql
    }
    in_order = (
        "schedule_untold",
        "schedule_told",
        "orders_ended",
        "deliveries_due",
        "deliveries_unlogged",
        "SCAN (subquery-1)",  # of the few that it holds
    )
    assert len(statements) > 30
    with closing(sqlite3.connect(path)) as reader:
        for sql in statements:
            for *_, step in reader.execute(f"EXPLAIN QUERY PLAN {sql}"):
                assert "TEMP B-TREE" not in step, sql
                listing = step in ("SCAN o", "SCAN s", "SCAN d") and "id DESC LIMIT " in sql  # from the newest on
                assert listing or not step.startswith("SCAN") or step.endswith(in_order), (sql, step)


async def test_a_claim_does_not_look_again_at_what_is_held(path: Path) -> None:
    store = await SqliteStore.open(path, inline=True)
    for number in range(1000):
        await take_on(store, str(number), due=float(number))
    await store.close()
    steps = [0]

    def connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        connection.set_progress_handler(lambda: steps.__setitem__(0, steps[0] + 1), 50)
        return connection

    store = await SqliteStore.open(path, inline=True, connect=connect)
    [pending] = await store.claim(ALL, 1)
    give_back(store, replace(pending, due=5000.0))
    assert len(await store.claim(4999.0, 5000)) == 999
    first, steps[0] = steps[0], 0
    assert names(await store.claim(ALL, 5000)) == ["0"]
    again = steps[0]
    assert again * 20 < first
    await store.close()
