"""The SQL of orders that move in from a lot's own store, with all that is kept of them.

They bring their ids along, which lie below 0: so they count as older than what was taken on here, nobody who reads
notices as they are made gets theirs again, and an order that is moved twice is recognised. In one transaction an
order comes whole or not at all, and nobody holds it: any daemon may take it up as soon as it is there.
"""

from __future__ import annotations

from collections.abc import Sequence

from poller.core.delivery import DeliveryState
from poller.core.documents import compact_json
from poller.core.orders import Order, State
from poller.stores.dossier import Dossier, Told
from poller.stores.postgres import history, transition
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.herald import Hint
from poller.stores.postgres.history import Tail
from poller.stores.postgres.lane import Transaction
from poller.stores.postgres.orders import load
from poller.stores.postgres.rows import columns, cut, kept_order, maybe_cut, storable

_ORDERS = (
    "INSERT INTO orders (id, park_uuid, pay_partner, state, metadata, accepted_at, undecided_at, final_at, "
    "conflict_at, opened_run, ended_run, polls, pay_serial, pay_origin, pay_origin_desc) OVERRIDING SYSTEM VALUE "
    "SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], "
    "$7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::float8[], $11::float8[], $12::int[], "
    "$13::text[], $14::text[], $15::text[]) ON CONFLICT (park_uuid, pay_partner) DO NOTHING RETURNING id"
)
_NOTICES = (
    "INSERT INTO deliveries (id, event_id, order_id, type, body, made_at, made_run, state, attempts, due, "
    "last_error, last_status, last_at, logged) OVERRIDING SYSTEM VALUE SELECT * FROM unnest($1::bigint[], "
    "$2::text[], $3::bigint[], $4::text[], $5::text[], $6::timestamptz[], $7::float8[], $8::text[], $9::int[], "
    "$10::float8[], $11::text[], $12::int[], $13::timestamptz[], $14::bool[])"
)
# The cluster's own number is told to anybody, but by a server that was set up to tell it to nobody.
_HERE = "SELECT current_database(), current_schema(), has_function_privilege('pg_control_system()', 'execute')"
_CLUSTER = "SELECT system_identifier::text FROM pg_control_system()"


async def identity(connection: Connection) -> str:
    """Which cluster, database and schema this is, by whatever name it was reached."""
    [(database, schema, may_know)] = await connection.fetch(_HERE)
    cluster = await connection.fetchval(_CLUSTER) if may_know else "unknown"
    return f"{cluster}/{database}/{schema}"


async def take_in(transaction: Transaction, dossiers: Sequence[Dossier]) -> list[Order | None]:
    """Write down those whose numbers are new here; for each of the others the order that is here, which stays.

    None is for what is new, or has been moved here before.
    """
    rows = [_order_row(dossier) for dossier in dossiers]
    entered = {number for (number,) in await transaction.write(_ORDERS, *columns(rows, 15))}
    new = [dossier for dossier in dossiers if dossier.order.id in entered]
    await transition.schedule(transaction, [one.order for one in new if one.order.state is State.PENDING])
    await history.write(transaction, map(_tail, new))
    notices = [_notice_row(one.order.id, told) for one in new for told in one.notices]
    if notices:
        await transaction.write(_NOTICES, *columns(notices, 14))
    _count(transaction, new)
    keys = [dossier.order.key for dossier in dossiers if dossier.order.id not in entered]
    here = await load(transaction.connection, keys) if keys else {}
    return [
        here[one.order.key].order
        if one.order.key in here and here[one.order.key].order.id != one.order.id
        else None
        for one in dossiers
    ]


def _count(transaction: Transaction, new: Sequence[Dossier]) -> None:
    orders = [one.order for one in new]
    states = [told.delivery.state for one in new for told in one.notices]
    transaction.tally.add(
        pending=sum(order.state is State.PENDING for order in orders),
        undecided=sum(order.state is State.PENDING and order.undecided_at is not None for order in orders),
        undelivered=states.count(DeliveryState.PENDING),
        given_up=states.count(DeliveryState.DEAD),
    )
    if new:
        transaction.hints |= {Hint.FREE, Hint.CHANGED}


def _tail(dossier: Dossier) -> Tail:
    tail = Tail(dossier.order.id)
    tail.append(dossier.history)
    return tail


def _order_row(dossier: Dossier) -> Sequence[object]:
    order = kept_order(dossier.order)
    return (
        order.id,
        *order.key,
        order.state.value,
        compact_json(order.metadata),
        cut(order.accepted_at),
        order.undecided_at,
        order.final_at,
        order.conflict_at,
        order.opened_run,
        dossier.ended_run,
        order.polls,
        order.payment.serial,
        order.payment.origin,
        order.payment.origin_desc,
    )


def _notice_row(number: int, told: Told) -> Sequence[object]:
    delivery, notice = told.delivery, told.delivery.notice
    return (
        notice.id,
        notice.event_id,
        number,
        notice.type.value,
        notice.body,
        cut(notice.made_at),
        notice.made_run,
        delivery.state.value,
        delivery.attempts,
        delivery.due,
        storable(delivery.last_error),
        delivery.last_status,
        maybe_cut(delivery.last_at),
        told.logged,
    )
