"""The SQL of orders: taking them on, and reading them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from poller.core.documents import compact_json, same_json
from poller.core.orders import NewOrder, Order, OrderKey, State
from poller.ports import Accepted, Differs, Known, Pending, Submitted, UnknownOrderError
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.history import LAST, Tail
from poller.stores.postgres.lane import Transaction
from poller.stores.postgres.notes import settle
from poller.stores.postgres.rows import ENTRY, NO_ID, ORDER, ORDER_WIDTH, columns, cut, entry_of, order_of

_FROM = f"FROM orders o LEFT JOIN schedule s ON s.order_id = o.id {LAST}"
_FROM_PENDING = f"FROM schedule s JOIN orders o ON o.id = s.order_id {LAST}"
_BY_KEY = "JOIN unnest($1::text[], $2::text[]) AS k (p, q) ON o.park_uuid = k.p AND o.pay_partner = k.q"
LOAD = (
    f"SELECT {ORDER}, s.holder, h.n, {ENTRY} FROM orders o {_BY_KEY} "  # noqa: S608
    f"LEFT JOIN schedule s ON s.order_id = o.id {LAST}"
)
_FIND = f"SELECT {ORDER} {_FROM} WHERE o.park_uuid = $1 AND o.pay_partner = $2"
_NUMBERED = f"SELECT {ORDER} {_FROM} WHERE o.id = ANY($1::bigint[])"
LOCK = f"SELECT o.id FROM orders o {_BY_KEY} ORDER BY o.id FOR NO KEY UPDATE OF o"  # noqa: S608
_TAKE_ON = (
    "INSERT INTO orders (park_uuid, pay_partner, state, metadata, accepted_at, opened_run) "
    "SELECT park_uuid, pay_partner, 'pending', metadata, accepted_at, opened_run FROM unnest($1::text[], "
    "$2::text[], $3::text[], $4::timestamptz[], $5::float8[]) WITH ORDINALITY "
    "AS n (park_uuid, pay_partner, metadata, accepted_at, opened_run, place) ORDER BY place "
    "ON CONFLICT (park_uuid, pay_partner) DO NOTHING RETURNING id, park_uuid, pay_partner"
)
_SCHEDULE = (
    "INSERT INTO schedule (order_id, due, opened_run, holder) "
    "SELECT id, due, run, $4 FROM unnest($1::bigint[], $2::float8[], $3::float8[]) AS n (id, due, run)"
)


@dataclass(frozen=True, slots=True)
class Submission:
    """One call of `Store.submit`."""

    orders: Sequence[NewOrder]
    at: datetime
    run: float
    due: float


@dataclass(slots=True)
class Loaded:
    """An order, the session that holds it, and the end of its history."""

    order: Order
    holder: int | None
    tail: Tail


async def submit(transaction: Transaction, calls: Sequence[Submission]) -> Sequence[list[Submitted]]:
    """Take orders on and hold them, one answer each; a number that comes twice is taken on the first time."""
    first: dict[OrderKey, tuple[NewOrder, Submission]] = {}
    for call in calls:
        for new in call.orders:
            first.setdefault(new.key, (new, call))
    taken = await _take_on(transaction, first)
    known: dict[OrderKey, Order] = dict(taken)
    others = [key for key in first if key not in taken]
    if others:
        await settle(transaction)
        known |= {key: loaded.order for key, loaded in (await load(transaction.connection, others)).items()}
    answers: list[list[Submitted]] = []
    for call in calls:
        answers.append([])
        for new in call.orders:
            order = known[new.key]
            if order is taken.pop(new.key, None):
                pending = Pending(order.id, new.key, order.opened_run, call.due)
                answers[-1].append(Accepted(order, pending))
            else:
                answers[-1].append(_recognise(order, new))
    return answers


async def _take_on(
    transaction: Transaction, new: dict[OrderKey, tuple[NewOrder, Submission]]
) -> dict[OrderKey, Order]:
    rows = [(*key, compact_json(one.metadata), cut(call.at), call.run) for key, (one, call) in new.items()]
    entered = await transaction.write(_TAKE_ON, *columns(rows, 5))
    taken: dict[OrderKey, Order] = {}
    for number, *name in entered:
        key = OrderKey(*name)
        one, call = new[key]
        taken[key] = Order(
            id=number,
            key=key,
            state=State.PENDING,
            metadata=json.loads(compact_json(one.metadata)),
            accepted_at=cut(call.at),
            opened_run=call.run,
            due=call.due,
        )
    if taken:
        scheduled = [(order.id, order.due, order.opened_run) for order in taken.values()]
        await transaction.write(_SCHEDULE, *columns(scheduled, 3), transaction.me)
    transaction.held_orders.hold(order.id for order in taken.values())
    transaction.tally.add(pending=len(taken))
    return taken


def _recognise(order: Order, new: NewOrder) -> Known | Differs:
    same = same_json(order.metadata, json.loads(compact_json(new.metadata)))
    return Known(order) if same else Differs(order)


async def load(connection: Connection, keys: Collection[OrderKey]) -> dict[OrderKey, Loaded]:
    """Those of the orders that there are."""
    loaded: dict[OrderKey, Loaded] = {}
    for row in await connection.fetch(LOAD, *columns(keys, 2)):
        order, (holder, n, *entry) = order_of(row), row[ORDER_WIDTH:]
        tail = Tail(order.id) if n is None else Tail(order.id, n, entry_of(entry))
        loaded[order.key] = Loaded(order, holder, tail)
    return loaded


async def find(connection: Connection, key: OrderKey) -> Order | None:
    """One order with its last answer."""
    row = await connection.fetchrow(_FIND, *key)
    return None if row is None else order_of(row)


async def newest(
    connection: Connection, state: State | None, park_uuid: str | None, limit: int, before: int | None
) -> list[Order]:
    """Newest first, with ids below `before`."""
    bound: list[object] = [NO_ID if before is None else before]
    source, wanted, order = _FROM, ["o.id < $1"], "o.id DESC"
    if state is State.PENDING:  # those who have ended left dead entries in every other index
        source, wanted, order = _FROM_PENDING, ["s.order_id < $1"], "s.order_id DESC"
    elif state is not None:  # written so that only `orders_state` has this order
        wanted = [f"o.state <> 'pending' AND o.state >= '{state}' AND (o.state, o.id) < ('{state}', $1)"]
        order = "o.state DESC, o.id DESC"
    if park_uuid is not None:
        bound.append(park_uuid)
        # By `orders_lot`, since that of the numbers is in no useful order; what is pending is walked as it is.
        lot = "o.park_uuid || '' || ''" if state is State.PENDING else "o.park_uuid || ''"
        wanted.append(f"{lot} = $2")
    where = " AND ".join(wanted)
    rows = await connection.fetch(
        f"SELECT {ORDER} {source} WHERE {where} ORDER BY {order} LIMIT ${len(bound) + 1}", *bound, limit
    )
    return [order_of(row) for row in rows]


async def numbered(connection: Connection, ids: Sequence[int]) -> list[Order]:
    """The orders with these ids, which exist, in their order."""
    if not ids:
        return []
    found = {order.id: order for order in map(order_of, await connection.fetch(_NUMBERED, list(ids)))}
    return [found[number] for number in ids]


def unknown(key: OrderKey) -> UnknownOrderError:
    return UnknownOrderError(f"there is no order {key.pay_partner!r} of lot {key.park_uuid!r}")
