"""The way of everything that is written: one line, and all that waits in one transaction (group commit).

Jobs of one kind that follow each other are one call of their handler, which does them with a few statements
however many they are. Their order is kept, and answers come in it.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, TypeVar

from poller.ports import LeaseLostError, StoreUnavailableError
from poller.ports.errors import for_one
from poller.stores.journal import Journal
from poller.stores.notes import Notes
from poller.stores.postgres.connecting import Life
from poller.stores.postgres.connection import Connection, confirmed
from poller.stores.postgres.faults import is_passing
from poller.stores.postgres.fleet import Tally
from poller.stores.postgres.herald import Hint
from poller.stores.postgres.holds import Holds, Uncommitted
from poller.stores.postgres.lines import Line
from poller.stores.postgres.session import Session

BATCH_MAX = 500  # jobs in one transaction, so that none waits long for the others
BATCH_S = 10.0
RETRY_S = 5.0  # for so long at most a transaction is tried again
PAUSE_S = 0.05
CLOSED = "the store is closed"

T = TypeVar("T")
C = TypeVar("C")


@dataclass(slots=True)
class Transaction:
    """What a handler works in. `me` is the session; `wrote` says that there is something to commit.

    `orders` and `deliveries` are what the daemon holds; what the transaction holds and gives free goes into
    `held_orders` and `held_deliveries`.
    """

    connection: Connection
    me: int
    notes: Notes
    orders: Holds
    deliveries: Holds
    tally: Tally = field(default_factory=Tally)
    held_orders: Uncommitted = field(init=False)
    held_deliveries: Uncommitted = field(init=False)
    wrote: bool = False
    ending: bool = False  # whether it is committed depends on PostgreSQL alone
    hints: set[Hint] = field(default_factory=set)  # to the fleet, once it is committed

    def __post_init__(self) -> None:
        self.held_orders = Uncommitted(self.orders)
        self.held_deliveries = Uncommitted(self.deliveries)

    async def write(self, sql: str, *args: object) -> list[Sequence[Any]]:
        """Run a statement that changes rows; what it returns."""
        self.wrote = True
        return await self.connection.fetch(sql, *args)

    def apply(self) -> None:
        """It is committed."""
        self.held_orders.apply()
        self.held_deliveries.apply()


Handler = Callable[[Transaction, Sequence[C]], Awaitable[Sequence[T | Exception]]]


@dataclass(slots=True)
class Job:
    """One caller's call, and how it came out. `abandoned` gets the result where the caller was cancelled."""

    handler: Handler[Any, Any] | None  # None only waits for those before it
    call: Any
    future: asyncio.Future[Any]
    durable: bool = False
    abandoned: Callable[[Any], None] | None = None

    def resolve(self, outcome: object) -> None:
        """Tell the caller. One that went away is not told; its work stands all the same."""
        if self.future.done():
            if self.abandoned is not None and not isinstance(outcome, Exception):
                self.abandoned(outcome)
        elif isinstance(outcome, Exception):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)


class Lane:
    """Call `submit` from the loop's thread; `run` is a task."""

    def __init__(
        self,
        line: Line,
        session: Session,
        journal: Journal,
        begin: Callable[[Connection, int], Transaction],
        reconcile: Callable[[Transaction, Session], Awaitable[None]],
    ) -> None:
        self.wrote: Callable[[float, bool], None] | None = None  # told of the seconds, and of durability
        self.tell: Callable[..., None] = lambda *_: None
        self._line = line
        self._session = session
        self._journal = journal
        self._begin = begin
        self._reconcile = reconcile
        self._jobs: deque[Job] = deque()
        self._news = asyncio.Event()
        self._stopping = False
        self._reconciled: Life | None = None  # with that life of the server's; None where a commit is in doubt
        self._busy_since: float | None = None

    def submit(
        self,
        handler: Handler[C, T] | None,
        call: C,
        *,
        durable: bool = False,
        abandoned: Callable[[T], None] | None = None,
    ) -> asyncio.Future[T]:
        """Have one call done; the future is done once it is committed. Cancelling it stops nothing."""
        if self._stopping:
            raise StoreUnavailableError(CLOSED)
        future = asyncio.get_running_loop().create_future()
        self._jobs.append(Job(handler, call, future, durable, abandoned))
        self._news.set()
        return future

    def is_idle(self) -> bool:
        return not self._jobs and self._busy_since is None

    def busy_since(self) -> float | None:
        """`time.monotonic()` when the running transaction began."""
        return self._busy_since

    def stop(self) -> None:
        """Take nothing more on; `run` returns once all is done."""
        self._stopping = True
        self._news.set()

    async def run(self) -> None:
        """Runs until `stop`."""
        jobs: list[Job] = []
        try:
            while self._jobs or not self._stopping:
                if not self._jobs:
                    self._news.clear()
                    await self._news.wait()
                    continue
                jobs = [self._jobs.popleft() for _ in range(min(len(self._jobs), BATCH_MAX))]
                self._busy_since = time.monotonic()
                await self._batch(jobs)
                self._busy_since = None
        finally:
            for job in (*jobs, *self._jobs):  # those that a task which was cancelled leaves behind
                if not job.future.done():
                    job.future.set_exception(StoreUnavailableError(CLOSED))

    async def _batch(self, jobs: Sequence[Job]) -> None:
        outcomes: Sequence[object]
        try:
            outcomes = await self._commit(jobs)
        except StoreUnavailableError as fault:
            outcomes = [for_one(fault, fault) for _ in jobs]
        except Exception as error:  # a defect is for whoever called; the others' work is done without it
            if len(jobs) > 1:
                for job in jobs:
                    await self._batch([job])
                return
            outcomes = [error]
        for job, outcome in zip(jobs, outcomes, strict=True):
            job.resolve(outcome)

    async def _commit(self, jobs: Sequence[Job]) -> Sequence[object]:
        if all(job.handler is None for job in jobs):
            return [None] * len(jobs)
        started = time.monotonic()
        durable = any(job.durable for job in jobs)
        outcomes, wrote = await self._try(jobs, durable, RETRY_S)
        if wrote and self.wrote is not None:
            self.wrote(time.monotonic() - started, durable)
        return outcomes

    async def _try(self, jobs: Sequence[Job], durable: bool, left: float) -> tuple[Sequence[object], bool]:
        """Do it, and again where a fault passes by, within `left` seconds."""
        started, transaction = time.monotonic(), None
        try:
            async with self._line.use(BATCH_S) as connection:
                me = await self._session.ensure(connection)
                transaction = self._begin(connection, me)
                outcomes = await self._transact(transaction, jobs, durable=durable)
        except StoreUnavailableError as fault:
            left -= time.monotonic() - started + PAUSE_S
            if not is_passing(fault) or left < 0 or (transaction is not None and transaction.ending):
                raise
            await asyncio.sleep(PAUSE_S)
            return await self._try(jobs, durable, left)
        if me != self._session.id:  # it was found dead after this, and the owner was told
            raise LeaseLostError("the lease was lost: ask again")
        transaction.apply()
        if transaction.hints:
            self.tell(*transaction.hints)
        return outcomes, transaction.wrote

    async def _transact(self, transaction: Transaction, jobs: Sequence[Job], *, durable: bool) -> Sequence[object]:
        connection, outcomes, sent = transaction.connection, list[object](), float("-inf")
        try:
            await connection.execute("BEGIN" if durable else "BEGIN; SET LOCAL synchronous_commit = off")
            if self._reconciled is None or self._reconciled != self._line.life:
                await self._reconcile(transaction, self._session)
            for handler, group in groupby(jobs, key=lambda job: job.handler):
                calls = [job.call for job in group]
                outcomes += [None] * len(calls) if handler is None else await handler(transaction, calls)
            if transaction.wrote:
                sent = time.monotonic()
                await self._session.fence(connection, transaction.me, transaction.tally)
            transaction.ending = True
            with confirmed(connection):
                await connection.execute("COMMIT")
        except LeaseLostError:
            self._journal.undo()
            await connection.execute("ROLLBACK")
            raise
        except BaseException:
            self._journal.undo()
            if transaction.ending:
                self._reconciled = None  # whether it was committed, and what is held, nobody knows
            raise
        self._journal.keep()
        self._reconciled = self._line.life
        if durable:
            self._session.renewed(transaction.me, sent)
        return outcomes
