"""The SQL of what is pending: who is due, who holds it, and who is to be told."""

from __future__ import annotations

from collections.abc import Mapping

from poller.core.orders import OrderKey, State
from poller.ports import HeldElsewhereError, Pending
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.lane import Transaction
from poller.stores.postgres.notes import settle, settle_releases
from poller.stores.postgres.orders import unknown
from poller.stores.postgres.rows import PENDING, pending_of
from poller.stores.youngest import FRESHEST_OF, looked_at

LONGEST_OVERDUE = (
    "SELECT order_id FROM schedule WHERE holder IS NULL AND due <= $1 ORDER BY due, order_id LIMIT $2 "
    "FOR UPDATE SKIP LOCKED"
)
FRESHEST = (  # the second look at a row is by its id: no index is tried for the rest
    "SELECT s.order_id FROM (SELECT order_id, opened_run FROM (SELECT order_id, opened_run, due FROM schedule "  # noqa: S608
    f"WHERE holder IS NULL ORDER BY opened_run DESC, order_id DESC LIMIT {FRESHEST_OF}) y WHERE y.due <= $1) y "
    "JOIN schedule s ON s.order_id = y.order_id WHERE coalesce(s.holder, 0) = 0 AND s.due + 0 <= $1 "
    "ORDER BY y.opened_run DESC, y.order_id DESC LIMIT $2 FOR UPDATE OF s SKIP LOCKED"
)
OF_LOTS = (
    "SELECT s.order_id FROM unnest($3::text[], $4::int[]) w(lot, wanted) CROSS JOIN LATERAL ("
    "SELECT s.order_id FROM (SELECT id, opened_run FROM orders WHERE park_uuid = w.lot AND state = 'pending' "
    "ORDER BY opened_run DESC, id DESC LIMIT $2) y JOIN schedule s ON s.order_id = y.id "
    "WHERE coalesce(s.holder, 0) = 0 AND s.due + 0 <= $1 "
    "ORDER BY y.opened_run DESC, y.id DESC LIMIT w.wanted FOR UPDATE OF s SKIP LOCKED) s"
)
_CLAIM = (
    "WITH wanted AS MATERIALIZED ({wanted}), "  # noqa: S608
    "s AS (UPDATE schedule t SET holder = {me} FROM wanted w WHERE t.order_id = w.order_id RETURNING t.*) "
    f"SELECT {PENDING} FROM s JOIN orders o ON o.id = s.order_id"
)
_CLAIM_LONGEST = _CLAIM.format(wanted=LONGEST_OVERDUE, me="$3")
_CLAIM_FRESHEST = _CLAIM.format(wanted=FRESHEST, me="$3")
_CLAIM_OF_LOTS = _CLAIM.format(wanted=OF_LOTS, me="$5")
_ANY = (
    "SELECT o.id, o.opened_run, o.state, s.due, s.errors, s.cancelling, s.holder FROM orders o "
    "LEFT JOIN schedule s ON s.order_id = o.id WHERE o.park_uuid = $1 AND o.pay_partner = $2"
)
_HOLD = (
    "UPDATE schedule SET holder = $2 WHERE order_id = $1 AND (holder IS NULL OR holder = $2) RETURNING order_id"
)
_NAME = "SELECT name FROM sessions WHERE id = $1"

# Of those that others hold, the others tell.
UNDECIDED = (
    "SELECT o.park_uuid, o.pay_partner FROM schedule s JOIN orders o ON o.id = s.order_id WHERE s.untold "
    "AND s.opened_run <= $1 AND (s.holder IS NULL OR s.holder = $3) ORDER BY s.opened_run, s.order_id LIMIT $2"
)
OLDEST_UNTOLD = (
    "SELECT opened_run FROM schedule WHERE untold AND (holder IS NULL OR holder = $1) "
    "ORDER BY opened_run, order_id LIMIT 1"
)


async def claim(transaction: Transaction, by: float, limit: int, *, freshest: bool) -> list[Pending]:
    """Hold the longest overdue, or the youngest of the youngest few thousand, that nobody holds."""
    claimed = await _claim(transaction, _CLAIM_FRESHEST if freshest else _CLAIM_LONGEST, by, limit)
    return claimed if freshest else sorted(claimed, key=lambda one: (one.due, one.id))


async def claim_of_lots(transaction: Transaction, by: float, wanted: Mapping[str, int]) -> list[Pending]:
    """Hold the youngest of each lot that are due and that nobody holds, so many of each."""
    given = by, looked_at(len(wanted)), list(wanted), list(wanted.values())
    return await _claim(transaction, _CLAIM_OF_LOTS, *given)


async def _claim(transaction: Transaction, sql: str, *given: object) -> list[Pending]:
    """The youngest first."""
    await settle_releases(transaction)
    rows = await transaction.connection.fetch(sql, *given, transaction.me)
    claimed = [pending_of(row) for row in rows]
    if claimed:
        transaction.wrote = True
        transaction.held_orders.hold(one.id for one in claimed)
    return sorted(claimed, key=lambda one: (-one.opened_run, -one.id))


async def hold(transaction: Transaction, key: OrderKey) -> tuple[Pending, bool]:
    """One order in whatever state, held where it is pending, and whether it was not held before; `due` of a final
    one is 0.

    Raises UnknownOrderError, and HeldElsewhereError where another daemon holds it.
    """
    await settle(transaction)
    row = await transaction.connection.fetchrow(_ANY, *key)
    if row is None:
        raise unknown(key)
    number, opened_run, state, due, errors, cancelling, holder = row
    pending = Pending(number, key, opened_run, due or 0.0, errors or 0, State(state), bool(cancelling))
    if pending.state is not State.PENDING:
        return pending, False
    if not await transaction.write(_HOLD, number, transaction.me):
        name = await transaction.connection.fetchval(_NAME, holder)
        raise HeldElsewhereError(
            f"order {key.pay_partner!r} is being asked about by {name or 'another daemon of the fleet'}: ask "
            "there, or again in a moment"
        )
    is_new = number not in transaction.held_orders
    transaction.held_orders.hold([number])
    return pending, is_new


async def undecided(connection: Connection, opened_by: float, limit: int, me: int | None) -> list[OrderKey]:
    """Those of which the gate has not been told, opened by then, oldest first."""
    return [OrderKey(*row) for row in await connection.fetch(UNDECIDED, opened_by, limit, me)]


async def oldest_untold(connection: Connection, me: int | None) -> float | None:
    """When the oldest of which the gate has not been told was opened."""
    oldest: float | None = await connection.fetchval(OLDEST_UNTOLD, me)
    return oldest
