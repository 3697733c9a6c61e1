"""The SQL of what is pending: who is due, who is to be told, and what queries that ended nothing left."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing

from poller.core.orders import OrderKey, State
from poller.ports import Pending, UnknownOrderError
from poller.stores.notes import Noted
from poller.stores.sqlite.holds import OrderHolds
from poller.stores.sqlite.orders import append_history
from poller.stores.sqlite.rows import PENDING, pending_of
from poller.stores.youngest import FRESHEST_OF, looked_at

LONGEST_OVERDUE = (
    f"SELECT {PENDING} FROM schedule s CROSS JOIN orders o ON o.id = s.order_id "  # noqa: S608
    "WHERE (s.due, s.order_id) > (?, ?) AND s.due <= ? ORDER BY s.due, s.order_id"
)
YOUNGEST = (  # both parts come in order, by an index each, and are merged
    "SELECT order_id, due, opened_run FROM schedule WHERE untold = 1 UNION ALL "
    "SELECT order_id, due, opened_run FROM schedule WHERE untold = 0 "
    "ORDER BY opened_run DESC, order_id DESC LIMIT ?"
)
YOUNGEST_OF_LOT = (
    "SELECT o.id, s.due FROM orders o CROSS JOIN schedule s ON s.order_id = o.id WHERE o.park_uuid = ? "
    "AND o.state = 'pending' ORDER BY o.opened_run DESC, o.id DESC LIMIT ?"
)
UNDECIDED = (
    "SELECT o.park_uuid, o.pay_partner FROM schedule s CROSS JOIN orders o ON o.id = s.order_id "
    "WHERE s.untold = 1 AND s.opened_run <= ? ORDER BY s.opened_run, s.order_id LIMIT ?"
)
OLDEST_UNTOLD = "SELECT min(opened_run) FROM schedule WHERE untold = 1"
_COUNT = "UPDATE schedule SET polls = polls + ? WHERE order_id = ? RETURNING polls"
_PUT_OFF = "UPDATE schedule SET due = ?, errors = ?, polls = polls + ? WHERE order_id = ? RETURNING polls"
_ONE = f"SELECT {PENDING} FROM schedule s JOIN orders o ON o.id = s.order_id WHERE s.order_id = ?"  # noqa: S608
_ANY = (
    "SELECT o.id, o.opened_run, o.state, s.due, s.errors, s.cancelling FROM orders o "
    "LEFT JOIN schedule s ON s.order_id = o.id WHERE o.park_uuid = ? AND o.pay_partner = ?"
)


def claim_longest(connection: sqlite3.Connection, holds: OrderHolds, by: float, limit: int) -> list[Pending]:
    """Hold the longest overdue that nobody holds."""
    claimed: list[Pending] = []
    with closing(connection.execute(LONGEST_OVERDUE, (*holds.cursor, by))) as rows:
        seen: Pending | None = None
        for row in rows:
            if len(claimed) == limit:
                break
            seen = pending_of(row)
            if holds.hold(seen.id):
                claimed.append(seen)
    if seen is not None:
        holds.advance(seen.id, seen.due)
    return claimed


def claim_freshest(connection: sqlite3.Connection, holds: OrderHolds, by: float, limit: int) -> list[Pending]:
    """Hold the youngest that are due and that nobody holds, among the youngest few thousand."""
    return _claim(connection, holds, by, limit, connection.execute(YOUNGEST, (FRESHEST_OF,)))


def claim_of_lots(
    connection: sqlite3.Connection, holds: OrderHolds, by: float, wanted: Mapping[str, int]
) -> list[Pending]:
    """Hold the youngest of each lot that are due and that nobody holds, so many of each."""
    looks = looked_at(len(wanted))
    claimed: list[Pending] = []
    for lot, limit in wanted.items():
        claimed += _claim(connection, holds, by, limit, connection.execute(YOUNGEST_OF_LOT, (lot, looks)))
    return claimed


def _claim(
    connection: sqlite3.Connection, holds: OrderHolds, by: float, limit: int, rows: sqlite3.Cursor
) -> list[Pending]:
    """Hold so many that are due of those with whose number and due time the rows begin."""
    wanted: list[int] = []
    with closing(rows):
        for number, due, *_ in rows:
            if len(wanted) == limit:
                break
            if due <= by and holds.hold(number):
                wanted.append(number)
    return [pending_of(connection.execute(_ONE, (number,)).fetchone()) for number in wanted]


def one(connection: sqlite3.Connection, key: OrderKey) -> Pending:
    """One order in whatever state; `due` of a final one is 0. Raises UnknownOrderError."""
    row = connection.execute(_ANY, key).fetchone()
    if row is None:
        raise UnknownOrderError(f"there is no order {key.pay_partner!r} of lot {key.park_uuid!r}")
    number, opened_run, state, due, errors, cancelling = row
    return Pending(number, key, opened_run, due or 0.0, errors or 0, State(state), bool(cancelling))


def undecided(connection: sqlite3.Connection, opened_by: float, limit: int) -> list[OrderKey]:
    """Those of which the gate has not been told, opened by then, oldest first."""
    return [OrderKey(*row) for row in connection.execute(UNDECIDED, (opened_by, limit))]


def oldest_untold(connection: sqlite3.Connection) -> float | None:
    """When the oldest of which the gate has not been told was opened."""
    oldest: float | None = connection.execute(OLDEST_UNTOLD).fetchone()[0]
    return oldest


def write_noted(connection: sqlite3.Connection, holds: OrderHolds, orders: Mapping[int, Noted]) -> None:
    """Write down what was noted of each order, and let go of those given back."""
    for number, noted in orders.items():
        if noted.polls or noted.due is not None:
            _write_one(connection, number, noted)
        if noted.released:
            holds.release(number)
        if number not in holds:
            holds.reveal(number, noted.kept_due if noted.due is None else noted.due)


def _write_one(connection: sqlite3.Connection, number: int, noted: Noted) -> None:
    if noted.due is None:
        row = connection.execute(_COUNT, (noted.polls, number)).fetchone()
    else:
        row = connection.execute(_PUT_OFF, (noted.due, noted.errors, noted.polls, number)).fetchone()
    if noted.polls and row is None:  # the order has ended
        connection.execute("UPDATE orders SET polls = polls + ? WHERE id = ?", (noted.polls, number))
    if noted.runs:
        is_first = row is not None and row[0] == noted.polls
        append_history(connection, number, noted.runs, is_first=is_first)
