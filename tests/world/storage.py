"""The disk of the simulated machine: the real SQLite store over memory, with crashes and power cuts.

A commit with `synchronous=FULL` survives everything. One without survives the death of the process, and a
power cut takes any number of the last of them.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from poller.stores.sqlite import SqliteStore, schema
from poller.stores.sqlite.lock import StoreLock
from tests.world.truth import PARK


class _NoLock(StoreLock):
    """One process at a time is the world's own rule."""

    def __init__(self) -> None:
        return

    def release(self) -> None:
        return


class _Connection(sqlite3.Connection):
    disk: Disk

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.total_changes != self.disk.changes:
            self.disk.before_commit()
            cursor = super().execute(sql, *parameters)
            self.disk.committed(self)
            return cursor
        if sql.startswith("PRAGMA synchronous"):
            self.disk.durable = sql.endswith("FULL")
        return super().execute(sql, *parameters)


def _new_store() -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(connection, Path("memory"))
    image = connection.serialize()
    connection.close()
    return image


EMPTY = _new_store()


def store_with_a_past(ages: Sequence[float]) -> bytes:
    """A store of orders that settled at these ages, each within the last second of its wait, before time began."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(EMPTY)
    for number, age in enumerate(ages, start=1):
        connection.execute(
            "INSERT INTO orders (id, park_uuid, pay_partner, state, metadata, accepted_at, final_at, opened_run, "
            "ended_run) VALUES (?, ?, ?, 'paid', '{}', 0, ?, ?, ?)",
            (number, PARK, f"past-{number}", int(age * 1000), number - age - 1e4, number - 1e4),
        )
        for n, status, at in ((1, "0", max(age - 1.0, 0.0)), (2, "1", age)):
            connection.execute(
                "INSERT INTO history (order_id, n, count, first_at, last_at, code, status, prompt) "
                "VALUES (?, ?, 1, ?, ?, '1001', ?, 'schedule')",
                (number, n, int(at * 1000), int(at * 1000), status),
            )
    image = connection.serialize()
    connection.close()
    return image


class Disk:
    """`point` is called before and after each commit and may raise Crash; `fails` tells whether it is full."""

    def __init__(
        self,
        dice: random.Random,
        point: Callable[[], None],
        fails: Callable[[], bool],
        image: bytes = EMPTY,
    ) -> None:
        self.durable = True
        self.changes = 0
        self._dice = dice
        self._point = point
        self._fails = fails
        self._images = [image]  # the last durable state, then each commit after it
        self._connection: _Connection | None = None

    def open(self) -> SqliteStore:
        """The store as the disk has it."""
        connection = sqlite3.connect(":memory:", isolation_level=None, factory=_Connection)
        connection.disk = self
        connection.deserialize(self._images[-1])
        self._connection = connection
        self.durable, self.changes = True, 0
        return SqliteStore(Path("memory"), connection, _NoLock(), inline=True)

    def before_commit(self) -> None:
        self._point()
        if self._fails():
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error

    def committed(self, connection: sqlite3.Connection) -> None:
        self.changes, image = connection.total_changes, connection.serialize()
        if self.durable:
            self._images = [image]
        else:
            self._images.append(image)
        self._point()

    def crash(self, *, power: bool) -> None:
        """The process is gone; with `power`, so are some of the last commits that were not durable."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if power:
            del self._images[self._dice.randint(1, len(self._images)) :]
        del self._images[:-1]
