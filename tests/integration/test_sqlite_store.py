"""What is SQLite's own: transactions, batches, faults of the disk, and what is written behind."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from poller.core.delivery import DeliveryState
from poller.core.orders import Answer, Change, NewOrder, NotAllowedError, Order, OrderKey, State, mark_undecided
from poller.ports import (
    Accepted,
    Attempt,
    Progress,
    Stamp,
    StoreCorruptError,
    StoreUnavailableError,
    UnknownOrderError,
)
from poller.stores.behind import CROWD, FLUSH_S
from poller.stores.sqlite import SqliteStore
from tests.integration.store_engines import ALL, AT, events, give_back, key, making, names, paid, take_on
from tests.integration.watched_sqlite import NO_LIMIT, BusyWriter, Opened, started


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    opened = Opened(tmp_path)
    await opened.open()
    yield opened
    opened.connection.fails = ()
    await opened.store.close()


async def test_what_was_taken_on_is_in_the_files_when_the_call_returns(opened: Opened, tmp_path: Path) -> None:
    await take_on(opened.store, "a")
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    for name in ("poller.db", "poller.db-wal"):
        shutil.copy(tmp_path / name, crashed / name)
    survivor = await SqliteStore.open(crashed / "poller.db")
    assert names(await survivor.claim(ALL, 10)) == ["a"]
    await survivor.close()


async def test_only_what_must_survive_a_power_cut_is_synced(opened: Opened) -> None:
    store = opened.store
    await store.flush()

    async def mode(call: Callable[[], Coroutine[Any, Any, Any]]) -> str:
        await call()
        return "FULL" if opened.connection.execute("PRAGMA synchronous").fetchone() == (2,) else "NORMAL"

    assert opened.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert await mode(lambda: take_on(store, "a")) == "FULL"
    assert await mode(lambda: store.get(key("a"))) == "NORMAL"
    assert await mode(lambda: store.change(key("a"), paid, making("e1"))) == "FULL"
    assert await mode(lambda: store.claim_deliveries(ALL, 1)) == "NORMAL"
    again = Attempt(1, DeliveryState.PENDING, AT, due=2.0)
    assert await mode(lambda: store.record_attempt(again)) == "NORMAL"
    dead = Attempt(1, DeliveryState.DEAD, AT)
    assert await mode(lambda: store.record_attempt(dead)) == "FULL"
    assert await mode(store.flush) == "NORMAL"
    assert await mode(lambda: store.redeliver("e1", 0.0, 0.0)) == "FULL"


def refused(_: Order) -> Change:
    raise NotAllowedError("not in this state")


async def test_what_waits_is_committed_together_and_one_that_refuses_spoils_nothing(opened: Opened) -> None:
    store = opened.store
    await take_on(store, "busy", "a")
    writer = BusyWriter(store)
    busy = await writer.begin()
    before = opened.told.count("COMMIT")
    tasks = await started(
        take_on(store, "b"),
        store.change(OrderKey("", ""), paid, making("e2")),
        store.change(key("a"), refused, making("e3")),
        store.change(key("a"), paid, making("e4")),
    )
    writer.end()
    results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    accepted, unknown, not_allowed, ended = results
    await busy
    assert opened.told.count("COMMIT") == before + 2  # the busy one's, and theirs
    assert names(accepted) == ["b"]
    assert isinstance(unknown, UnknownOrderError)
    assert isinstance(not_allowed, NotAllowedError)
    assert ended.order.state is State.PAID


async def test_what_is_noted_as_logged_does_not_part_those_that_wait_with_one_that_refuses(opened: Opened) -> None:
    store = opened.store
    await take_on(store, "busy", "a", "b", "c")
    await store.change(key("c"), paid, making("e1"))
    [notice] = await store.unlogged(10)
    writer = BusyWriter(store)
    busy = await writer.begin()
    before = opened.told.count("COMMIT")
    store.note_logged([notice.id])
    *refusing, ended = await started(
        store.change(OrderKey("", ""), paid, making("e2")),
        store.change(key("a"), refused, making("e3")),
        store.record_attempt(Attempt(99, DeliveryState.DELIVERED, AT)),
        store.change(key("b"), paid, making("e4")),
    )
    writer.end()
    await busy
    await ended
    faults = await asyncio.gather(*refusing, return_exceptions=True)
    assert [type(fault) for fault in faults] == [UnknownOrderError, NotAllowedError, UnknownOrderError]
    assert opened.told.count("COMMIT") == before + 2  # the busy one's, and theirs
    assert opened.on_disk("SELECT event_id FROM deliveries WHERE logged = 1") == [("e1",)]


async def test_one_that_has_written_and_then_fails_spoils_nothing_of_those_it_waited_with(opened: Opened) -> None:
    store = opened.store
    await take_on(store, "busy", "a")
    writer = BusyWriter(store)
    busy = await writer.begin()
    before = opened.told.count("COMMIT")
    tasks = await started(
        take_on(store, "b"),
        store.change(key("a"), lambda order: mark_undecided(order, AT), making("e1")),
        store.change(key("a"), paid, making("e1")),  # an event id that is taken
        store.change(OrderKey("", ""), paid, making("e2")),
        store.get(key("b")),
    )
    writer.end()
    results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    accepted, told, doubled, unknown, seen = results
    await busy
    assert opened.told.count("COMMIT") == before + 5  # the busy one's, and one for each of the other four
    assert names(accepted) == ["b"]
    assert (told.order.state, told.order.undecided_at) == (State.PENDING, AT)
    assert isinstance(doubled, sqlite3.IntegrityError)
    assert isinstance(unknown, UnknownOrderError)
    assert seen.id == accepted[0].id
    assert await store.get(key("a")) == told.order
    assert events(await store.deliveries(None, None, 10)) == ["e1"]


async def test_a_cancelled_caller_undoes_nothing_and_holds_nothing(opened: Opened) -> None:
    store = opened.store
    [b] = await take_on(store, "b")
    [busy_order] = await take_on(store, "busy")
    await store.change(key("b"), lambda order: mark_undecided(order, AT), making("e1"))
    give_back(store, b)
    writer = BusyWriter(store)
    busy = await writer.begin()
    tasks = await started(
        take_on(store, "a"), store.claim(ALL, 1), store.claim_deliveries(ALL, 1), store.hold(busy_order.key)
    )
    for task in tasks:
        task.cancel()
    writer.end()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await busy
    await store.flush()
    assert sorted(names(await store.claim(ALL, 10))) == ["a", "b"]  # and `busy` is its first holder's still
    assert await store.next_delivery() == 5.0
    assert events(await store.claim_deliveries(ALL, 10)) == ["e1"]


async def test_a_caller_cancelled_between_the_answer_and_its_next_step_holds_nothing(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened.store
    [a] = await take_on(store, "a")
    give_back(store, a)
    loop = asyncio.get_running_loop()
    answer = loop.call_soon_threadsafe
    claiming = asyncio.create_task(store.claim(ALL, 10))

    def answer_and_cancel(callback: Callable[..., object], *args: Any) -> None:
        def both() -> None:
            callback(*args)
            claiming.cancel()

        answer(both)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "call_soon_threadsafe", answer_and_cancel)
        await asyncio.wait([claiming])
    assert claiming.cancelled()
    assert await store.claim(ALL, 10) == [a]


async def test_the_watchdog_sees_a_transaction_that_does_not_end(opened: Opened) -> None:
    await take_on(opened.store, "busy")
    writer = BusyWriter(opened.store)
    busy = await writer.begin()
    assert opened.store.busy_since() is not None
    writer.end()
    await busy
    assert opened.store.busy_since() is None


async def fill(store: SqliteStore, taken: list[int]) -> None:
    for number in range(1000):
        await store.submit([NewOrder(key(str(number)), {"x": "y" * 1500})], AT, 0.0, 1.0)
        taken.append(number)


async def test_a_full_disk_keeps_nothing_of_the_call_and_the_store_works_again(opened: Opened) -> None:
    store = opened.store
    opened.connection.execute("PRAGMA max_page_count = 1")  # as large as it is now
    taken: list[int] = []
    with pytest.raises(StoreUnavailableError, match="full: free space") as fault:
        await fill(store, taken)
    assert str(opened.path) in str(fault.value)
    refused = key(str(len(taken)))
    assert await store.get(refused) is None
    assert len(await store.orders(None, None, 1000, None)) == len(taken)
    opened.connection.execute(f"PRAGMA max_page_count = {NO_LIMIT}")
    [answer] = await store.submit([NewOrder(refused)], AT, 0.0, 1.0)
    assert isinstance(answer, Accepted)
    assert await store.claim(ALL, 10) == []


async def test_what_was_noted_waits_for_space_on_a_full_disk(opened: Opened) -> None:
    store = opened.store
    [a, b] = await take_on(store, "a", "b")
    opened.connection.execute("PRAGMA max_page_count = 1")
    for poll in range(100):
        answer = Answer(AT + timedelta(seconds=poll), error=f"{poll} {'x' * 1000}")
        store.note(Progress(a.id, answer, 2.0, poll))
    store.note(Progress(b.id, None, 3.0, 0, keep=False))
    with pytest.raises(StoreUnavailableError):
        await store.get(key("a"))
    with pytest.raises(StoreUnavailableError):
        await store.claim(ALL, 10)
    store.note(Progress(a.id, Answer(AT, error="last"), 2.0, 100))
    opened.connection.execute(f"PRAGMA max_page_count = {NO_LIMIT}")
    assert await store.claim(ALL, 10) == [replace(b, due=3.0)]
    order = await store.get(key("a"))
    assert order is not None
    assert (order.polls, order.errors, order.last_answer) == (101, 100, Answer(AT, error="last"))
    assert len(await store.history(key("a"))) == 101


@pytest.mark.parametrize(
    "statements", [("COMMIT",), ("BEGIN",), ("INSERT INTO schedule",), ("COMMIT", "ROLLBACK")]
)
async def test_where_the_disk_fails_every_caller_of_the_batch_is_told_and_nothing_stays(
    opened: Opened, statements: tuple[str, ...]
) -> None:
    store = opened.store
    [a, _] = await take_on(store, "a", "busy")
    give_back(store, a)
    writer = BusyWriter(store)
    busy = await writer.begin()
    opened.connection.fails = statements
    tasks = await started(store.claim(ALL, 10), take_on(store, "b"), store.change(key("a"), paid, making("e1")))
    writer.end()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait([busy])
    busy.exception()
    assert [type(result) for result in results] == [StoreUnavailableError] * 3
    assert "SQLITE_IOERR_FSYNC" in str(results[0])
    assert len({id(result) for result in results}) == 3
    opened.connection.fails = ()
    assert await store.get(key("b")) is None
    assert await store.deliveries(None, None, 10) == []
    assert await store.claim(ALL, 10) == [a]


async def test_a_file_found_malformed_while_in_use_is_named_so(opened: Opened) -> None:
    opened.connection.fails, opened.connection.code = ("BEGIN",), sqlite3.SQLITE_CORRUPT
    with pytest.raises(StoreCorruptError, match="restore a backup"):
        await opened.store.get(key("a"))


async def test_a_defect_is_no_fault_of_the_store(opened: Opened) -> None:
    opened.connection.fails, opened.connection.code = ("BEGIN",), sqlite3.SQLITE_ERROR
    with pytest.raises(sqlite3.OperationalError):
        await opened.store.get(key("a"))


async def test_the_daemons_times_are_written_with_whatever_is_written(opened: Opened) -> None:
    store = opened.store
    assert store.last_stamp() is None
    now = [1.0]
    store.keep_time(lambda: Stamp(now[0], now[0] + 100.0, AT + timedelta(seconds=now[0])))
    await take_on(store, "a")
    now[0] = 2.0
    await store.get(key("a"))  # writes nothing
    assert opened.on_disk("SELECT run, schedule FROM meta") == [(1.0, 101.0)]
    await store.flush()
    assert opened.on_disk("SELECT run, schedule FROM meta") == [(2.0, 102.0)]
    now[0] = 3.0
    await store.close()
    assert (await opened.open()).last_stamp() == Stamp(3.0, 103.0, AT + timedelta(seconds=3))


async def test_a_closed_store_takes_nothing_on(opened: Opened) -> None:
    await opened.store.close()
    await opened.store.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await take_on(opened.store, "a")


async def test_a_store_that_cannot_write_its_last_notes_is_closed_and_free_all_the_same(opened: Opened) -> None:
    [a] = await take_on(opened.store, "a")
    opened.store.note(Progress(a.id, None, 9.0, 0))
    opened.connection.fails = ("COMMIT",)
    with pytest.raises(StoreUnavailableError):
        await opened.store.close()
    assert names(await (await opened.open()).claim(ALL, 10)) == ["a"]


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


def in_leaping_time(opened: Opened, steps: Callable[[SqliteStore], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        store = await opened.open(inline=True)
        try:
            await steps(store)
        finally:
            opened.connection.fails = ()
            await store.close()

    with asyncio.Runner(loop_factory=LeapingLoop) as runner:
        runner.run(run())


DUE = "SELECT due FROM schedule ORDER BY order_id"


def test_a_note_is_on_disk_half_a_minute_later(tmp_path: Path) -> None:
    opened = Opened(tmp_path)

    async def steps(store: SqliteStore) -> None:
        [a] = await take_on(store, "a")
        store.note(Progress(a.id, None, 7.0, 0))
        await leap(FLUSH_S - 1.0)
        store.note(Progress(a.id, None, 8.0, 0))
        assert opened.on_disk(DUE) == [(1.0,)]
        await leap(1.1)
        assert opened.on_disk(DUE) == [(8.0,)]

    in_leaping_time(opened, steps)


def test_a_note_that_could_not_be_written_is_tried_again_later(tmp_path: Path) -> None:
    opened = Opened(tmp_path)

    async def steps(store: SqliteStore) -> None:
        [a] = await take_on(store, "a")
        store.note(Progress(a.id, None, 7.0, 0))
        opened.connection.fails = ("COMMIT",)
        await leap(FLUSH_S + 0.1)
        opened.connection.fails = ()
        assert opened.on_disk(DUE) == [(1.0,)]
        await leap(FLUSH_S + 0.1)
        assert opened.on_disk(DUE) == [(7.0,)]

    in_leaping_time(opened, steps)


def test_many_notes_do_not_wait_for_the_clock(tmp_path: Path) -> None:
    opened = Opened(tmp_path)

    async def steps(store: SqliteStore) -> None:
        pending = await take_on(store, *map(str, range(CROWD + 1)))
        for one in pending:
            assert opened.told[-1] == "COMMIT"
            store.note(Progress(one.id, None, 9.0, 0))
        assert opened.on_disk("SELECT min(due), max(due) FROM schedule") == [(9.0, 9.0)]

    in_leaping_time(opened, steps)


async def test_orders_are_taken_on_once_where_sqlite_gave_the_transaction_up_under_a_job_that_only_reads(
    opened: Opened,
) -> None:
    await take_on(opened.store, "busy", "read")

    def run_out(order: Order) -> None:
        opened.connection.execute("ROLLBACK")  # as SQLite does by itself when a query finds no memory
        raise MemoryError

    writer = BusyWriter(opened.store)
    busy = await writer.begin()
    calls = await started(
        take_on(opened.store, "before"),
        opened.store.change(key("read"), run_out, making("never")),
        take_on(opened.store, "after"),
    )
    writer.end()
    await busy
    before, read, after = calls
    with pytest.raises(MemoryError):
        await read
    assert [names(await before), names(await after)] == [["before"], ["after"]]
