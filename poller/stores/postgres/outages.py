"""The SQL of an outage of the platform, which the fleet has together: a row while it lasts.

Its times are the fleet's running time, which is the same for all within the seconds between two heartbeats.
"""

from __future__ import annotations

from poller.core.outage import Told
from poller.core.replies import Cause
from poller.ports.fleet import CANARY_S
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.herald import Hint
from poller.stores.postgres.lane import Transaction
from poller.stores.postgres.rows import storable

_GET = "SELECT since, last_canary, canaries, wish, kind, cause FROM outages"
_OPEN = (
    "INSERT INTO outages (one, since, last_canary, canaries, wish, kind, cause) "
    "VALUES (true, $1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING RETURNING true"
)
_OVER = "DELETE FROM outages RETURNING true"
_TAKE = "UPDATE outages SET busy_until = $2 WHERE canaries = $1 AND busy_until <= $3 RETURNING true"
_FAILED = (
    "UPDATE outages SET busy_until = 0, since = least(since, $1), last_canary = $2, canaries = canaries + 1, "
    "wish = $3, kind = $4, cause = $5"
)


async def get(connection: Connection, run: float) -> Told | None:
    """The outage that lasts."""
    row = await connection.fetchrow(_GET)
    if row is None:
        return None
    since, last, canaries, wish, kind, cause = row
    return Told(
        max(run - since, 0.0), max(run - last, 0.0), canaries, wish, None if kind is None else Cause(kind), cause
    )


async def opened(transaction: Transaction, told: Told, run: float) -> None:
    """Begin one, unless one lasts."""
    times = (run - told.since, run - told.last_canary, told.canaries)
    if await transaction.write(_OPEN, *times, *_why(told)):
        transaction.hints.add(Hint.FREE)


async def over(transaction: Transaction) -> None:
    """End it."""
    if await transaction.write(_OVER):
        transaction.hints.add(Hint.FREE)


async def take_canary(transaction: Transaction, canaries: int, run: float) -> bool:
    """Reserve the canary."""
    return bool(await transaction.write(_TAKE, canaries, run + CANARY_S, run))


async def canary_failed(transaction: Transaction, told: Told, run: float) -> None:
    """Let the next one go, after its pause."""
    await transaction.write(_FAILED, run - told.since, run - told.last_canary, *_why(told))


def _why(told: Told) -> tuple[float, str | None, str | None]:
    return told.wish, None if told.kind is None else told.kind.value, storable(told.cause)
