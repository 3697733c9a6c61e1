"""Who runs the jobs: one thread of its own for the daemon, or the caller's step for simulated time."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from poller.ports import StoreUnavailableError
from poller.stores.sqlite.batch import Job, Transactions

BATCH_MAX = 500  # jobs in one transaction, so that none waits long for the others
CROWD = 4  # where so many durable jobs came together, there is load:
BUSY_S = 0.01  # so soon afterwards
GATHER_S = 0.001  # the next ones wait so long for company, since each batch costs a sync of the disk
PATIENCE_S = 0.05  # how long a patient job waits for company
CLOSED = "the store is closed"

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Writer(Protocol):
    """Runs jobs in the order of their coming. Call it from the loop's thread alone."""

    def submit(
        self,
        work: Work[T],
        *,
        durable: bool = False,
        patient: bool = False,
        abandoned: Callable[[T], None] | None = None,
    ) -> asyncio.Future[T]:
        """Run `work` in a transaction; the future is done once it is committed.

        `patient` work may wait a moment, so that it need not have a transaction, and a sync, of its own.
        Cancelling the future stops nothing: `abandoned` then gets the result, in the loop.
        """

    def busy_since(self) -> float | None:
        """`time.monotonic()` when the running batch began, None between batches."""

    def stop(self, last: Work[None]) -> asyncio.Future[None]:
        """Run `last` alone after everything submitted before; nothing is taken on after it."""


class ThreadedWriter:
    """One thread: it takes all jobs that wait into one transaction, and answers them together.

    It is woken at the end of a turn of the loop, which by then has entered all that the turn brought, and is about
    to wait itself: two threads that run at once get in each other's way.
    """

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[Job] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._ringing = False  # at the end of this turn
        self._patience: asyncio.TimerHandle | None = None
        self._last: Job | None = None
        self._busy_since: float | None = None
        self._crowded_at = float("-inf")
        threading.Thread(target=self._run, name="store-writer", daemon=True).start()

    def submit(
        self,
        work: Work[T],
        *,
        durable: bool = False,
        patient: bool = False,
        abandoned: Callable[[T], None] | None = None,
    ) -> asyncio.Future[T]:
        return self._enter(Job(work, self._loop.create_future(), durable, abandoned=abandoned), patient=patient)

    def busy_since(self) -> float | None:
        return self._busy_since

    def stop(self, last: Work[None]) -> asyncio.Future[None]:
        job = Job(last, self._loop.create_future(), alone=True)
        future = self._enter(job)
        self._last = job
        return future

    def _enter(self, job: Job, *, patient: bool = False) -> asyncio.Future[Any]:
        if self._last is not None:
            raise StoreUnavailableError(CLOSED)
        self._jobs.append(job)
        if patient and len(self._jobs) < CROWD:
            if self._patience is None:
                self._patience = self._loop.call_later(PATIENCE_S, self._ring)
        elif not self._ringing:
            self._ringing = True
            self._loop.call_soon(self._ring)
        return job.future

    def _ring(self) -> None:
        self._ringing = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        self._bell.put(None)

    def _take(self) -> list[Job]:
        jobs: list[Job] = []
        while self._jobs and not self._jobs[0].alone and len(jobs) < BATCH_MAX:
            jobs.append(self._jobs.popleft())
        return jobs or [self._jobs.popleft()]

    def _run(self) -> None:
        while self._last is None or self._jobs:
            self._bell.get()
            while self._jobs:
                if time.monotonic() - self._crowded_at < BUSY_S:
                    time.sleep(GATHER_S)
                self._run_batch(self._take())

    def _run_batch(self, jobs: Sequence[Job]) -> None:
        self._busy_since = time.monotonic()
        if jobs[0].alone:
            self._transactions.run_alone(jobs[0])
        else:
            self._transactions.run(jobs)
        self._busy_since = None
        if sum(job.durable for job in jobs) >= CROWD:
            self._crowded_at = time.monotonic()
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(_resolve, jobs)


class InlineWriter:
    """Runs each job at once in the caller's step, in a transaction of its own: no thread, no waiting."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._loop = asyncio.get_running_loop()
        self._stopped = False

    def submit(
        self,
        work: Work[T],
        *,
        durable: bool = False,
        patient: bool = False,
        abandoned: Callable[[T], None] | None = None,
    ) -> asyncio.Future[T]:
        return self._run(Job(work, self._loop.create_future(), durable, abandoned=abandoned))

    def busy_since(self) -> float | None:
        return None

    def stop(self, last: Work[None]) -> asyncio.Future[None]:
        future = self._run(Job(last, self._loop.create_future(), alone=True))
        self._stopped = True
        return future

    def _run(self, job: Job) -> asyncio.Future[Any]:
        if self._stopped:
            raise StoreUnavailableError(CLOSED)
        if job.alone:
            self._transactions.run_alone(job)
        else:
            self._transactions.run([job])
        job.resolve()
        return job.future


def _resolve(jobs: Sequence[Job]) -> None:
    for job in jobs:
        job.resolve()
