"""The SQL of the outbox: notices and how far they have come."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from itertools import islice

from poller.core.delivery import DeliveryState
from poller.core.orders import NoticeType, Order, OrderKey
from poller.ports import Attempt, Delivery, Making, Notice, UnknownOrderError
from poller.stores.sqlite.holds import DeliveryHolds
from poller.stores.sqlite.rows import DELIVERY, NOTICE, delivery_of, notice_of, to_ms, whole_ms
from poller.stores.sqlite.tally import Tally

NO_ID = 2**63 - 1  # above every id

_FROM = "FROM deliveries d CROSS JOIN orders o ON o.id = d.order_id"
_FROM_DUE = "FROM deliveries d INDEXED BY deliveries_due"  # the planner takes `state`'s, and sorts
_FIRST_OF_ITS_ORDER = (
    "NOT EXISTS (SELECT 1 FROM deliveries e WHERE e.order_id = d.order_id AND +e.state = 'pending' "
    "AND e.id < d.id)"
)
_DUE = (
    f"SELECT d.order_id, {DELIVERY} {_FROM_DUE} CROSS JOIN orders o ON o.id = d.order_id "
    f"WHERE d.state = 'pending' AND d.due <= ? AND {_FIRST_OF_ITS_ORDER}"
)
DUE = f"{_DUE} ORDER BY d.due, d.id"
DUE_FRESHEST = f"{_DUE} ORDER BY d.due DESC, d.id DESC"
LATER = (
    "SELECT id FROM deliveries INDEXED BY deliveries_state "
    "WHERE state = 'pending' AND due > ? AND id < ? ORDER BY id DESC LIMIT ?"
)
NEXT = (
    f"SELECT d.order_id, d.due {_FROM_DUE} WHERE d.state = 'pending' "
    f"AND d.due IS NOT NULL AND {_FIRST_OF_ITS_ORDER} ORDER BY d.due, d.id"
)
UNLOGGED = f"SELECT {NOTICE} {_FROM} WHERE d.logged = 0 ORDER BY d.id"
_OLDER = "SELECT 1 FROM deliveries WHERE order_id = ? AND id < ? AND +state = 'pending'"
_BY_EVENT = f"SELECT {DELIVERY} {_FROM} WHERE d.event_id = ?"
_NUMBERED = f"SELECT d.order_id, {DELIVERY} {_FROM} WHERE d.id = ?"


def make(
    connection: sqlite3.Connection, holds: DeliveryHolds, order: Order, kind: NoticeType, making: Making
) -> tuple[Notice | None, Delivery | None]:
    """Write the notice of a change that made `order`; what of it is handed over, held."""
    state = DeliveryState.PENDING if making.webhook else DeliveryState.LOGGED
    due = making.due if making.webhook else None
    body = making.body(kind, order)
    number = connection.execute(
        "INSERT INTO deliveries (event_id, order_id, type, body, made_at, made_run, state, due) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            making.event_id,
            order.id,
            kind.value,
            body,
            to_ms(making.at),
            making.run,
            state.value,
            due,
        ),
    ).lastrowid
    if number is None or not making.tell:
        return None, None
    holds.tell(number)
    notice = Notice(number, making.event_id, kind, order.key, body, whole_ms(making.at), making.run)
    if not (making.send and making.webhook) or _has_older(connection, order.id, number):
        return notice, None
    holds.hold(number, order.id)
    return notice, Delivery(notice, state, due=due)


def _has_older(connection: sqlite3.Connection, order_id: int, number: int) -> bool:
    """Whether an older notice of the order is still to be sent, or under way."""
    return connection.execute(_OLDER, (order_id, number)).fetchone() is not None


def claim(
    connection: sqlite3.Connection, holds: DeliveryHolds, by: float, limit: int, *, freshest: bool
) -> list[Delivery]:
    """Hold the longest due, or the freshest, of those that nobody holds, one of an order."""
    claimed: list[Delivery] = []
    busy = holds.busy_orders()
    with closing(connection.execute(DUE_FRESHEST if freshest else DUE, (by,))) as rows:
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


def bring_forward(
    connection: sqlite3.Connection, holds: DeliveryHolds, due: float, limit: int, before: int | None
) -> int | None:
    """Make those that wait for later due then, newest first; the lowest id looked at, None at the end."""
    ids = [number for (number,) in connection.execute(LATER, (due, NO_ID if before is None else before, limit))]
    connection.executemany(
        "UPDATE deliveries SET due = ? WHERE id = ?", [(due, number) for number in ids if number not in holds]
    )
    return ids[-1] if len(ids) == limit else None


def record(connection: sqlite3.Connection, holds: DeliveryHolds, tally: Tally, attempt: Attempt) -> None:
    """Write down one try and give the delivery back. Raises UnknownOrderError."""
    row = connection.execute("SELECT state FROM deliveries WHERE id = ?", (attempt.id,)).fetchone()
    if row is None:
        raise UnknownOrderError(f"there is no notice {attempt.id}")
    pending = attempt.state is DeliveryState.PENDING
    connection.execute(
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
    _moved(tally, DeliveryState(row[0]), attempt.state)
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


def numbered(connection: sqlite3.Connection, ids: Iterable[int]) -> list[tuple[int, Delivery]]:
    """The deliveries with these ids, which exist, in their order, each with its order's id."""
    rows = [connection.execute(_NUMBERED, (number,)).fetchone() for number in ids]
    return [(row[0], delivery_of(row[1:])) for row in rows]


def again(
    connection: sqlite3.Connection, holds: DeliveryHolds, tally: Tally, event_id: str, *, run: float, due: float
) -> Delivery:
    """Make a delivery pending again; one that is under way stays as it is. Raises UnknownOrderError."""
    delivery = _load(connection, event_id)
    if delivery.notice.id in holds:
        return delivery
    connection.execute(
        "UPDATE deliveries SET state = 'pending', due = ?, made_run = ? WHERE id = ?",
        (due, run, delivery.notice.id),
    )
    _moved(tally, delivery.state, DeliveryState.PENDING)
    return _load(connection, event_id)


def unlogged(connection: sqlite3.Connection, holds: DeliveryHolds, limit: int) -> list[Notice]:
    """Oldest first, but those that somebody is about to log."""
    with closing(connection.execute(UNLOGGED)) as rows:
        return list(islice((notice for notice in map(notice_of, rows) if not holds.tells(notice.id)), limit))


def write_logged(connection: sqlite3.Connection, holds: DeliveryHolds, ids: Collection[int]) -> None:
    """Note that these have been logged."""
    connection.executemany("UPDATE deliveries SET logged = 1 WHERE id = ?", _singles(ids))
    for number in ids:
        holds.told(number)


def _moved(tally: Tally, before: DeliveryState, after: DeliveryState) -> None:
    tally.add(
        undelivered=(after is DeliveryState.PENDING) - (before is DeliveryState.PENDING),
        dead=(after is DeliveryState.DEAD) - (before is DeliveryState.DEAD),
    )


def _load(connection: sqlite3.Connection, event_id: str) -> Delivery:
    delivery = find(connection, event_id)
    if delivery is None:
        raise UnknownOrderError(f"there is no notice {event_id!r}")
    return delivery


def _singles(ids: Iterable[int]) -> Iterator[tuple[int]]:
    return ((number,) for number in ids)
