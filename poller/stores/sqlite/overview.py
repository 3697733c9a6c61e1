"""The SQL of what people see at a glance. Each query walks an index that holds what it looks for and no more."""

from __future__ import annotations

import sqlite3

from poller.core.orders import Order, State
from poller.ports.records import COUNTED, RECENT, Ended, Ending, Group, Overview, Settlement, Since, Undelivered
from poller.stores.settled import SettledOrder, counting
from poller.stores.settled import settlements as settled
from poller.stores.sqlite import deliveries, orders
from poller.stores.sqlite.rows import from_ms, to_ms

WAITING = "SELECT order_id FROM schedule WHERE untold = 1 ORDER BY opened_run DESC"
UNDECIDED = "SELECT order_id FROM schedule WHERE untold = 0 ORDER BY opened_run DESC"
CONFLICTING = "SELECT id FROM orders WHERE conflict_at IS NOT NULL AND conflict_at >= ? ORDER BY conflict_at DESC"
LATE = (
    "SELECT id FROM orders WHERE ended_run IS NOT NULL AND undecided_at IS NOT NULL AND ended_run >= ? "
    "ORDER BY ended_run DESC"
)
RESULTS = "SELECT id FROM orders WHERE ended_run IS NOT NULL ORDER BY ended_run DESC"
DEAD = "SELECT id FROM deliveries WHERE state = 'dead' ORDER BY id DESC"
PENDING = (
    "SELECT id FROM (SELECT id, made_run FROM deliveries INDEXED BY deliveries_state WHERE state = 'pending' "
    "ORDER BY id LIMIT 500) WHERE made_run <= ?"
)
ENDED = (
    "SELECT ended_run, id, state, final_at, opened_run FROM orders "
    "WHERE ended_run IS NOT NULL AND (ended_run, id) > (?, ?) ORDER BY ended_run, id LIMIT ?"
)
SETTLED = (
    "SELECT id, park_uuid, ended_run - opened_run, final_at, state FROM orders "
    "WHERE ended_run IS NOT NULL ORDER BY ended_run DESC, id DESC LIMIT ?"
)
IN_PROGRESS = (
    "SELECT last_at FROM history WHERE order_id = ? AND status = '0' AND error IS NULL ORDER BY n DESC LIMIT 1"
)


def overview(connection: sqlite3.Connection, since: Since, limit: int) -> Overview:
    """What stands now."""
    return Overview(
        waiting=_group(connection, WAITING, (), limit),
        undecided=_group(connection, UNDECIDED, (), limit),
        conflicting=_group(connection, CONFLICTING, (to_ms(since.conflicts),), limit),
        late=_group(connection, LATE, (since.late,), limit),
        undelivered=_undelivered(connection, since.undelivered, limit),
        results=orders.numbered(connection, _ids(connection, RESULTS, (), limit)),
    )


def ended(connection: sqlite3.Connection, after: Ending, limit: int) -> list[Ended]:
    """Oldest first."""
    return [
        Ended(Ending(run, number), State(state), from_ms(final_at), run - opened_run)
        for run, number, state, final_at, opened_run in connection.execute(ENDED, (*after, limit))
    ]


def settlements(connection: sqlite3.Connection, limit: int) -> list[Settlement]:
    """Oldest first."""
    rows = connection.execute(SETTLED, (RECENT,))
    ended = (SettledOrder(number, lot, by, from_ms(final_at), state) for number, lot, by, final_at, state in rows)
    counted = counting(ended, limit)
    found = ((order.id, connection.execute(IN_PROGRESS, (order.id,)).fetchone()) for order in counted)
    return settled(counted, {number: from_ms(row[0]) for number, row in found if row is not None})


def _group(connection: sqlite3.Connection, sql: str, bound: tuple[object, ...], limit: int) -> Group[Order]:
    ids = _ids(connection, sql, bound, COUNTED)
    return Group(orders.numbered(connection, ids[:limit]), len(ids))


def _undelivered(connection: sqlite3.Connection, made_by: float, limit: int) -> Group[Undelivered]:
    ids = _ids(connection, DEAD, (), COUNTED) + _ids(connection, PENDING, (made_by,), COUNTED)
    found = deliveries.numbered(connection, ids[:limit])
    of_them = orders.numbered(connection, [order_id for order_id, _ in found])
    shown = [Undelivered(delivery, order) for (_, delivery), order in zip(found, of_them, strict=True)]
    return Group(shown, min(len(ids), COUNTED))


def _ids(connection: sqlite3.Connection, sql: str, bound: tuple[object, ...], limit: int) -> list[int]:
    return [number for (number,) in connection.execute(f"{sql} LIMIT ?", (*bound, limit))]
