"""A daemon's membership of the fleet: a row that it renews, and that fences whatever it writes.

Everything that a daemon holds, it holds in the name of its session, so one renewal is enough for all of it. A
session whose lease has run out is marked dead by whoever sees it first, and gives free what it held. A daemon
that was away so long finds itself dead at the end of its next transaction, which is then undone. Ids are drawn by
lot, since a number from a sequence could be given twice by a server that failed over.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

from poller.ports import LeaseLostError
from poller.stores.postgres import migration, schema
from poller.stores.postgres.connection import Connection, confirmed
from poller.stores.postgres.fleet import FleetTime, Tally
from poller.stores.postgres.terms import Terms

FREED = 5000  # holds in one transaction
TOUCHES = 2

_BEGIN = (
    "INSERT INTO sessions (id, name, lease_until, run, schedule, wall, program) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7)"
)
_SUPERSEDE = (
    "UPDATE sessions SET dead = true WHERE id <> $1 AND (id = ANY($2::bigint[]) OR name = $3) AND NOT dead"
)
_RENEW = (
    "UPDATE sessions SET lease_until = greatest(lease_until, $2), run = greatest(run, $3), "
    "schedule = greatest(schedule, $4), wall = coalesce($5, wall), pending = pending + $6, "
    "undecided = undecided + $7, undelivered = undelivered + $8, given_up = given_up + $9 "
    "WHERE id = $1 AND NOT dead RETURNING true"
)
_FURTHEST = "SELECT max(run), max(schedule) FROM sessions"
_LEASES = "SELECT id, lease_until FROM sessions WHERE NOT dead AND id <> $1 AND id <> 0"
_MARK = (
    "WITH gone AS MATERIALIZED (SELECT s.id FROM sessions s "
    "JOIN unnest($1::bigint[], $2::float8[]) AS n (id, lease) ON s.id = n.id "
    "WHERE s.lease_until = n.lease AND NOT s.dead FOR UPDATE OF s SKIP LOCKED) "
    "UPDATE sessions s SET dead = true FROM gone WHERE s.id = gone.id"
)
_DEAD = "SELECT id FROM sessions WHERE dead AND id <> 0"
FREE = tuple(
    f"WITH its AS MATERIALIZED (SELECT {key} FROM {table} WHERE holder = $1 LIMIT {FREED} "  # noqa: S608
    f"FOR UPDATE SKIP LOCKED) UPDATE {table} t SET holder = NULL FROM its WHERE t.{key} = its.{key}"
    for table, key in (("schedule", "order_id"), ("deliveries", "id"))
)
_FORGET_TELLER = "UPDATE deliveries SET teller = NULL WHERE teller = $1 AND NOT logged"
_FOLD = (
    "WITH gone AS (DELETE FROM sessions WHERE id = $1 AND dead "
    "AND NOT EXISTS (SELECT FROM schedule WHERE holder = $1) "
    "AND NOT EXISTS (SELECT FROM deliveries WHERE holder = $1) RETURNING *) "
    "UPDATE sessions f SET pending = f.pending + gone.pending, undecided = f.undecided + gone.undecided, "
    "undelivered = f.undelivered + gone.undelivered, given_up = f.given_up + gone.given_up, "
    "run = greatest(f.run, gone.run), schedule = greatest(f.schedule, gone.schedule), "
    "wall = CASE WHEN f.schedule > gone.schedule OR gone.wall IS NULL THEN f.wall ELSE gone.wall END "
    "FROM gone WHERE f.id = 0"
)
_END = "UPDATE sessions SET dead = true WHERE id = $1"


class Session:
    """`name` is the daemon's, and one of that name at a time; `lost` is told when its holds are gone."""

    def __init__(self, name: str, terms: Terms, fleet: FleetTime, lost: Callable[[], None]) -> None:
        self.id: int | None = None
        self._name = name
        self._terms = terms
        self._still = terms.expiry - terms.heartbeat  # above the time for which a daemon trusts its own lease
        self._seen: dict[int, tuple[float, float]] = {}  # the others' leases, and since when each is the same
        self._fleet = fleet
        self._lost = lost
        self._given_up: list[int] = []
        self._first = True
        self._renewed = float("-inf")
        self._beaten = float("-inf")
        self._in_touch = 0  # beats in a row
        self._beginning = asyncio.Lock()

    def lease_left(self) -> float:
        """Seconds, from now on, in which nobody else holds what this daemon holds; 0 where that is not sure."""
        return max(self._renewed + self._terms.expiry - self._terms.margin - time.monotonic(), 0.0)

    async def ensure(self, connection: Connection) -> int:
        """The session's id; where there is none, or it was given up, a new one that holds nothing.

        Raises StoreTooNewError where the tables have become too new for this program meanwhile.
        """
        async with self._beginning:
            if self.id is None:
                number, sent = secrets.randbits(62) + 1, time.monotonic()
                times = (run, _, _) = self._fleet.now()
                await connection.execute("BEGIN")
                await migration.admit(connection)
                await connection.execute(
                    _BEGIN, number, self._name, run + self._terms.expiry, *times, schema.newest()
                )
                name = self._name if self._first else None  # a daemon's start ends what was before it
                ended = await connection.execute(_SUPERSEDE, number, self._given_up, name)
                with confirmed(connection):
                    await connection.execute("COMMIT")
                self.id, self._renewed, self._first = number, sent, False
                if ended != "UPDATE 0" or self._given_up:
                    self._given_up.clear()
                    await self._bury(connection)
            return self.id

    async def fence(self, connection: Connection, number: int, tally: Tally | None = None) -> None:
        """Renew the session and add to its numbers, at the end of a transaction or alone.

        Until the transaction ends nobody can mark it dead. Raises LeaseLostError where somebody has.
        """
        run, schedule, wall = self._fleet.now()
        numbers = (tally or Tally()).numbers()
        if not await connection.fetchval(_RENEW, number, run + self._terms.expiry, run, schedule, wall, *numbers):
            self.give_up(number)
            raise LeaseLostError(
                "this daemon was out of touch for longer than its lease: the others have what it held"
            )

    def renewed(self, number: int, sent: float) -> None:
        """A fence that was sent at `sent` (`time.monotonic()`) or later has been committed durably."""
        if number == self.id:
            self._renewed = max(self._renewed, sent)

    def give_up(self, number: int) -> None:
        """Hold nothing of that session's any more: it is dead, or nobody knows what it holds."""
        if number == self.id:
            self._given_up.append(number)
            self.id, self._renewed = None, float("-inf")
            self._lost()

    async def beat(self, connection: Connection) -> bool:
        """Renew the session, hear how far the others have come, and free what the dead ones held.

        Returns whether there was such a one.
        """
        number, sent = await self.ensure(connection), time.monotonic()
        with confirmed(connection):
            await self.fence(connection, number)
        self.renewed(number, sent)
        [furthest] = await connection.fetch(_FURTHEST)
        self._fleet.met(*furthest)
        over = await self._run_out(connection, number)
        if self._may_judge(sent) and over:
            await connection.execute(_MARK, *map(list, zip(*over, strict=True)))
        return await self._bury(connection)

    async def end(self, connection: Connection) -> None:
        """Leave the fleet; what this daemon held is free."""
        if self.id is not None:
            await connection.execute(_END, self.id)
            self.id, self._renewed = None, float("-inf")
        await self._bury(connection)

    async def _run_out(self, connection: Connection, number: int) -> list[tuple[int, float]]:
        """The others whose lease is over and has not been renewed for as long as they may trust it; and its end.

        The second by this daemon's own clock: the fleet's time jumps where one that was paused goes on.
        """
        leases = await connection.fetch(_LEASES, number)
        run, now = self._fleet.run(), time.monotonic()
        seen, self._seen = self._seen, {}
        for one, lease in leases:
            before = seen.get(one)
            self._seen[one] = (lease, now) if before is None or before[0] != lease else before
        return [
            (one, lease)
            for one, (lease, since) in self._seen.items()
            if lease < run and now - since >= self._still
        ]

    def _may_judge(self, now: float) -> bool:
        """Who was out of touch may be ahead of the others by as much: they hear of it first, and move forward."""
        self._in_touch = self._in_touch + 1 if now - self._beaten < self._terms.patience else 0
        self._beaten = now
        return self._in_touch >= TOUCHES

    async def _bury(self, connection: Connection) -> bool:
        dead = await connection.fetch(_DEAD)
        for (number,) in dead:
            for free in FREE:
                while await connection.execute(free, number) == f"UPDATE {FREED}":
                    pass
            await connection.execute(_FORGET_TELLER, number)
            await connection.execute(_FOLD, number)
        return bool(dead)
