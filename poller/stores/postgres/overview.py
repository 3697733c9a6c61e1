"""The SQL of what people see of many orders. Each query walks an index that holds what it looks for."""

from __future__ import annotations

from poller.core.orders import Order, State
from poller.ports import Counts
from poller.ports.records import COUNTED, RECENT, Ended, Ending, Group, Overview, Settlement, Since, Undelivered
from poller.stores.postgres import deliveries, orders
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.lane import Transaction
from poller.stores.settled import SettledOrder, counting
from poller.stores.settled import settlements as settled

WAITING = "SELECT order_id FROM schedule WHERE untold ORDER BY opened_run DESC, order_id DESC"
UNDECIDED = "SELECT order_id FROM schedule WHERE NOT untold ORDER BY opened_run DESC, order_id DESC"
CONFLICTING = "SELECT id FROM orders WHERE conflict_at IS NOT NULL AND conflict_at >= $2 ORDER BY conflict_at DESC"
LATE = (
    "SELECT id FROM orders WHERE ended_run IS NOT NULL AND undecided_at IS NOT NULL AND ended_run >= $2 "
    "ORDER BY ended_run DESC"
)
RESULTS = "SELECT id FROM orders WHERE ended_run IS NOT NULL ORDER BY ended_run DESC, id DESC"
DEAD = "SELECT id FROM deliveries WHERE state = 'dead' ORDER BY id DESC"
PENDING = (
    "SELECT id FROM (SELECT id, made_run FROM deliveries WHERE state = 'pending' ORDER BY id LIMIT 500) d "
    "WHERE made_run <= $2"
)
ENDED = (
    "SELECT ended_run, id, state, final_at, opened_run FROM orders "
    "WHERE ended_run IS NOT NULL AND (ended_run, id) > ($1, $2) ORDER BY ended_run, id LIMIT $3"
)
SETTLED = (
    "SELECT id, park_uuid, ended_run - opened_run, final_at, state FROM orders "
    "WHERE ended_run IS NOT NULL ORDER BY ended_run DESC, id DESC LIMIT $1"
)
IN_PROGRESS = (
    "SELECT o.id, h.last_at FROM unnest($1::bigint[]) AS o (id) CROSS JOIN LATERAL (SELECT last_at FROM history "
    "WHERE order_id = o.id AND status = '0' AND error IS NULL ORDER BY n DESC LIMIT 1) h"
)
COUNTS = (
    "SELECT sum(pending)::bigint, sum(undecided)::bigint, sum(undelivered)::bigint, sum(given_up)::bigint, "
    "least((SELECT opened_run FROM schedule WHERE untold ORDER BY opened_run, order_id LIMIT 1), "
    "(SELECT opened_run FROM schedule WHERE NOT untold ORDER BY opened_run, order_id LIMIT 1)), "
    "(SELECT made_run FROM deliveries WHERE state = 'pending' ORDER BY made_run LIMIT 1) FROM sessions"
)
SIZE = (
    "SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n "
    "ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND c.relkind = 'r'"
)
_ENDED = (
    "SELECT id, ended_run FROM orders WHERE ended_run BETWEEN $3 AND $1 ORDER BY ended_run LIMIT $2 "
    "FOR NO KEY UPDATE SKIP LOCKED"
)
PRUNE = (
    f"WITH old AS MATERIALIZED ({_ENDED}), "  # noqa: S608
    "asked AS (DELETE FROM history h USING old WHERE h.order_id = old.id), "
    "told AS (DELETE FROM deliveries d USING old WHERE d.order_id = old.id "
    "AND d.state || '' IN ('delivered', 'logged') AND d.logged) "
    "UPDATE orders o SET ended_run = NULL FROM old WHERE o.id = old.id RETURNING old.ended_run"
)


async def overview(connection: Connection, since: Since, limit: int) -> Overview:
    """What stands now."""
    return Overview(
        waiting=await _group(connection, WAITING, limit),
        undecided=await _group(connection, UNDECIDED, limit),
        conflicting=await _group(connection, CONFLICTING, limit, since.conflicts),
        late=await _group(connection, LATE, limit, since.late),
        undelivered=await _undelivered(connection, since.undelivered, limit),
        results=await orders.numbered(connection, await _ids(connection, RESULTS, limit)),
    )


async def ended(connection: Connection, after: Ending, limit: int) -> list[Ended]:
    """Oldest first."""
    return [
        Ended(Ending(run, number), State(state), final_at, run - opened_run)
        for run, number, state, final_at, opened_run in await connection.fetch(ENDED, *after, limit)
    ]


async def settlements(connection: Connection, limit: int) -> list[Settlement]:
    """Oldest first."""
    counted = counting((SettledOrder(*row) for row in await connection.fetch(SETTLED, RECENT)), limit)
    rows = await connection.fetch(IN_PROGRESS, [order.id for order in counted])
    return settled(counted, {row[0]: row[1] for row in rows})


async def counts(connection: Connection) -> Counts:
    """How much there is, from what each session added to it."""
    [row] = await connection.fetch(COUNTS)
    return Counts(*row)


async def size_bytes(connection: Connection) -> int:
    """What the tables and their indexes take."""
    return int(await connection.fetchval(SIZE) or 0)


async def prune(transaction: Transaction, ended_by: float, limit: int, ended_from: float) -> list[float]:
    """Let go of what is no longer needed of at most `limit` orders, the longest ended first; when they ended.

    Those that were let go before leave dead entries where one looks for the first: `ended_from` is past them.
    """
    return [ended_run for (ended_run,) in await transaction.write(PRUNE, ended_by, limit, ended_from)]


async def _group(connection: Connection, sql: str, limit: int, *bound: object) -> Group[Order]:
    ids = await _ids(connection, sql, COUNTED, *bound)
    return Group(await orders.numbered(connection, ids[:limit]), len(ids))


async def _undelivered(connection: Connection, made_by: float, limit: int) -> Group[Undelivered]:
    ids = await _ids(connection, DEAD, COUNTED) + await _ids(connection, PENDING, COUNTED, made_by)
    found = await deliveries.numbered(connection, ids[:limit])
    of_them = await orders.numbered(connection, [order_id for order_id, _ in found])
    shown = [Undelivered(delivery, order) for (_, delivery), order in zip(found, of_them, strict=True)]
    return Group(shown, min(len(ids), COUNTED))


async def _ids(connection: Connection, sql: str, limit: int, *bound: object) -> list[int]:
    return [number for (number,) in await connection.fetch(f"{sql} LIMIT $1", limit, *bound)]
