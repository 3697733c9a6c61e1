"""A copy of the store: taken beside the daemon, one snapshot, one file, and never at the store's expense."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from poller.core.orders import State
from poller.ports import StoreCorruptError, StoreTooNewError, StoreUnavailableError
from poller.stores import backup
from poller.stores.sqlite import SqliteStore
from tests.integration.store_engines import key, making, paid, take_on


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store" / "poller.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path)
    yield store
    await store.close()


def copy_of(path: Path, to: Path) -> int:
    return backup(f"sqlite:///{path}", to)


def content(folder: Path) -> dict[str, bytes]:
    """What is in a folder, but for the index that SQLite's readers share."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix not in (".lock", ".db-shm")}


def listing(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def halve(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def spoil_last_page(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4096] + b"\xff" * 4096)


async def numbers_in(copy: Path) -> list[str]:
    """What a daemon that is started on the copy has."""
    store = await SqliteStore.open(copy)
    try:
        return [order.key.pay_partner for order in await store.orders(None, None, 10_000, None)]
    finally:
        await store.close()


async def test_a_copy_of_a_store_in_use_is_a_store_with_everything_acknowledged(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    await take_on(store, "a", "b")
    await store.change(key("a"), paid, making("e1"))
    copy = tmp_path / "copy.db"
    assert copy_of(path, copy) == 2
    await take_on(store, "after the copy")
    copied = await SqliteStore.open(copy)
    a = await copied.get(key("a"))
    assert a is not None
    assert (a.state, await copied.delivery("e1") is not None) == (State.PAID, True)
    await copied.close()
    assert await numbers_in(copy) == ["b", "a"]


async def test_a_copy_is_one_file_complete_in_itself_that_its_owner_alone_can_read(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    await take_on(store, "a")
    (tmp_path / "copies").mkdir()
    copy = tmp_path / "copies" / "copy.db"
    copy_of(path, copy)
    assert listing(copy.parent) == ["copy.db"]
    assert copy.stat().st_mode & 0o777 == 0o600
    assert copy.read_bytes()[18:20] == b"\1\1"  # made for a rollback journal: it needs no log beside it
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)) as alone:
        assert alone.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_what_comes_in_while_a_copy_is_taken_is_not_held_up_and_the_copy_is_one_moment(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    """Orders come in pairs: a copy of two moments would have half of one."""
    going, taken = True, 0

    async def keep_taking_on() -> None:
        nonlocal taken
        while going:
            await take_on(store, f"{taken} left", f"{taken} right")
            taken += 1

    taking_on = asyncio.create_task(keep_taking_on())
    for number in range(5):
        before = taken
        copy = tmp_path / f"copy-{number}.db"
        orders = await asyncio.to_thread(copy_of, path, copy)
        assert 2 * before <= orders <= 2 * taken + 2
        assert orders % 2 == 0
    going = False
    await taking_on
    assert taken > 5


async def test_a_copy_neither_writes_to_the_store_nor_checkpoints_it(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    await take_on(store, "a")
    before = content(path.parent)
    assert before["poller.db-wal"]
    copy_of(path, tmp_path / "copy.db")
    assert content(path.parent) == before


async def test_a_store_whose_daemon_was_killed_is_copied_with_what_is_in_its_log(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    await take_on(store, "a")
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("poller.db", "poller.db-wal"):
        shutil.copy(path.with_name(name), killed / name)
    before = content(killed)
    assert copy_of(killed / "poller.db", tmp_path / "copy.db") == 1
    assert content(killed) == before
    assert await numbers_in(killed / "poller.db") == ["a"]


async def test_a_store_that_nobody_uses_is_copied_and_left_as_it_was(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    await take_on(store, "a")
    await store.close()
    before = content(path.parent)
    assert copy_of(path, tmp_path / "copy.db") == 1
    after = content(path.parent)
    assert after.pop("poller.db-wal", b"") == b""
    assert after == before


async def test_a_copy_overwrites_nothing(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    await take_on(store, "a")
    there = tmp_path / "there.db"
    there.write_text("mine")
    dangling = tmp_path / "dangling.db"
    dangling.symlink_to("nowhere")
    for taken in (there, dangling, path):
        with pytest.raises(FileExistsError, match=taken.name):
            copy_of(path, taken)
    assert there.read_text() == "mine"
    assert (await store.get(key("a"))) is not None


async def test_a_copy_that_cannot_be_made_leaves_nothing(store: SqliteStore, path: Path, tmp_path: Path) -> None:
    await take_on(store, "a")
    with pytest.raises(StoreUnavailableError, match=r"nowhere.*create its folder"):
        copy_of(path, tmp_path / "nowhere" / "copy.db")
    await store.close()
    halve(path)
    before = listing(tmp_path)
    with pytest.raises(StoreCorruptError, match="not a usable store"):
        copy_of(path, tmp_path / "copy.db")
    assert listing(tmp_path) == before


async def test_no_copy_is_made_of_a_store_that_has_a_malformed_page(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    """A daemon may not meet that page for a long time, and by then every older copy would be gone."""
    await take_on(store, *map(str, range(2000)))
    await store.close()
    spoil_last_page(path)
    with pytest.raises(StoreCorruptError, match=r"poller\.db is not a usable store"):
        copy_of(path, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


async def test_no_copy_is_made_of_what_is_no_store_or_a_newer_one(
    store: SqliteStore, path: Path, tmp_path: Path
) -> None:
    for missing in (tmp_path / "none.db", tmp_path / "empty.db"):
        if missing.stem == "empty":
            missing.touch()
        with pytest.raises(StoreUnavailableError, match=f"no store at {missing}"):
            copy_of(missing, tmp_path / "copy.db")
    other = tmp_path / "other.db"
    other.write_text("not a database" * 1000)
    with pytest.raises(StoreCorruptError, match="not a usable store"):
        copy_of(other, tmp_path / "copy.db")
    await store.close()
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreTooNewError, match="version 99"):
        copy_of(path, tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()
