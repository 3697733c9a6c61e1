"""A lot's own store moves into a fleet's: everything, once, and the lot's daemon leaves it alone from then on."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from poller.core.orders import Order, OrderKey, State, end
from poller.ports import StoreHeldError, StoreMovedError, StoreTooNewError, StoreUnavailableError
from poller.stores import backup, open_store
from poller.stores.moving import UnusableUrlError, move
from poller.stores.postgres import PostgresStore
from poller.stores.sqlite import SqliteStore, schema
from poller.stores.sqlite.departure import Departure, Differing
from poller.stores.sqlite.mark import MOVED, Mark
from poller.system import SystemClock
from poller.timeline import Timeline
from tests.integration.lots_store import ASKED, AWAY, DUE, ENDED, SCHEDULE, fill, read
from tests.integration.postgres_server import beside, schema_for, shared_server
from tests.integration.store_engines import ALL, AT, LOT, key, making, names, paid, take_on

CLOSE_S = 5.0  # for which a test may have stood still


@pytest.fixture
def url(tmp_path: Path) -> str:
    return shared_server().url(schema_for(tmp_path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "poller.db"


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url)
    try:
        yield store
    finally:
        await store.close()


async def moved(path: Path, url: str, kind: type[Departure] = Departure) -> tuple[Mark, bool, list[Differing]]:
    departure = await kind.open(path, lock_wait=0.0)
    try:
        done = await move(departure, url, password=None, clock=SystemClock(), progress=lambda *_: None)
        return *done, list(departure.differing())
    finally:
        departure.close()


class KilledError(Exception):
    """The process is no more."""


class DyingAfterEachBatch(Departure):
    """It dies when PostgreSQL has a batch, before the file says so."""

    def keep(self, so_far: Mark, differing: Sequence[tuple[int, Differing]] = ()) -> None:
        raise KilledError


async def test_everything_that_can_be_read_of_the_store_is_as_it_was(path: Path, url: str) -> None:
    await fill(path)
    store = await SqliteStore.open(path)
    before = await read(store)
    await store.close()
    mark, done, differing = await moved(path, url)
    assert (mark.orders, mark.pending, mark.known, done, differing) == (len(ASKED) + len(ENDED), 5, 0, True, [])
    async with opened(url) as fleet:
        after = await read(fleet)
    assert after.said == before.said
    assert after.ages == pytest.approx(before.ages, abs=CLOSE_S)
    assert after.waits == pytest.approx(before.waits, abs=CLOSE_S)


async def test_ages_stand_still_and_due_times_run_on_while_no_daemon_has_the_orders(path: Path, url: str) -> None:
    await fill(path)
    async with opened(url) as fleet:
        times = Timeline(SystemClock(), fleet.last_stamp())
        fleet.keep_time(times.stamp)
        times.advance(1_000.0, 7_000_000.0)  # it has run for long
        await fleet.flush()
        await moved(path, url)
        order = await fleet.get(key("accepted"))
        assert order is not None
        assert order.due is not None
        assert times.run() - order.opened_run == pytest.approx(400.0, abs=CLOSE_S)
        waits = DUE - SCHEDULE - AWAY.total_seconds()
        assert order.due - times.schedule() == pytest.approx(waits, abs=CLOSE_S)


async def test_a_fleet_that_runs_takes_the_orders_up_at_once_and_ends_them(path: Path, url: str) -> None:
    await fill(path)
    async with opened(url) as fleet:
        await take_on(fleet, "here already")
        mark, _, _ = await moved(path, url)
        claimed = await fleet.claim(ALL, 100)
        assert sorted(names(claimed)) == sorted(ASKED)
        for name in ASKED:
            assert (await fleet.change(key(name), paid, making(f"fleet-{name}"))).order.state is State.PAID
        counts = await fleet.counts()
        assert (counts.pending, counts.undecided) == (1, 0)
        assert counts.undelivered == mark.undelivered + len(ASKED)


async def test_notices_of_one_order_stay_in_the_order_of_making(path: Path, url: str) -> None:
    await fill(path)
    await moved(path, url)
    async with opened(url) as fleet:
        await fleet.change(key("undecided"), paid, making("after"))
        found = await fleet.deliveries(None, key("undecided"), 10)
        assert [one.notice.event_id for one in found] == ["after", "told-undecided"]
        due = await fleet.claim_deliveries(ALL, 100)
        assert "after" not in [one.notice.event_id for one in due]


async def test_who_hears_of_notices_as_they_are_made_does_not_hear_of_what_moves_in(path: Path, url: str) -> None:
    await fill(path)
    async with opened(url) as fleet:
        await take_on(fleet, "here already")
        await fleet.change(key("here already"), paid, making("last"))
        [last] = await fleet.deliveries(None, None, 1)
        await moved(path, url)
        assert await fleet.deliveries(None, None, 100, after=last.notice.id) == []
        resumed = await fleet.delivery("end-contradicted")
        assert resumed is not None
        found = await fleet.deliveries(None, None, 100, after=resumed.notice.id)
        assert [one.notice.event_id for one in found][-2:] == ["conflict", "last"]


async def test_a_move_that_is_killed_after_every_batch_goes_on_and_doubles_nothing(path: Path, url: str) -> None:
    await fill(path, more=1200)
    store = await SqliteStore.open(path)
    before = await store.counts()
    await store.close()
    for _ in range(3):
        with pytest.raises(KilledError):
            await moved(path, url, DyingAfterEachBatch)
        with pytest.raises(StoreMovedError, match="half moved: end that with `poller migrate-store sqlite:///"):
            await SqliteStore.open(path)
    mark, done, _ = await moved(path, url)
    assert (mark.orders, mark.pending, mark.known, done) == (1213, before.pending, 0, True)
    async with opened(url) as fleet:
        after = await fleet.counts()
        assert (after.pending, after.undecided) == (before.pending, before.undecided)
        assert (after.undelivered, after.dead) == (before.undelivered, before.dead)
        assert len(await fleet.orders(None, None, 10_000, None)) == 1213
        assert len(await fleet.history(key("paid"))) == 2


async def test_what_the_fleet_has_done_meanwhile_stands_when_the_move_goes_on(path: Path, url: str) -> None:
    await fill(path)
    with pytest.raises(KilledError):
        await moved(path, url, DyingAfterEachBatch)
    async with opened(url) as fleet:
        await fleet.change(key("accepted"), paid, making("by the fleet"))
        mark, _, differing = await moved(path, url)
        order = await fleet.get(key("accepted"))
        assert order is not None
        assert (order.state, mark.orders, mark.known, differing) == (State.PAID, 13, 0, [])
        assert (await fleet.counts()).pending == len(ASKED) - 1


async def test_a_finished_move_is_told_and_nothing_is_done_again(path: Path, url: str) -> None:
    await fill(path)
    first, _, _ = await moved(path, url)
    async with beside(url) as other:
        await other.execute("DELETE FROM orders")
        with closing(sqlite3.connect(path)) as connection:  # told by a newer program, too
            connection.execute(f"PRAGMA user_version = {MOVED + schema.VERSION - 1}")
        again, done, _ = await moved(path, url)
        assert (again, done) == (first, False)
        assert await other.fetchval("SELECT count(*) FROM orders") == 0


async def test_an_order_that_both_have_stays_as_the_fleet_has_it(path: Path, url: str) -> None:
    await fill(path)
    async with opened(url) as fleet:
        await take_on(fleet, "paid", "failed", "asked", "cancelled")
        for name, state in (("failed", State.PAID), ("cancelled", State.CANCELLED)):
            await fleet.change(key(name), lambda order, state=state: end(order, state, AT), making(f"its-{name}"))  # type: ignore[misc]
        was: list[Order | None] = [await fleet.get(key(name)) for name in ("paid", "failed", "asked")]
        mark, _, differing = await moved(path, url)
        assert differing == [Differing(key("failed"), State.FAILED, State.PAID)]
        assert (mark.orders, mark.known, mark.pending) == (9, 4, 4)
        assert [await fleet.get(key(name)) for name in ("paid", "failed", "asked")] == was
        assert [one.notice.event_id for one in await fleet.deliveries(None, key("failed"), 10)] == ["its-failed"]
        assert await fleet.delivery("end-paid") is None
        assert (await fleet.counts()).pending == 4 + 2
    _, _, differing = await moved(path, url)
    assert differing == [Differing(key("failed"), State.FAILED, State.PAID)]


async def test_several_lots_move_into_one_postgresql(tmp_path: Path, url: str) -> None:
    for lot in ("one", "two", "three"):
        await fill(tmp_path / f"{lot}.db")
        with closing(sqlite3.connect(tmp_path / f"{lot}.db")) as other:
            other.execute("UPDATE orders SET park_uuid = ?", (lot,))
            other.execute("UPDATE deliveries SET event_id = ? || event_id", (lot,))
            other.commit()
        await moved(tmp_path / f"{lot}.db", url)
    async with opened(url) as fleet:
        assert (await fleet.counts()).pending == 3 * len(ASKED)
        assert len(await fleet.orders(None, None, 100, None)) == 3 * (len(ASKED) + len(ENDED))
        assert len(await fleet.history(OrderKey("two", "paid"))) == 2
        assert await fleet.get(OrderKey(LOT, "paid")) is None


async def test_no_daemon_and_no_backup_opens_a_store_that_was_moved(path: Path, url: str, tmp_path: Path) -> None:
    await fill(path)
    mark, _, _ = await moved(path, url)
    said = f"was moved to PostgreSQL at {mark.place}, and no daemon takes it up again"
    with pytest.raises(StoreMovedError, match=said):
        await open_store(f"sqlite:///{path}")
    with pytest.raises(StoreMovedError, match=said):
        backup(f"sqlite:///{path}", tmp_path / "copy.db")
    with closing(sqlite3.connect(path)) as connection:  # a program that knows no mark takes it for a newer one's
        assert connection.execute("PRAGMA user_version").fetchone()[0] == MOVED + schema.VERSION


async def test_a_store_that_has_not_begun_to_move_is_left_as_it_was_where_postgresql_is_away(path: Path) -> None:
    await fill(path)
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        await moved(path, "postgresql://poller@127.0.0.1:1/postgres")
    with pytest.raises(UnusableUrlError, match="sslmode"):
        await moved(path, f"{shared_server().url('unused')}&sslmode=wrong")
    store = await SqliteStore.open(path)
    assert (await store.counts()).pending == len(ASKED)
    await store.close()


async def test_a_half_moved_store_goes_nowhere_else(path: Path, url: str, tmp_path: Path) -> None:
    await fill(path)
    with pytest.raises(KilledError):
        await moved(path, url, DyingAfterEachBatch)
    elsewhere = shared_server().url(schema_for(tmp_path / "elsewhere"))
    with pytest.raises(StoreMovedError, match="half moved"):
        await moved(path, elsewhere)
    mark, _, _ = await moved(path, url.replace("127.0.0.1", "localhost"))  # the same one by another name
    assert mark.orders == 13
    with pytest.raises(StoreMovedError, match="was moved to"):
        await moved(path, elsewhere)


async def test_a_store_in_use_or_not_there_or_newer_is_not_moved(path: Path, url: str) -> None:
    with pytest.raises(StoreUnavailableError, match="there is no store at"):
        await moved(path, url)
    assert not path.with_name("poller.db.lock").exists()
    store = await SqliteStore.open(path)
    with pytest.raises(StoreHeldError, match="is held by the process with pid"):
        await moved(path, url)
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 9999")
    with pytest.raises(StoreTooNewError):
        await moved(path, url)


async def test_a_store_that_no_daemon_has_used_moves_too(path: Path, url: str) -> None:
    store = await SqliteStore.open(path)
    await store.close()
    mark, done, _ = await moved(path, url)
    assert (mark.orders, done) == (0, True)
