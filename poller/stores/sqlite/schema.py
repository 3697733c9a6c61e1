"""The tables, and how an older file becomes a newer one. The version is SQLite's own `user_version`.

A released step is never edited: a change of the tables is a new step at the end of `STEPS`. `*_at` and `wall`
are milliseconds since 1970 in UTC; `*_run`, `run`, `due` and `schedule` are seconds (see `poller.timeline`).
A row of `orders` is never deleted: its number is taken for ever. Its `ended_run` says since when it is final,
and is null while it is pending and once it has been pruned. A row of `schedule` exists only while its order is
pending.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from poller.ports import StoreMovedError, StoreTooNewError
from poller.stores.sqlite import mark
from poller.stores.sqlite.faults import corrupt

_FIRST = (
    """CREATE TABLE orders (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        park_uuid TEXT NOT NULL,
        pay_partner TEXT NOT NULL,
        state TEXT NOT NULL,
        metadata TEXT NOT NULL,
        accepted_at INTEGER NOT NULL,
        undecided_at INTEGER,
        final_at INTEGER,
        conflict_at INTEGER,
        opened_run REAL NOT NULL,
        ended_run REAL,
        polls INTEGER NOT NULL DEFAULT 0,
        pay_serial TEXT,
        pay_origin TEXT,
        pay_origin_desc TEXT,
        UNIQUE (park_uuid, pay_partner)
    )""",
    "CREATE INDEX orders_state ON orders (state)",
    "CREATE INDEX orders_ended ON orders (ended_run) WHERE ended_run IS NOT NULL",
    "CREATE INDEX orders_late ON orders (ended_run) WHERE ended_run IS NOT NULL AND undecided_at IS NOT NULL",
    "CREATE INDEX orders_conflict ON orders (conflict_at) WHERE conflict_at IS NOT NULL",
    """CREATE TABLE schedule (
        order_id INTEGER PRIMARY KEY,
        due REAL NOT NULL,
        opened_run REAL NOT NULL,
        polls INTEGER NOT NULL DEFAULT 0,
        errors INTEGER NOT NULL DEFAULT 0,
        cancelling INTEGER NOT NULL DEFAULT 0,
        untold INTEGER NOT NULL DEFAULT 1
    )""",
    "CREATE INDEX schedule_due ON schedule (due)",
    "CREATE INDEX schedule_opened ON schedule (opened_run)",
    "CREATE INDEX schedule_untold ON schedule (opened_run) WHERE untold = 1",
    "CREATE INDEX schedule_told ON schedule (opened_run) WHERE untold = 0",
    """CREATE TABLE history (
        order_id INTEGER NOT NULL,
        n INTEGER NOT NULL,
        count INTEGER NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        code TEXT,
        status TEXT,
        message TEXT,
        hint TEXT,
        seqno TEXT,
        error TEXT,
        prompt TEXT NOT NULL,
        PRIMARY KEY (order_id, n)
    ) WITHOUT ROWID""",
    """CREATE TABLE deliveries (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id TEXT NOT NULL UNIQUE,
        order_id INTEGER NOT NULL,
        type TEXT NOT NULL,
        body TEXT NOT NULL,
        made_at INTEGER NOT NULL,
        made_run REAL NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        due REAL,
        last_error TEXT,
        last_status INTEGER,
        last_at INTEGER,
        logged INTEGER NOT NULL DEFAULT 0
    )""",
    "CREATE INDEX deliveries_due ON deliveries (due) WHERE state = 'pending'",
    "CREATE INDEX deliveries_made ON deliveries (made_run) WHERE state = 'pending'",
    "CREATE INDEX deliveries_unlogged ON deliveries (id) WHERE logged = 0",
    "CREATE INDEX deliveries_order ON deliveries (order_id)",
    "CREATE INDEX deliveries_state ON deliveries (state)",
    "CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), run REAL, schedule REAL, wall INTEGER)",
)
_LOTS = ("CREATE INDEX orders_pending ON orders (park_uuid, opened_run) WHERE state = 'pending'",)
_FEWER = (
    "DROP INDEX schedule_opened",
    "DROP INDEX orders_state",
    "CREATE INDEX orders_over ON orders (state) WHERE state != 'pending'",
)
STEPS = (_FIRST, _LOTS, _FEWER)
VERSION = len(STEPS)


def check(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the file, 0 for a new one, read without a write.

    Raises StoreMovedError, StoreTooNewError, and StoreCorruptError where the file is another program's.
    """
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if mark.is_marked(connection, version):
        raise StoreMovedError(mark.told(mark.read(connection), path))
    if version > VERSION:
        raise StoreTooNewError(
            f"{path} is a store of version {version} and this program knows {VERSION} at most: it was left "
            "untouched; install the newer program again"
        )
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version <= 0 and tables:
        raise corrupt(path, "it is another program's database")
    return version


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file to the newest version, all steps in one transaction. Raises as `check` does."""
    version = check(connection, path)
    if version == VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in STEPS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
