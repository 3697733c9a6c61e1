"""Group commit: many jobs in one transaction, each as if it were alone in it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poller.ports import Stamp, StoreCorruptError, StoreUnavailableError
from poller.ports.errors import for_one
from poller.stores.journal import Journal
from poller.stores.sqlite.faults import fault_of, is_io_error
from poller.stores.sqlite.place import Place
from poller.stores.sqlite.rows import from_ms, to_ms


@dataclass(slots=True)
class Job:
    """One caller's work on the connection, and how it came out.

    `work` may be run twice, what the first time did undone. `alone` work runs outside a transaction. `abandoned`
    gets the result where the caller was cancelled.
    """

    work: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]
    durable: bool = False
    alone: bool = False
    abandoned: Callable[[Any], None] | None = None
    result: Any = None
    error: BaseException | None = None

    def resolve(self) -> None:
        """Tell the caller, in its loop. One that went away is not told; its work stands all the same."""
        if self.future.done():
            if self.abandoned is not None and self.error is None:
                self.abandoned(self.result)
        elif self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Transactions:
    """Runs batches of jobs on the one connection. Used by one thread at a time."""

    def __init__(self, connection: sqlite3.Connection, journal: Journal, path: Path) -> None:
        self.stamp: Callable[[], Stamp] | None = None
        self.wrote: Callable[[float, bool], None] | None = None  # told of the seconds, and of durability
        self.corrupt: str | None = None  # once the file was found malformed: why. Nothing is run any more
        self._connection = connection
        self._journal = journal
        self._path = path
        self._place = Place.of(path)
        self._synchronous = ""
        self._doubtful = False  # the disk failed: what the log holds may be in the kernel's memory alone

    def run(self, jobs: Sequence[Job]) -> None:
        """Run the jobs in one transaction and fill in their outcomes; it is committed on return.

        A job that raises is undone alone. Where the store itself fails, every job gets that fault and
        nothing of any of them stays, in memory neither.
        """
        started, durable = time.monotonic(), any(job.durable for job in jobs)
        try:
            self._begin(durable=durable)
            before = self._connection.total_changes
            for job in jobs:
                self._run_one(job)
            if wrote := self._connection.total_changes != before:
                self.write_stamp()
            self._connection.execute("COMMIT")
        except Exception as error:
            if len(jobs) == 1 or fault_of(error, self._path) is not None:
                self._abandon(jobs, error)
                return
            self._undo()  # one has written and then refused: each is run again, in a transaction of its own
            for job in jobs:
                job.result = job.error = None
                self.run([job])
        else:
            self._journal.keep()
            if wrote and self.wrote is not None:
                self.wrote(time.monotonic() - started, durable)

    def run_alone(self, job: Job) -> None:
        """Run one job outside a transaction."""
        try:
            job.result = job.work(self._connection)
        except Exception as error:
            job.error = fault_of(error, self._path) or error if isinstance(error, sqlite3.Error) else error

    def write_stamp(self) -> None:
        """Write the daemon's times down, inside a job."""
        if self.stamp is None:
            return
        stamp = self.stamp()
        self._connection.execute(
            "INSERT OR REPLACE INTO meta (id, run, schedule, wall) VALUES (1, ?, ?, ?)",
            (stamp.run, stamp.schedule, to_ms(stamp.wall)),
        )

    def _begin(self, *, durable: bool) -> None:
        synchronous = "FULL" if durable else "NORMAL"
        if self._connection.in_transaction:  # a ROLLBACK failed, with the disk
            self._connection.execute("ROLLBACK")
        if self.corrupt is not None:
            raise StoreCorruptError(self.corrupt)
        if durable:
            self._place.check()
            self._clear_doubt()
        if synchronous != self._synchronous:
            self._connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous
        self._connection.execute("BEGIN IMMEDIATE")

    def _clear_doubt(self) -> None:
        """After a failed sync the kernel may never write what it was for: all of the log goes to the file first.

        Otherwise a power cut could take an older part of the log, and with it every commit that follows.
        """
        if self._doubtful:
            (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise StoreUnavailableError(
                    f"{self._path} is being read after an I/O error: let the backup or other reader end"
                )
            self._doubtful = False

    def _run_one(self, job: Job) -> None:
        """Run a job; what one has written that then refuses is undone, rarely."""
        mark, before = self._journal.mark(), self._connection.total_changes
        try:
            job.result = job.work(self._connection)
        except Exception as error:
            wrote = self._connection.total_changes != before
            if wrote or fault_of(error, self._path) is not None or not self._connection.in_transaction:
                raise  # out of memory, SQLite has rolled back even for a job that only read
            self._journal.undo(mark)
            job.error = error

    def _undo(self) -> None:
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):  # tried again before the next batch
                self._connection.execute("ROLLBACK")
        self._journal.undo()

    def _abandon(self, jobs: Sequence[Job], error: Exception) -> None:
        self._undo()
        fault = fault_of(error, self._path)
        self._doubtful |= is_io_error(error)
        if isinstance(fault, StoreCorruptError):
            self.corrupt = str(fault)
        for job in jobs:
            if job.error is None:
                job.result, job.error = None, error if fault is None else for_one(fault, error)


def read_stamp(connection: sqlite3.Connection) -> Stamp | None:
    """What `Transactions.write_stamp` wrote last; None in a new store."""
    row = connection.execute("SELECT run, schedule, wall FROM meta").fetchone()
    return None if row is None else Stamp(row[0], row[1], from_ms(row[2]))
