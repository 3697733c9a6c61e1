"""A file of an older version of the tables: it is brought forward when it is opened, and nothing of it is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from poller.core.orders import State
from poller.stores.sqlite import SqliteStore, schema
from tests.integration.store_engines import ALL, LOT

ORDER = (
    "INSERT INTO orders (id, park_uuid, pay_partner, state, metadata, accepted_at, opened_run) "
    "VALUES (?, ?, ?, ?, '{}', 0, ?)"
)
TURN = "INSERT INTO schedule (order_id, due, opened_run, untold) VALUES (?, 0, ?, ?)"
STATES = {1: "paid", 2: "pending", 3: "expired", 4: "pending"}


def write_older(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in (one for step in schema.STEPS[:version] for one in step):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {version}")
        for number, state in STATES.items():
            connection.execute(ORDER, (number, LOT, f"order {number}", state, number))
            if state == "pending":
                connection.execute(TURN, (number, number, number == 4))


@pytest.mark.parametrize("version", range(1, schema.VERSION))
async def test_everything_is_found_in_a_file_of_an_older_version(tmp_path: Path, version: int) -> None:
    path = tmp_path / "poller.db"
    write_older(path, version)
    store = await SqliteStore.open(path)
    for state, ids in ((None, [4, 3, 2, 1]), (State.PENDING, [4, 2]), (State.PAID, [1]), (State.FAILED, [])):
        assert [order.id for order in await store.orders(state, None, 10, None)] == ids
    assert [order.id for order in await store.orders(State.PENDING, LOT, 10, 4)] == [2]
    assert [order.id for order in await store.orders(State.EXPIRED, LOT, 10, 4)] == [3]
    assert (await store.counts()).oldest_opened_run == 2.0
    assert [pending.id for pending in await store.claim(ALL, 10, freshest=True)] == [4, 2]
    await store.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
