"""The SQL of what is written behind: queries that ended nothing, notices that were logged, what is given back."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from poller.stores.notes import Noted
from poller.stores.postgres import history
from poller.stores.postgres.history import Tail
from poller.stores.postgres.lane import Transaction
from poller.stores.postgres.rows import ENTRY, columns, entry_of

# IS NOT DISTINCT FROM, since no index is tried for it: the rows are few, and looked up by their ids.
# A query of a final order, or one that landed after the end, counts with the order itself.
WRITE = (
    "WITH noted AS MATERIALIZED (SELECT * FROM unnest($1::bigint[], $2::int[], $3::float8[], $4::int[], "  # noqa: S608
    "$5::bool[]) AS n (id, polls, due, errors, released)), "
    "pending AS (UPDATE schedule s SET polls = s.polls + n.polls, due = coalesce(n.due, s.due), "
    "errors = coalesce(n.errors, s.errors), holder = CASE WHEN n.released THEN NULL ELSE s.holder END "
    "FROM noted n WHERE s.order_id = n.id AND s.holder IS NOT DISTINCT FROM $6 RETURNING s.order_id), "
    "ended AS (UPDATE orders o SET polls = o.polls + n.polls FROM noted n "
    "WHERE o.id = n.id AND n.polls > 0 AND o.state <> 'pending' RETURNING o.id), "
    "written AS (SELECT order_id FROM pending UNION ALL SELECT id FROM ended) "
    f"SELECT w.order_id, h.n, {ENTRY} FROM written w LEFT JOIN LATERAL "
    "(SELECT * FROM history WHERE order_id = w.order_id ORDER BY n DESC LIMIT 1) h ON true"
)
_LOGGED = "UPDATE deliveries SET logged = true FROM unnest($1::bigint[]) AS n (number) WHERE id = n.number"
_GIVE_BACK = (
    "UPDATE deliveries d SET holder = NULL FROM unnest($1::bigint[]) AS n (number) "
    "WHERE d.id = n.number AND d.holder IS NOT DISTINCT FROM $2"
)


async def settle(transaction: Transaction) -> None:
    """Write down all that has been noted, but of what the daemon has lost: that is the others' now."""
    taken = transaction.notes.take()
    await _write(transaction, taken.orders)
    await _write_logged(transaction, taken.logged)
    deliveries = sorted(number for number in taken.deliveries if not transaction.deliveries.is_lost(number))
    if deliveries:
        await transaction.write(_GIVE_BACK, deliveries, transaction.me)
        transaction.held_deliveries.release(deliveries)


async def settle_releases(transaction: Transaction) -> None:
    """As `settle`, but only where a claim may find more after it, or what is noted may be of no use."""
    if transaction.notes.releases or transaction.orders.any_lost():
        await settle(transaction)


async def settle_orders(transaction: Transaction, numbers: Iterable[int]) -> None:
    """As `settle`, of these orders alone."""
    taken = ((number, transaction.notes.take_order(number)) for number in numbers)
    await _write(transaction, {number: noted for number, noted in taken if noted is not None})


async def settle_logged(transaction: Transaction) -> None:
    """As `settle`, of which notices have been logged."""
    await _write_logged(transaction, transaction.notes.take_logged())


async def _write_logged(transaction: Transaction, numbers: Collection[int]) -> None:
    if numbers:
        await transaction.write(_LOGGED, sorted(numbers))


async def _write(transaction: Transaction, orders: Mapping[int, Noted]) -> None:
    rows = [
        (number, noted.polls, noted.due, None if noted.due is None else noted.errors, noted.released)
        for number, noted in sorted(orders.items())
        if not transaction.orders.is_lost(number)
    ]
    if not rows:
        return
    tails: list[Tail] = []
    for number, n, *entry in await transaction.write(WRITE, *columns(rows, 5), transaction.me):
        tail = Tail(number) if n is None else Tail(number, n, entry_of(entry))
        tail.append(orders[number].runs)
        tails.append(tail)
    await history.write(transaction, tails)
    transaction.held_orders.release(number for number, noted in orders.items() if noted.released)
