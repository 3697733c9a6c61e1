"""The mark on a file whose orders have gone, or are going, to another store: where to, and how far.

It is also in the file's version, which it puts above any other: so a program that does not know of marks takes
the file for a newer one's, and leaves it alone, too.
"""

from __future__ import annotations

import sqlite3
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from shlex import quote

MOVED = 1_000_000  # and the version of the tables
ABOVE_ALL = 2**63 - 1  # ids

_TABLES = (
    """CREATE TABLE moved (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        url TEXT NOT NULL,
        place TEXT NOT NULL,
        target TEXT NOT NULL,
        ids INTEGER NOT NULL,
        done INTEGER NOT NULL,
        ended INTEGER NOT NULL,
        below INTEGER NOT NULL,
        orders INTEGER NOT NULL,
        pending INTEGER NOT NULL,
        notices INTEGER NOT NULL,
        undelivered INTEGER NOT NULL,
        known INTEGER NOT NULL
    )""",
    """CREATE TABLE moved_differing (
        order_id INTEGER PRIMARY KEY,
        park_uuid TEXT NOT NULL,
        pay_partner TEXT NOT NULL,
        here TEXT NOT NULL,
        there TEXT NOT NULL
    )""",
)
_HAS = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'moved'"


@dataclass(frozen=True, slots=True)
class Mark:
    """`url` and `place` say where to, `target` which server, database and schema that was when it began.

    `ids` is added to each id. Pending orders go first, then those that have `ended`, newest first; all down to
    the id `below` are there. `orders` with their `notices` were moved, `pending` and `undelivered` of them;
    `known` ones were there already.
    """

    url: str
    place: str
    target: str
    ids: int
    done: bool = False
    ended: bool = False
    below: int = ABOVE_ALL
    orders: int = 0
    pending: int = 0
    notices: int = 0
    undelivered: int = 0
    known: int = 0


_NAMES = [field.name for field in fields(Mark)]
_WRITE = (
    f"INSERT OR REPLACE INTO moved (id, {', '.join(_NAMES)}) "  # noqa: S608
    f"VALUES (1, {', '.join('?' for _ in _NAMES)})"
)
_READ = f"SELECT {', '.join(_NAMES)} FROM moved"  # noqa: S608


def is_marked(connection: sqlite3.Connection, version: int) -> bool:
    """Whether a file of that version has a mark."""
    return version > MOVED and bool(connection.execute(_HAS).fetchone()[0])


def make(connection: sqlite3.Connection, mark: Mark, version: int) -> None:
    """Put a mark on a file whose tables are of that version, in a transaction of the caller's."""
    for table in _TABLES:
        connection.execute(table)
    write(connection, mark)
    connection.execute(f"PRAGMA user_version = {MOVED + version}")


def write(connection: sqlite3.Connection, mark: Mark) -> None:
    """Write down how far it has come."""
    connection.execute(_WRITE, astuple(mark))


def read(connection: sqlite3.Connection) -> Mark:
    """The mark of a file that has one."""
    url, place, target, ids, done, ended, *counted = connection.execute(_READ).fetchone()
    return Mark(url, place, target, ids, bool(done), bool(ended), *counted)


def told(mark: Mark, path: Path) -> str:
    """Where the orders are, and what to do, for people."""
    if mark.done:
        return (
            f"{path} was moved to PostgreSQL at {mark.place}, and no daemon takes it up again: name that in "
            "[store] url"
        )
    command = f"poller migrate-store {quote(f'sqlite:///{path.absolute()}')} {quote(mark.url)}"
    return f"{path} is on its way to PostgreSQL at {mark.place}, half moved: end that with `{command}`"
