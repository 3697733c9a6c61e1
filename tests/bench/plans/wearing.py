"""Dead rows: as many as autovacuum lets a table have before it comes, left where daemons leave them."""

from __future__ import annotations

import time

from poller.stores.postgres.connection import Connection
from tests.bench.plans.filling import PER_S, Size, event, lot, number_from, partner

BATCH = 20_000  # orders in one transaction
ME = 2

_ALLOWED = (  # PostgreSQL 18 has a greatest number beside them
    "SELECT c.relname, coalesce(o.threshold, current_setting('autovacuum_vacuum_threshold')::float8) + "
    "coalesce(o.scale, current_setting('autovacuum_vacuum_scale_factor')::float8) * greatest(c.reltuples, 0) "
    "FROM pg_class c, LATERAL (SELECT max(value::float8) FILTER (WHERE name = 'autovacuum_vacuum_threshold'), "
    "max(value::float8) FILTER (WHERE name = 'autovacuum_vacuum_scale_factor') "
    "FROM unnest(c.reloptions) AS r, LATERAL (SELECT split_part(r, '=', 1), split_part(r, '=', 2)) AS s "
    "(name, value) "
    "WHERE r LIKE 'autovacuum_vacuum_%') AS o (threshold, scale) "
    "WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'"
)
_NEW = f"generate_series($1::int, $1::int + {BATCH} - 1) AS i"
_RUN = "{run} + (i - {orders}) / {per_s}"  # they are the youngest, and were due before what is left was


async def allowed(connection: Connection) -> dict[str, int]:
    """How many dead rows each table may have."""
    return {name: int(count) for name, count in await connection.fetch(_ALLOWED)}


async def wear(connection: Connection, size: Size) -> dict[str, int]:
    """Have orders come, be asked about, told of and let go until each table is as worn as it can be."""
    limits = await allowed(connection)
    worn = {
        "orders": (limits["orders"], 2, _orders(size)),
        "schedule": (limits["schedule"], 3, _schedule(size, limits["schedule"])),
        "deliveries": (limits["deliveries_open"], 3, _deliveries(size, limits["deliveries_open"])),
    }
    for limit, each, statements in worn.values():
        for number in range(0, limit // each, BATCH):
            await connection.execute("BEGIN")
            for sql in statements:
                given = [size.orders + 1 + number] if "$1" in sql else []
                await connection.execute(sql, *given)
            await connection.execute("COMMIT")
        await number_from(connection, size.orders + limit + BATCH)
    return {table: limit for table, (limit, _, _) in worn.items()}


async def vacuum(connection: Connection) -> dict[str, float]:
    """Seconds for each table, as fast as it goes; autovacuum takes its time."""
    seconds = {}
    for table in ("orders", "schedule", "history", "deliveries_open", "deliveries_settled"):
        began = time.monotonic()
        await connection.execute(f"VACUUM {table}")
        seconds[table] = time.monotonic() - began
    return seconds


def _orders(size: Size) -> list[str]:
    run = _RUN.format(run=size.run, orders=size.orders, per_s=PER_S)
    pruned = size.run - size.kept / PER_S
    return [
        "INSERT INTO orders (id, park_uuid, pay_partner, state, metadata, accepted_at, opened_run) "
        f"OVERRIDING SYSTEM VALUE SELECT i, {lot('i')}, {partner('i')}, 'pending', '{{}}', now(), {run} "
        f"FROM {_NEW}",
        "UPDATE orders SET state = CASE WHEN i % 20 = 0 THEN 'failed' ELSE 'paid' END, final_at = now(), "
        f"ended_run = opened_run FROM {_NEW} WHERE id = i",
        "WITH old AS MATERIALIZED (SELECT id FROM orders WHERE ended_run > "
        f"{pruned} + ($1 - {size.orders}) / {PER_S} - 60 ORDER BY ended_run LIMIT {BATCH}) "
        "UPDATE orders o SET ended_run = NULL FROM old WHERE o.id = old.id",
    ]


def _schedule(size: Size, count: int) -> list[str]:
    run = _RUN.format(run=size.run, orders=size.orders, per_s=PER_S)
    return [
        "INSERT INTO schedule (order_id, due, opened_run, holder) "
        f"SELECT i, {run} - {count / PER_S}, {run}, NULL FROM {_NEW}",
        f"UPDATE schedule SET holder = {ME} FROM {_NEW} WHERE order_id = i",
        f"UPDATE schedule SET holder = NULL, due = due + 1 FROM {_NEW} WHERE order_id = i",
        f"DELETE FROM schedule USING {_NEW} WHERE order_id = i",
    ]


def _deliveries(size: Size, count: int) -> list[str]:
    run = _RUN.format(run=size.run, orders=size.orders, per_s=PER_S)
    return [
        "INSERT INTO deliveries (id, event_id, order_id, type, body, made_at, made_run, state, due) "
        f"SELECT i, {event('i')}, i, 'payment.paid', '{{}}', now(), {run}, 'pending', {run} - {count / PER_S} "
        f"FROM {_NEW}",
        f"UPDATE deliveries SET holder = {ME} FROM {_NEW} WHERE id = i",
        "UPDATE deliveries SET holder = NULL, due = NULL, state = 'delivered', attempts = 1, last_at = now() "
        f"FROM {_NEW} WHERE id = i",
        f"UPDATE deliveries SET logged = true FROM {_NEW} WHERE id = i",
    ]
