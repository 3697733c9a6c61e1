"""The SQL of the outbox: notices and how far they have come."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

from poller.core.delivery import DeliveryState
from poller.core.orders import NoticeType, Order, OrderKey
from poller.ports import Attempt, Delivery, Making, Notice, UnknownOrderError
from poller.stores.sqlite.holds import DeliveryHolds
from poller.stores.sqlite.rows import DELIVERY, NOTICE, delivery_of, notice_of, to_ms

_FROM = "FROM deliveries d CROSS JOIN orders o ON o.id = d.order_id"
_FROM_DUE = "FROM deliveries d INDEXED BY deliveries_due"  # the planner takes `state`'s, and sorts
_FIRST_OF_ITS_ORDER = (
    "NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.order_id = d.order_id AND +e.state = 'pending' "
    "AND e.id < d.id)"
)
DUE = (
    f"SELECT d.order_id, {DELIVERY} {_FROM_DUE} CROSS JOIN orders o ON o.id = d.order_id "
    f"WHERE d.state = 'pending' AND d.due <= ? AND {_FIRST_OF_ITS_ORDER} ORDER BY d.due, d.id"
)
NEXT = (
    f"SELECT d.order_id, d.due {_FROM_DUE} WHERE d.state = 'pending' "
    f"AND d.due IS NOT NULL AND {_FIRST_OF_ITS_ORDER} ORDER BY d.due, d.id"
)
UNLOGGED = f"SELECT {NOTICE} {_FROM} WHERE d.logged = 0 ORDER BY d.id LIMIT ?"
_BY_EVENT = f"SELECT {DELIVERY} {_FROM} WHERE d.event_id = ?"


def make(connection: sqlite3.Connection, order: Order, kind: NoticeType, making: Making) -> None:
    """Write the notice of a change that made `order`."""
    state = DeliveryState.PENDING if making.webhook else DeliveryState.LOGGED
    connection.execute(
        "INSERT INTO deliveries (event_id, order_id, type, body, made_at, made_run, state, due) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            making.event_id,
            order.id,
            kind.value,
            making.body(kind, order),
            to_ms(making.at),
            making.run,
            state.value,
            making.due if making.webhook else None,
        ),
    )


def claim(connection: sqlite3.Connection, holds: DeliveryHolds, by: float, limit: int) -> list[Delivery]:
    """Hold the longest due of those that nobody holds, one of an order."""
    claimed: list[Delivery] = []
    busy = holds.busy_orders()
    with closing(connection.execute(DUE, (by,))) as rows:
        for row in rows:
            if len(claimed) == limit:
                break
            order_id, delivery = row[0], delivery_of(row[1:])
            if order_id not in busy:
                busy.add(order_id)
                holds.hold(delivery.notice.id, order_id)
                claimed.append(delivery)
    return claimed


def next_due(connection: sqlite3.Connection, holds: DeliveryHolds) -> float | None:
    """When the next that `claim` would give is due."""
    busy = holds.busy_orders()
    with closing(connection.execute(NEXT)) as rows:
        return next((due for order_id, due in rows if order_id not in busy), None)


def record(connection: sqlite3.Connection, holds: DeliveryHolds, attempt: Attempt) -> None:
    """Write down one try and give the delivery back. Raises UnknownOrderError."""
    pending = attempt.state is DeliveryState.PENDING
    written = connection.execute(
        "UPDATE deliveries SET state = ?, attempts = attempts + 1, due = ?, last_error = ?, last_status = ?, "
        "last_at = ? WHERE id = ?",
        (
            attempt.state.value,
            attempt.due if pending else None,
            attempt.error,
            attempt.status,
            to_ms(attempt.at),
            attempt.id,
        ),
    )
    if not written.rowcount:
        raise UnknownOrderError(f"there is no notice {attempt.id}")
    holds.release(attempt.id)


def some(
    connection: sqlite3.Connection,
    state: DeliveryState | None,
    key: OrderKey | None,
    limit: int,
    *,
    before: int | None,
    after: int | None,
) -> list[Delivery]:
    """Newest first, or with `after` oldest first."""
    wanted: list[tuple[str, object]] = []
    if key is not None:
        wanted.append(("d.order_id = (SELECT id FROM orders WHERE park_uuid = ?", key.park_uuid))
        wanted.append(("pay_partner = ?)", key.pay_partner))
    if state is not None:
        column = "d.state" if key is None else "+d.state"  # an order has few
        wanted.append((f"{column} = ?", state.value))
    if before is not None:
        wanted.append(("d.id < ?", before))
    if after is not None:
        wanted.append(("d.id > ?", after))
    where = "WHERE " + " AND ".join(condition for condition, _ in wanted) if wanted else ""
    direction = "DESC" if after is None else "ASC"
    rows = connection.execute(
        f"SELECT {DELIVERY} {_FROM} {where} ORDER BY d.id {direction} LIMIT ?",
        (*(value for _, value in wanted), limit),
    )
    return [delivery_of(row) for row in rows]


def find(connection: sqlite3.Connection, event_id: str) -> Delivery | None:
    """One delivery."""
    row = connection.execute(_BY_EVENT, (event_id,)).fetchone()
    return None if row is None else delivery_of(row)


def again(connection: sqlite3.Connection, holds: DeliveryHolds, event_id: str, run: float, due: float) -> Delivery:
    """Make a delivery pending again; one that is under way stays as it is. Raises UnknownOrderError."""
    delivery = _load(connection, event_id)
    if delivery.notice.id in holds:
        return delivery
    connection.execute(
        "UPDATE deliveries SET state = 'pending', due = ?, made_run = ? WHERE id = ?",
        (due, run, delivery.notice.id),
    )
    return _load(connection, event_id)


def unlogged(connection: sqlite3.Connection, limit: int) -> list[Notice]:
    """Oldest first."""
    return [notice_of(row) for row in connection.execute(UNLOGGED, (limit,))]


def write_logged(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Note that these have been logged."""
    connection.executemany("UPDATE deliveries SET logged = 1 WHERE id = ?", _singles(ids))


def _load(connection: sqlite3.Connection, event_id: str) -> Delivery:
    delivery = find(connection, event_id)
    if delivery is None:
        raise UnknownOrderError(f"there is no notice {event_id!r}")
    return delivery


def _singles(ids: Iterable[int]) -> Iterator[tuple[int]]:
    return ((number,) for number in ids)
