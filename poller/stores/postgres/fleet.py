"""The fleet's times as one daemon knows them, and what it adds to the fleet's numbers.

Every daemon counts seconds by its own monotonic clock, writes down how far it has come, and moves forward to
whoever is ahead; nobody moves back. So ages, due times and leases compare across daemons within the seconds
between two heartbeats, without a wall clock or the database's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from poller.ports import Stamp
from poller.stores.postgres.connection import Connection

_LATEST = (
    "SELECT max(run), max(schedule), (SELECT wall FROM sessions WHERE schedule IS NOT NULL AND wall IS NOT NULL "
    "ORDER BY schedule DESC LIMIT 1) FROM sessions"
)
_KEY = "hashtextextended('poller fleet ' || current_schema(), 0)"
PRESENT = f"SELECT pg_advisory_lock_shared({_KEY})"
_ALONE = f"SELECT pg_try_advisory_lock({_KEY})"
_NOT_ALONE = f"SELECT pg_advisory_unlock({_KEY})"


class FleetTime:
    """One daemon's estimate. `stamp` gives the daemon's own times once there are any."""

    def __init__(self, run: float) -> None:
        self.stamp: Callable[[], Stamp] | None = None
        self.advance: Callable[[float, float], None] | None = None  # told of the fleet's run and schedule
        self._offset = run - time.monotonic()

    def run(self) -> float:
        """The fleet's running time now, in seconds."""
        return time.monotonic() + self._offset

    def now(self) -> tuple[float, float | None, datetime | None]:
        """Running time, schedule time and wall clock, as a session's row has them."""
        if self.stamp is None:
            return self.run(), None, None
        own = self.stamp()
        return max(self.run(), own.run), own.schedule, own.wall

    def met(self, run: float, schedule: float | None) -> None:
        """Move forward to what the others have come to."""
        self._offset += max(run - self.run(), 0.0)
        if self.advance is not None and schedule is not None:
            self.advance(run, schedule)


@dataclass(slots=True)
class Tally:
    """How many more there are, or fewer: see `poller.ports.Counts`; `given_up` are the dead notices."""

    pending: int = 0
    undecided: int = 0
    undelivered: int = 0
    given_up: int = 0

    def add(self, *, pending: int = 0, undecided: int = 0, undelivered: int = 0, given_up: int = 0) -> None:
        self.pending += pending
        self.undecided += undecided
        self.undelivered += undelivered
        self.given_up += given_up

    def numbers(self) -> tuple[int, ...]:
        """In the order of the columns."""
        return tuple(getattr(self, one.name) for one in fields(self))


async def read_stamp(connection: Connection, wall: datetime, oldest: float) -> tuple[float, Stamp | None]:
    """The fleet's running time as last written down, and the stamp to go on from; None in a new store.

    `connection` is from now on a sign that the fleet runs. Where there is one already, the wall clock `wall` of
    this machine may be another than that of the stamp, which is only seconds old: the stamp's is then given so
    that no more than `oldest` seconds seem to have passed.
    """
    alone = bool(await connection.fetchval(_ALONE))
    if alone:
        await connection.execute(_NOT_ALONE)
    await connection.execute(PRESENT)
    [(run, schedule, then)] = await connection.fetch(_LATEST)
    if schedule is None or then is None:
        return run, None
    if not alone and not timedelta(0) <= wall - then <= timedelta(seconds=oldest):
        then = wall - timedelta(seconds=oldest)
    return run, Stamp(run, schedule, then)
