"""What is written behind: queries that ended nothing, notices that have been logged, and what is given back.

Entries are entered by the loop's thread and taken by whoever writes. Those taken by a transaction that fails
come back, before the ones that were entered meanwhile.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field

from poller.ports import HistoryEntry, Pending, Progress
from poller.stores.journal import Journal

MOST_RUNS = 200  # of an order that are kept while the store cannot be written; older ones are let go


@dataclass(slots=True)
class Noted:
    """An order's queries since the last write: `due` and `errors` are the latest, `runs` oldest first.

    `kept_due` is when an order that was given back without a query is due, by the store's own word; minus infinity
    where none was.
    """

    polls: int = 0
    due: float | None = None
    errors: int = 0
    runs: list[HistoryEntry] = field(default_factory=list)
    released: bool = False
    kept_due: float = float("-inf")

    def add(self, progress: Progress) -> None:
        """Take in one query, or an order that was only put off."""
        answer = progress.answer
        if answer is not None:
            self.polls += 1
            self._append(HistoryEntry(1, answer.at, answer))
        if progress.due is not None:
            self.due, self.errors = progress.due, progress.errors
        self.released |= not progress.keep

    def follow(self, newer: Noted) -> None:
        """Take in what was noted after this."""
        self.polls += newer.polls
        if newer.due is not None:
            self.due, self.errors = newer.due, newer.errors
        self.released |= newer.released
        self.kept_due = newer.kept_due
        for run in newer.runs:
            self._append(run)

    def _append(self, run: HistoryEntry) -> None:
        if self.runs and self.runs[-1].answer.same_as(run.answer):
            self.runs[-1] = joined(self.runs[-1], run)
        else:
            self.runs.append(run)
            del self.runs[:-MOST_RUNS]


def joined(older: HistoryEntry, newer: HistoryEntry) -> HistoryEntry:
    """Two runs of the same answer as one."""
    return HistoryEntry(older.count + newer.count, older.first_at, newer.answer)


@dataclass(slots=True)
class Taken:
    """What one transaction writes down; the sets hold ids of notices.

    `logged` are those that have been; `notices` are given back to be logged, `deliveries` to be sent.
    """

    orders: dict[int, Noted] = field(default_factory=dict)
    logged: set[int] = field(default_factory=set)
    notices: set[int] = field(default_factory=set)
    deliveries: set[int] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.orders) + len(self.logged) + len(self.notices) + len(self.deliveries)

    def releases(self) -> bool:
        """Whether anything is given back, so that a claim, or a look for the log, may find it."""
        return bool(self.notices or self.deliveries) or any(noted.released for noted in self.orders.values())


class Notes:
    """The buffer."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._now = Taken()
        self._releases = False

    def __len__(self) -> int:
        return len(self._now)

    @property
    def releases(self) -> bool:
        """Whether something in it is held no more, so that a claim may find it."""
        return self._releases

    def add(self, progress: Progress) -> None:
        """Enter one query."""
        with self._lock:
            noted = self._now.orders.get(progress.id)
            if noted is None:
                noted = self._now.orders[progress.id] = Noted()
            noted.add(progress)
            self._releases |= not progress.keep

    def add_logged(self, ids: Iterable[int]) -> None:
        """Enter notices that have been logged."""
        with self._lock:
            self._now.logged.update(ids)

    def give_back_orders(self, orders: Iterable[Pending]) -> None:
        """Orders that are held no more, without a query."""
        with self._lock:
            for pending in orders:
                _merge(self._now.orders, pending.id, Noted(released=True, kept_due=pending.due))
                self._releases = True

    def give_back_notices(self, ids: Iterable[int]) -> None:
        """Notices that will not be logged by who was about to."""
        with self._lock:
            self._now.notices.update(ids)
            self._releases |= bool(self._now.notices)

    def give_back_deliveries(self, ids: Iterable[int]) -> None:
        """Deliveries that are held no more, without a try."""
        with self._lock:
            self._now.deliveries.update(ids)
            self._releases |= bool(self._now.deliveries)

    def take(self) -> Taken:
        """Take everything out, inside a transaction; undone, it is all here again."""
        with self._lock:
            taken, self._now = self._now, Taken()
            self._releases = False
        if taken:
            self._journal.add(lambda: self._put_back(taken))
        return taken

    def take_order(self, order_id: int) -> Noted | None:
        """Take out what is noted of one order; as `take`."""
        with self._lock:
            noted = self._now.orders.pop(order_id, None)
        if noted is not None:
            self._journal.add(lambda: self._put_back(Taken(orders={order_id: noted})))
        return noted

    def take_logged(self) -> set[int]:
        """Take out which notices have been logged; as `take`."""
        with self._lock:
            logged, self._now.logged = self._now.logged, set()
        if logged:
            self._journal.add(lambda: self._put_back(Taken(logged=logged)))
        return logged

    def _put_back(self, taken: Taken) -> None:
        with self._lock:
            newer, self._now = self._now, taken
            for order_id, noted in newer.orders.items():
                _merge(taken.orders, order_id, noted)
            taken.logged |= newer.logged
            taken.notices |= newer.notices
            taken.deliveries |= newer.deliveries
            self._releases = taken.releases()


def _merge(orders: dict[int, Noted], order_id: int, newer: Noted) -> None:
    older = orders.get(order_id)
    if older is None:
        orders[order_id] = newer
    else:
        older.follow(newer)
