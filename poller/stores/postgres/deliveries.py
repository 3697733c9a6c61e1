"""The SQL of the outbox: notices and how far they have come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poller.core.delivery import DeliveryState
from poller.core.orders import NoticeType, OrderKey
from poller.ports import Attempt, Delivery, Making, Notice, UnknownOrderError
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.herald import Hint
from poller.stores.postgres.lane import Transaction
from poller.stores.postgres.notes import settle_logged, settle_releases
from poller.stores.postgres.rows import DELIVERY, NO_ID, NOTICE, columns, cut, delivery_of, notice_of, storable

_FROM = "FROM deliveries d JOIN orders o ON o.id = d.order_id"
_FIRST_OF_ITS_ORDER = (  # and none of that order is under way
    "NOT EXISTS (SELECT FROM deliveries e WHERE e.order_id = d.order_id AND e.state || '' = 'pending' "
    "AND (e.id < d.id OR e.holder IS NOT NULL))"
)
_READY = f"d.state = 'pending' AND d.holder IS NULL AND {_FIRST_OF_ITS_ORDER}"
# The same of rows that are looked up by their ids: written so that no index is tried for it.
_STILL_PENDING = "d.state || '' = 'pending' AND coalesce(d.holder, 0) = 0"
# Whoever makes a notice of an order pending, or holds one, has locked the order: so what the second statement
# sees of its other notices is how they are.
DUE = (
    f"SELECT d.id {_FROM} WHERE {_READY} AND d.due <= $1 ORDER BY d.due, d.id LIMIT $2 "
    "FOR NO KEY UPDATE OF o SKIP LOCKED"
)
DUE_FRESHEST = DUE.replace("ORDER BY d.due, d.id", "ORDER BY d.due DESC, d.id DESC")
CLAIM = (
    "UPDATE deliveries d SET holder = $2 FROM orders o, unnest($1::bigint[]) AS n (number) "  # noqa: S608
    f"WHERE d.id = n.number AND o.id = d.order_id AND {_STILL_PENDING} AND {_FIRST_OF_ITS_ORDER} "
    f"RETURNING {DELIVERY}"
)
NEXT = f"SELECT d.due FROM deliveries d WHERE {_READY} ORDER BY d.due, d.id LIMIT 1"  # noqa: S608
_BRING_FORWARD = (
    "WITH later AS MATERIALIZED (SELECT id FROM deliveries WHERE state = 'pending' AND due > $1 AND id < $2 "  # noqa: S608
    "ORDER BY id DESC LIMIT $3), moved AS (UPDATE deliveries d SET due = $1 FROM later l "
    f"WHERE d.id = l.id AND {_STILL_PENDING}) SELECT min(id), count(*) FROM later"
)
UNLOGGED = (  # what other daemons have made they tell themselves
    f"SELECT {NOTICE} {_FROM} WHERE NOT d.logged AND (d.teller IS NULL OR d.teller = $2) ORDER BY d.id LIMIT $1"
)
_BY_EVENT = f"SELECT {DELIVERY} {_FROM} WHERE d.event_id = $1"
_NUMBERED = f"SELECT d.order_id, {DELIVERY} {_FROM} WHERE d.id = ANY($1::bigint[])"
_MAKE = (
    "INSERT INTO deliveries (event_id, order_id, type, body, made_at, made_run, state, due, teller) "
    "SELECT event_id, order_id, type, body, made_at, made_run, state, due, $9 FROM unnest($1::text[], "
    "$2::bigint[], $3::text[], $4::text[], $5::timestamptz[], $6::float8[], $7::text[], $8::float8[]) "
    "WITH ORDINALITY AS n (event_id, order_id, type, body, made_at, made_run, state, due, place) ORDER BY place"
)
_LOCK = "SELECT id, state, holder FROM deliveries WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE"
_RECORD = (
    "UPDATE deliveries d SET state = n.state, attempts = d.attempts + n.tries, due = n.due, last_error = n.error, "
    "last_status = n.status, last_at = n.at, holder = NULL FROM unnest($1::bigint[], $2::text[], $3::int[], "
    "$4::float8[], $5::text[], $6::int[], $7::timestamptz[]) AS n (id, state, tries, due, error, status, at) "
    "WHERE d.id = n.id"
)
_LOCK_ORDER = (
    "SELECT o.id FROM orders o WHERE o.id = (SELECT order_id FROM deliveries WHERE event_id = $1) "
    "FOR NO KEY UPDATE"
)
_AGAIN = (
    "UPDATE deliveries SET state = 'pending', due = $2, made_run = $3 WHERE event_id = $1 AND holder IS NULL "
    "RETURNING id"
)


@dataclass(frozen=True, slots=True)
class New:
    """A notice to be made."""

    order_id: int
    kind: NoticeType
    making: Making
    body: str


async def make(transaction: Transaction, notices: Sequence[New]) -> None:
    """Write notices, whose orders are locked, in their order."""
    if not notices:
        return
    await transaction.write(_MAKE, *columns(map(_new_row, notices), 8), transaction.me)
    transaction.hints.add(Hint.CHANGED)
    transaction.tally.add(undelivered=sum(notice.making.webhook for notice in notices))


def _new_row(notice: New) -> Sequence[object]:
    making = notice.making
    state = DeliveryState.PENDING if making.webhook else DeliveryState.LOGGED
    return (
        making.event_id,
        notice.order_id,
        notice.kind.value,
        notice.body,
        cut(making.at),
        making.run,
        state.value,
        making.due if making.webhook else None,
    )


async def claim(transaction: Transaction, by: float, limit: int, *, freshest: bool) -> list[Delivery]:
    """Hold the longest due, or the freshest, of those that nobody holds, one of an order."""
    await settle_releases(transaction)
    found = await transaction.connection.fetch(DUE_FRESHEST if freshest else DUE, by, limit)
    if not found:
        return []
    rows = await transaction.write(CLAIM, [number for (number,) in found], transaction.me)
    claimed = {delivery.notice.id: delivery for delivery in map(delivery_of, rows)}
    transaction.held_deliveries.hold(claimed)
    return [claimed[number] for (number,) in found if number in claimed]


async def bring_forward(transaction: Transaction, due: float, limit: int, before: int | None) -> int | None:
    """Make those that wait for later due then, newest first; the lowest id looked at, None at the end."""
    below = NO_ID if before is None else before
    [(lowest, count)] = await transaction.write(_BRING_FORWARD, due, below, limit)
    return lowest if count == limit else None


async def record(transaction: Transaction, attempts: Sequence[Attempt]) -> Sequence[UnknownOrderError | None]:
    """Write tries down and give the deliveries back.

    Of one that is another daemon's now, or that was lost and is nobody's, nothing is written: it is tried anew.
    """
    ids = sorted({attempt.id for attempt in attempts})
    states: dict[int, DeliveryState] = {}
    others: set[int] = set()
    for number, state, holder in await transaction.connection.fetch(_LOCK, ids):
        states[number] = DeliveryState(state)
        if holder != transaction.me and (holder is not None or transaction.deliveries.is_lost(number)):
            others.add(number)
    rows: dict[int, Sequence[object]] = {}
    for attempt in attempts:
        if attempt.id not in states or attempt.id in others:
            continue
        tries = rows[attempt.id][2] if attempt.id in rows else 0
        rows[attempt.id] = _attempt_row(attempt, int(str(tries)) + 1)
        _count(transaction, states[attempt.id], attempt.state)
        states[attempt.id] = attempt.state
    if rows:
        await transaction.write(_RECORD, *columns(rows.values(), 7))
        transaction.held_deliveries.release(rows)
    return [
        None if attempt.id in states else UnknownOrderError(f"there is no notice {attempt.id}")
        for attempt in attempts
    ]


def _attempt_row(attempt: Attempt, tries: int) -> Sequence[object]:
    return (
        attempt.id,
        attempt.state.value,
        tries,
        attempt.due if attempt.state is DeliveryState.PENDING else None,
        storable(attempt.error),
        attempt.status,
        cut(attempt.at),
    )


async def again(transaction: Transaction, event_id: str, *, run: float, due: float) -> Delivery:
    """Make a delivery pending again; one that is under way stays as it is. Raises UnknownOrderError."""
    await transaction.connection.fetch(_LOCK_ORDER, event_id)
    delivery = await _load(transaction.connection, event_id)
    if not await transaction.write(_AGAIN, event_id, due, run):
        return delivery
    _count(transaction, delivery.state, DeliveryState.PENDING)
    return await _load(transaction.connection, event_id)


async def next_due(connection: Connection) -> float | None:
    """When the next that `claim` would give is due."""
    due: float | None = await connection.fetchval(NEXT)
    return due


async def some(
    connection: Connection,
    state: DeliveryState | None,
    key: OrderKey | None,
    limit: int,
    *,
    before: int | None,
    after: int | None,
    complete: int | None,
) -> list[Delivery]:
    """Newest first, or with `after` oldest first; up to `complete` where it is given."""
    wanted, bound = ["true"], list[object]()
    if key is not None:
        bound += key
        wanted.append("d.order_id = (SELECT id FROM orders WHERE park_uuid = $1 AND pay_partner = $2)")
    for condition, value in (("d.id <", before), ("d.id >", after), ("d.id <=", complete)):
        if value is not None:
            bound.append(value)
            wanted.append(f"{condition} ${len(bound)}")
    direction = "DESC" if after is None else "ASC"
    order = f"d.id {direction}"
    if state is not None and key is not None:  # an order has few
        wanted.append(f"d.state || '' = '{state}'")
    elif state is not None:  # written so that only `deliveries_state` has this order
        bound.append(NO_ID if before is None else before)
        beyond = f"(d.state, d.id) < ('{state}', ${len(bound)}) AND d.state >= '{state}'"
        if after is not None:
            bound[-1] = after
            beyond = f"(d.state, d.id) > ('{state}', ${len(bound)}) AND d.state <= '{state}'"
        wanted.append(beyond)
        order = f"d.state {direction}, {order}"
    where = " AND ".join(wanted)
    rows = await connection.fetch(
        f"SELECT {DELIVERY} {_FROM} WHERE {where} ORDER BY {order} LIMIT ${len(bound) + 1}", *bound, limit
    )
    return [delivery_of(row) for row in rows]


async def find(connection: Connection, event_id: str) -> Delivery | None:
    """One delivery."""
    row = await connection.fetchrow(_BY_EVENT, event_id)
    return None if row is None else delivery_of(row)


async def numbered(connection: Connection, ids: Sequence[int]) -> list[tuple[int, Delivery]]:
    """The deliveries with these ids, which exist, in their order, each with its order's id."""
    if not ids:
        return []
    found = {row[1]: (row[0], delivery_of(row[1:])) for row in await connection.fetch(_NUMBERED, list(ids))}
    return [found[number] for number in ids]


async def unlogged(transaction: Transaction, limit: int) -> list[Notice]:
    """Oldest first."""
    await settle_logged(transaction)
    return [notice_of(row) for row in await transaction.connection.fetch(UNLOGGED, limit, transaction.me)]


def _count(transaction: Transaction, before: DeliveryState, after: DeliveryState) -> None:
    transaction.tally.add(
        undelivered=(after is DeliveryState.PENDING) - (before is DeliveryState.PENDING),
        given_up=(after is DeliveryState.DEAD) - (before is DeliveryState.DEAD),
    )


async def _load(connection: Connection, event_id: str) -> Delivery:
    delivery = await find(connection, event_id)
    if delivery is None:
        raise UnknownOrderError(f"there is no notice {event_id!r}")
    return delivery
