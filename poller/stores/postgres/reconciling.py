"""What PostgreSQL says this daemon holds against what the daemon knows, after what may have parted the two.

That is a commit whose answer was lost, and a server that has crashed or failed over: it may not know any more what
was given back without waiting for the disk.
"""

from __future__ import annotations

from poller.ports import LeaseLostError
from poller.stores.postgres.lane import Transaction
from poller.stores.postgres.session import Session

_TABLES = (("schedule", "order_id", "orders"), ("deliveries", "id", "deliveries"))  # where they are held, and end


async def reconcile(transaction: Transaction, session: Session) -> None:
    """Free what nobody here knows of. Raises LeaseLostError, the session being given up, where more is lost.

    The session is renewed first: that waits for a transaction of its own which has not ended yet.
    """
    await session.fence(transaction.connection, transaction.me)
    transaction.wrote = True
    for (table, key, things), holds in zip(_TABLES, (transaction.orders, transaction.deliveries), strict=True):
        rows = await transaction.connection.fetch(
            f"SELECT {key} FROM {table} WHERE holder = $1",  # noqa: S608
            transaction.me,
        )
        held, known = {number for (number,) in rows}, holds.all()
        if stray := held - known:
            free = f"UPDATE {table} SET holder = NULL WHERE {key} = ANY($1::bigint[]) AND holder = $2"  # noqa: S608
            await transaction.write(free, sorted(stray), transaction.me)
        if missing := sorted(known - held):
            ended = f"SELECT count(*) FROM {things} WHERE id = ANY($1::bigint[]) AND state <> 'pending'"  # noqa: S608
            if await transaction.connection.fetchval(ended, missing) < len(missing):
                session.give_up(transaction.me)
                raise LeaseLostError("the server that has taken over does not know all that this daemon held")
            holds.release(missing)  # that they have ended was committed, though nobody was told
