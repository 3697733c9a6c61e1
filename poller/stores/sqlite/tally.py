"""How much there is of what, kept in memory, since to count a million rows takes too long.

It is counted once, when the store is opened, and follows every transaction; undone with it, too.
"""

from __future__ import annotations

import sqlite3

from poller.ports import Counts
from poller.stores.journal import Journal
from poller.stores.sqlite.schedule import OLDEST_UNTOLD

ALL = (
    "SELECT (SELECT count(*) FROM schedule), (SELECT count(*) FROM schedule WHERE untold = 0), "
    "(SELECT count(*) FROM deliveries WHERE state = 'pending'), "
    "(SELECT count(*) FROM deliveries WHERE state = 'dead')"
)
OLDEST_PENDING = (OLDEST_UNTOLD, "SELECT min(opened_run) FROM schedule WHERE untold = 0")  # an index each
OLDEST_UNDELIVERED = "SELECT min(made_run) FROM deliveries INDEXED BY deliveries_made WHERE state = 'pending'"


class Tally:
    """Used by one thread at a time, inside a transaction. What the numbers are is said at `ports.Counts`.

    `undelivered` may be read by any thread: for a moment it may tell of a transaction that is not yet committed.
    """

    def __init__(self, connection: sqlite3.Connection, journal: Journal) -> None:
        self._journal = journal
        self.undelivered: int
        self._pending, self._undecided, self.undelivered, self._dead = connection.execute(ALL).fetchone()

    def add(self, *, pending: int = 0, undecided: int = 0, undelivered: int = 0, dead: int = 0) -> None:
        """So many more, or fewer."""
        if not (pending or undecided or undelivered or dead):
            return
        before = self._pending, self._undecided, self.undelivered, self._dead
        self._pending += pending
        self._undecided += undecided
        self.undelivered += undelivered
        self._dead += dead
        self._journal.add(lambda: self._restore(before))

    def counts(self, connection: sqlite3.Connection) -> Counts:
        oldest = [connection.execute(sql).fetchone()[0] for sql in OLDEST_PENDING]
        return Counts(
            self._pending,
            self._undecided,
            self.undelivered,
            self._dead,
            min((run for run in oldest if run is not None), default=None),
            connection.execute(OLDEST_UNDELIVERED).fetchone()[0],
        )

    def _restore(self, before: tuple[int, int, int, int]) -> None:
        self._pending, self._undecided, self.undelivered, self._dead = before
