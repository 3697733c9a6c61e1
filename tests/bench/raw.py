"""Orders into the store's own tables by bare statements, a sync for each thousand."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from poller.stores.sqlite import schema
from poller.stores.sqlite.opening import connect
from tests.bench import scripted

BATCH = 1000
BATCHES = 40  # for a figure


def batches(count: int) -> Iterator[range]:
    """The numbers of the orders of each."""
    return (range(start, start + BATCH) for start in range(1, count * BATCH, BATCH))


@contextmanager
def opened() -> Iterator[sqlite3.Connection]:
    """A new file with the store's tables."""
    with TemporaryDirectory(prefix="poller-bench-") as name, closing(connect(Path(name) / "raw.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        schema.migrate(connection, Path(name))
        yield connection


def insert(connection: sqlite3.Connection, numbers: range) -> None:
    """Enter a batch, in a transaction of its own."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO orders (id, park_uuid, pay_partner, state, metadata, accepted_at, opened_run) "
        "VALUES (?, ?, ?, 'pending', '{}', 0, 0)",
        [(number, scripted.PARK, scripted.never(number)) for number in numbers],
    )
    connection.executemany(
        "INSERT INTO schedule (order_id, due, opened_run) VALUES (?, 0, 0)", [(number,) for number in numbers]
    )
    connection.execute("COMMIT")


def orders_per_s(count: int) -> float:
    """With nothing else to do, so many batches."""
    with opened() as connection:
        began = time.monotonic()
        for numbers in batches(count):
            insert(connection, numbers)
        return count * BATCH / (time.monotonic() - began)
