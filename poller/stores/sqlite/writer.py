"""Who runs the jobs: one thread of its own for the daemon, or the caller's step for simulated time."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from poller.ports import StoreUnavailableError
from poller.stores.sqlite.batch import Job, Transactions

BATCH_MAX = 500  # jobs in one transaction, so that none waits long for the others
BUSY_S = 0.01  # where durable batches follow one another this closely, there is load;
GATHER_S = 0.001  # then the next one waits so long for company: each costs a sync of the disk
CLOSED = "the store is closed"

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class Writer(Protocol):
    """Runs jobs in the order of their coming. Call it from the loop's thread alone."""

    def submit(
        self, work: Work[T], *, durable: bool = False, abandoned: Callable[[T], None] | None = None
    ) -> asyncio.Future[T]:
        """Run `work` in a transaction; the future is done once it is committed.

        Cancelling the future stops nothing: `abandoned` then gets the result, in the loop.
        """

    def busy_since(self) -> float | None:
        """`time.monotonic()` when the running batch began, None between batches."""

    def stop(self, last: Work[None]) -> asyncio.Future[None]:
        """Run `last` alone after everything submitted before; nothing is taken on after it."""


class ThreadedWriter:
    """One thread: it takes all jobs that wait into one transaction, and answers them together."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[Job] = deque()
        self._news = threading.Condition()
        self._stopping = False
        self._busy_since: float | None = None
        self._synced_at = float("-inf")
        threading.Thread(target=self._run, name="store-writer", daemon=True).start()

    def submit(
        self, work: Work[T], *, durable: bool = False, abandoned: Callable[[T], None] | None = None
    ) -> asyncio.Future[T]:
        return self._enter(Job(work, self._loop.create_future(), durable, abandoned=abandoned))

    def busy_since(self) -> float | None:
        return self._busy_since

    def stop(self, last: Work[None]) -> asyncio.Future[None]:
        future = self._enter(Job(last, self._loop.create_future(), alone=True))
        with self._news:
            self._stopping = True
            self._news.notify()
        return future

    def _enter(self, job: Job) -> asyncio.Future[Any]:
        if self._stopping:
            raise StoreUnavailableError(CLOSED)
        with self._news:
            self._jobs.append(job)
            self._news.notify()
        return job.future

    def _take(self) -> list[Job]:
        jobs: list[Job] = []
        while self._jobs and not self._jobs[0].alone and len(jobs) < BATCH_MAX:
            jobs.append(self._jobs.popleft())
        return jobs

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._jobs:
                    if self._stopping:
                        return
                    self._news.wait()
            if time.monotonic() - self._synced_at < BUSY_S:
                time.sleep(GATHER_S)
            with self._news:
                jobs = self._take() or [self._jobs.popleft()]
            self._run_batch(jobs)

    def _run_batch(self, jobs: Sequence[Job]) -> None:
        self._busy_since = time.monotonic()
        if jobs[0].alone:
            self._transactions.run_alone(jobs[0])
        else:
            self._transactions.run(jobs)
        self._busy_since = None
        if any(job.durable for job in jobs):
            self._synced_at = time.monotonic()
        with suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(_resolve, jobs)


class InlineWriter:
    """Runs each job at once in the caller's step, in a transaction of its own: no thread, no waiting."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions
        self._loop = asyncio.get_running_loop()
        self._stopped = False

    def submit(
        self, work: Work[T], *, durable: bool = False, abandoned: Callable[[T], None] | None = None
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
