"""What the store says that there is: after every kind of transaction, and after failed ones."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from poller.core.delivery import DeliveryState
from poller.core.orders import NewOrder, Order, State, end, mark_undecided, reopen, request_cancel
from poller.ports import Attempt, Counts, StoreUnavailableError
from poller.stores import KeptStore
from poller.stores.sqlite import SqliteStore
from poller.stores.sqlite.opening import open_connection
from poller.stores.sqlite.tally import OLDEST_PENDING, OLDEST_UNDELIVERED
from tests.integration.store_engines import ALL, AT, ENGINES, Opener, key, making, paid, reopening, take_on

EMPTY = Counts(0, 0, 0, 0, None, None)


@pytest.fixture(params=ENGINES)
async def opener(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    async with reopening(request.param, tmp_path) as opener:
        yield opener


def undecided(order: Order) -> Any:
    return mark_undecided(order, AT)


def cancelled(order: Order) -> Any:
    return end(order, State.CANCELLED, AT)


async def test_a_new_store_has_nothing(opener: Opener) -> None:
    assert await (await opener()).counts() == EMPTY


async def test_orders_are_counted_while_they_are_pending(opener: Opener) -> None:
    store = await opener()
    await take_on(store, "a", "b", run=7.0)
    await take_on(store, "b", "c", run=9.0)
    assert await store.counts() == Counts(3, 0, 0, 0, 7.0, None)
    await store.change(key("a"), undecided, making("e1", webhook=False))
    await store.change(key("b"), undecided, making("e2", webhook=False))
    await store.change(key("b"), undecided, making("e3", webhook=False))
    assert await store.counts() == Counts(3, 2, 0, 0, 7.0, None)
    await store.change(key("a"), paid, making("e4", webhook=False))
    await store.change(key("c"), request_cancel, making("e5", webhook=False))
    assert await store.counts() == Counts(2, 1, 0, 0, 7.0, None)
    await store.change(key("b"), cancelled, making("e6", webhook=False))
    assert await store.counts() == Counts(1, 0, 0, 0, 9.0, None)
    await store.change(key("b"), lambda order: reopen(order, 20.0, 20.0), making("e7", webhook=False))
    assert await store.counts() == Counts(2, 0, 0, 0, 9.0, None)
    assert await (await opener()).counts() == Counts(2, 0, 0, 0, 9.0, None)


async def test_notices_are_counted_until_they_are_received_and_when_they_are_dead(opener: Opener) -> None:
    store = await opener()
    await take_on(store, "a", "b", "c")
    for name in ("a", "b", "c"):
        await store.change(key(name), paid, making(name, webhook=name != "c"))
    assert await store.counts() == Counts(0, 0, 2, 0, None, 3.0)
    one, other = [delivery.notice.id for delivery in await store.claim_deliveries(ALL, 10)]
    await store.record_attempt(Attempt(one, DeliveryState.PENDING, AT, due=9.0))
    await store.record_attempt(Attempt(other, DeliveryState.DEAD, AT))
    assert await store.counts() == Counts(0, 0, 1, 1, None, 3.0)
    await store.redeliver("b", run=50.0, due=50.0)
    await store.redeliver("b", run=60.0, due=60.0)
    assert await store.counts() == Counts(0, 0, 2, 0, None, 3.0)
    await store.record_attempt(Attempt(one, DeliveryState.DELIVERED, AT))
    assert await store.counts() == Counts(0, 0, 1, 0, None, 60.0)
    await store.redeliver("a", run=70.0, due=70.0)
    await store.redeliver("c", run=70.0, due=70.0)
    assert await store.counts() == Counts(0, 0, 3, 0, None, 60.0)
    assert await (await opener()).counts() == Counts(0, 0, 3, 0, None, 60.0)


class Failing(sqlite3.Connection):
    """A disk on which no commit succeeds while it is full."""

    full = False

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if self.full and sql == "COMMIT":
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
            raise error
        return super().execute(sql, parameters)


async def _refused(store: KeptStore, name: str) -> list[Callable[[], Awaitable[object]]]:
    """What changes a store that has an order, and the dead notice of another."""
    number = (await store.deliveries(DeliveryState.DEAD, None, 1))[0].notice.id
    return [
        lambda: store.submit([NewOrder(key("new"))], AT, 1.0, 1.0),
        lambda: store.change(key(name), undecided, making("u")),
        lambda: store.change(key(name), paid, making("p")),
        lambda: store.redeliver("e1", 5.0, 5.0),
        lambda: store.record_attempt(Attempt(number, DeliveryState.DELIVERED, AT)),
    ]


async def test_what_was_not_committed_is_not_counted(tmp_path: Path) -> None:
    made: list[Failing] = []

    def connect(path: Path) -> sqlite3.Connection:
        made.append(sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Failing))
        return made[-1]

    store = await SqliteStore.open(tmp_path / "poller.db", connect=connect)
    await take_on(store, "a", "b")
    await store.change(key("a"), paid, making("e1"))
    [dead] = await store.claim_deliveries(ALL, 1)
    await store.record_attempt(Attempt(dead.notice.id, DeliveryState.DEAD, AT))
    before = await store.counts()
    assert before == Counts(1, 0, 0, 1, 0.0, None)
    for call in await _refused(store, "b"):
        made[-1].full = True
        with pytest.raises(StoreUnavailableError):
            await call()
        made[-1].full = False
        assert await store.counts() == before
    await store.close()


def test_the_oldest_are_found_by_an_index_alone(tmp_path: Path) -> None:
    """However many there are: nothing is scanned."""
    with closing(open_connection(tmp_path / "poller.db")) as connection:
        for sql in (*OLDEST_PENDING, OLDEST_UNDELIVERED):
            [(*_, plan)] = connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall()
            assert plan.startswith("SEARCH")
            assert "INDEX" in plan
