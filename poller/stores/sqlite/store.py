"""The store itself: each call of the port as a job for the writer."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from poller.core.delivery import DeliveryState
from poller.core.orders import Change, NewOrder, Order, OrderKey, State
from poller.ports import (
    Accepted,
    Attempt,
    Counts,
    Delivery,
    HistoryEntry,
    Making,
    Notice,
    Pending,
    Progress,
    Recorded,
    Stamp,
    StoreCorruptError,
    StoreUnavailableError,
    Submitted,
)
from poller.ports.records import Ended, Ending, Overview, Settlement, Since
from poller.stores.behind import Behind
from poller.stores.journal import Journal
from poller.stores.notes import Notes
from poller.stores.sqlite import deliveries as outbox
from poller.stores.sqlite import opening, pruning, schedule, transition
from poller.stores.sqlite import orders as ledger
from poller.stores.sqlite import overview as glance
from poller.stores.sqlite.arrivals import Arrivals, Numbers
from poller.stores.sqlite.batch import Transactions, read_stamp
from poller.stores.sqlite.faults import fault_of
from poller.stores.sqlite.holds import DeliveryHolds, OrderHolds
from poller.stores.sqlite.lock import StoreLock
from poller.stores.sqlite.tally import Tally
from poller.stores.sqlite.writer import InlineWriter, ThreadedWriter, Work, Writer

CLOSE_S = 10.0

T = TypeVar("T")


class SqliteStore:
    """`poller.ports.Store` in one file; and `poller.stores.KeptStore`. Open it with `open`."""

    def __init__(self, path: Path, connection: sqlite3.Connection, lock: StoreLock, inline: bool) -> None:
        journal = Journal()
        self._path = path
        self._connection = connection
        self._lock = lock
        self._last_stamp = read_stamp(connection)
        self._transactions = Transactions(connection, journal, path)
        self._orders = OrderHolds(journal)
        self._deliveries = DeliveryHolds(journal)
        self._notes = Notes(journal)
        self._tally = Tally(connection, journal)
        self._arrivals = Arrivals(Numbers(connection, journal), self._orders, self._tally, self._settle_order)
        self._writer: Writer = (InlineWriter if inline else ThreadedWriter)(self._transactions)
        self._behind = Behind(self._notes, lambda: self._writer.submit(self._settle))
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        lock_wait: float = 10.0,
        inline: bool = False,
        connect: opening.Connect = opening.connect,
    ) -> SqliteStore:
        """Open or create the store at `path`, whose folder exists.

        Waits at most `lock_wait` seconds for another process to let go. `inline` runs every job in the
        caller's step instead of in a thread: for simulated time. Raises StoreHeldError, StoreMovedError,
        StoreTooNewError, StoreCorruptError and StoreUnavailableError.
        """
        lock = await StoreLock.acquire(path, lock_wait)
        try:
            connection = opening.open_connection(path, connect)
            try:
                return cls(path, connection, lock, inline)
            except sqlite3.Error as error:
                connection.close()
                raise fault_of(error, path) or error from error
        except BaseException:
            lock.release()
            raise

    def fleet(self) -> None:
        """One daemon has the file for itself."""

    def last_stamp(self) -> Stamp | None:
        """The stamp that was on disk when the store was opened; None for a new store."""
        return self._last_stamp

    def keep_time(self, stamp: Callable[[], Stamp]) -> None:
        """From now on write `stamp()` down with every transaction that writes, and at each `flush`.

        It is called in the writer's thread.
        """
        self._transactions.stamp = stamp

    def watch(self, wrote: Callable[[float, bool], None]) -> None:
        """From now on tell of each transaction that wrote: its seconds, and whether it was durable.

        `wrote` is called in the writer's thread.
        """
        self._transactions.wrote = wrote

    def check(self) -> None:
        """Raises StoreCorruptError once any call, or writing behind, has met a malformed file."""
        if self._transactions.corrupt is not None:
            raise StoreCorruptError(self._transactions.corrupt)

    def busy_since(self) -> float | None:
        """`time.monotonic()` when the transaction that is running now began; None while none runs."""
        return self._writer.busy_since()

    def size_bytes(self) -> int:
        """The file and its write-ahead log."""
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    async def submit(self, orders: Sequence[NewOrder], at: datetime, run: float, due: float) -> list[Submitted]:
        def work(connection: sqlite3.Connection) -> list[Submitted]:
            return self._arrivals.submit(connection, orders, at, run, due)

        return await self._holding(work, self._give_back_arrivals, durable=True)

    async def get(self, key: OrderKey) -> Order | None:
        return await self._read(lambda connection: ledger.find(connection, key), key)

    async def orders(
        self, state: State | None, park_uuid: str | None, limit: int, before: int | None
    ) -> list[Order]:
        return await self._read(lambda connection: ledger.newest(connection, state, park_uuid, limit, before))

    async def history(self, key: OrderKey) -> list[HistoryEntry]:
        return await self._read(lambda connection: ledger.history(connection, key), key)

    async def claim(self, by: float, limit: int, *, freshest: bool = False) -> list[Pending]:
        def work(connection: sqlite3.Connection) -> list[Pending]:
            self._settle_releases(connection)
            claim = schedule.claim_freshest if freshest else schedule.claim_longest
            return claim(connection, self._orders, by, limit)

        return await self._holding(work, self.give_back)

    async def claim_of_lots(self, by: float, wanted: Mapping[str, int]) -> list[Pending]:
        def work(connection: sqlite3.Connection) -> list[Pending]:
            self._settle_releases(connection)
            return schedule.claim_of_lots(connection, self._orders, by, wanted)

        return await self._holding(work, self.give_back)

    async def hold(self, key: OrderKey) -> Pending:
        def give_back(held: tuple[Pending, bool]) -> None:
            pending, newly = held
            if newly:
                self.give_back([pending])

        def work(connection: sqlite3.Connection) -> tuple[Pending, bool]:
            self._settle_order(connection, key)
            pending = schedule.one(connection, key)
            newly = pending.state is State.PENDING and self._orders.hold(pending.id)
            return pending, newly

        return (await self._holding(work, give_back))[0]

    def give_back(self, orders: Iterable[Pending]) -> None:
        self._notes.give_back_orders(orders)
        self._behind.noted()

    def note(self, progress: Progress) -> None:
        self._notes.add(progress)
        self._behind.noted()

    async def change(self, key: OrderKey, change: Callable[[Order], Change | None], making: Making) -> Recorded:
        def work(connection: sqlite3.Connection) -> Recorded:
            recorded = transition.apply(
                connection,
                key,
                change,
                making,
                notes=self._notes,
                holds=self._orders,
                deliveries=self._deliveries,
                tally=self._tally,
            )
            self._settle_logged(connection)  # last: a change that is refused has written nothing
            return recorded

        return await self._holding(work, self._give_back_recorded, durable=True)

    async def undecided(self, opened_by: float, limit: int) -> list[OrderKey]:
        return await self._writer.submit(lambda connection: schedule.undecided(connection, opened_by, limit))

    async def oldest_untold(self) -> float | None:
        return await self._writer.submit(schedule.oldest_untold)

    async def unlogged(self, limit: int) -> list[Notice]:
        def work(connection: sqlite3.Connection) -> list[Notice]:
            self._settle_releases(connection)
            self._settle_logged(connection)
            return outbox.unlogged(connection, self._deliveries, limit)

        return await self._writer.submit(work)

    def note_logged(self, ids: Sequence[int]) -> None:
        self._notes.add_logged(ids)
        self._behind.noted()

    async def claim_deliveries(self, by: float, limit: int, *, freshest: bool = False) -> list[Delivery]:
        def give_back(claimed: list[Delivery]) -> None:
            self.give_back_deliveries([delivery.notice.id for delivery in claimed])

        def work(connection: sqlite3.Connection) -> list[Delivery]:
            self._settle_releases(connection)
            return outbox.claim(connection, self._deliveries, by, limit, freshest=freshest)

        return await self._holding(work, give_back)

    def give_back_deliveries(self, ids: Sequence[int]) -> None:
        self._notes.give_back_deliveries(ids)
        self._behind.noted()

    async def bring_deliveries_forward(self, due: float, limit: int, before: int | None = None) -> int | None:
        return await self._writer.submit(
            lambda connection: outbox.bring_forward(connection, self._deliveries, due, limit, before)
        )

    def undelivered(self) -> int | None:
        return self._tally.undelivered

    async def next_delivery(self) -> float | None:
        def work(connection: sqlite3.Connection) -> float | None:
            self._settle_releases(connection)
            return outbox.next_due(connection, self._deliveries)

        return await self._writer.submit(work)

    async def record_attempt(self, attempt: Attempt) -> None:
        def work(connection: sqlite3.Connection) -> None:
            outbox.record(connection, self._deliveries, self._tally, attempt)
            self._settle_logged(connection)

        has_ended = attempt.state is not DeliveryState.PENDING
        await self._writer.submit(work, durable=has_ended, patient=True)

    async def deliveries(
        self,
        state: DeliveryState | None,
        key: OrderKey | None,
        limit: int,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Delivery]:
        return await self._writer.submit(
            lambda connection: outbox.some(connection, state, key, limit, before=before, after=after)
        )

    async def delivery(self, event_id: str) -> Delivery | None:
        return await self._writer.submit(lambda connection: outbox.find(connection, event_id))

    async def redeliver(self, event_id: str, run: float, due: float) -> Delivery:
        return await self._writer.submit(
            lambda connection: outbox.again(connection, self._deliveries, self._tally, event_id, run=run, due=due),
            durable=True,
        )

    async def overview(self, since: Since, limit: int) -> Overview:
        return await self._read(lambda connection: glance.overview(connection, since, limit))

    async def ended(self, after: Ending, limit: int) -> list[Ended]:
        return await self._writer.submit(lambda connection: glance.ended(connection, after, limit))

    async def settlements(self, limit: int) -> list[Settlement]:
        return await self._read(lambda connection: glance.settlements(connection, limit))

    async def counts(self) -> Counts:
        return await self._writer.submit(self._tally.counts)

    async def flush(self) -> None:
        await self._writer.submit(self._write_all)

    async def prune(self, ended_by: float, limit: int) -> int:
        def work(connection: sqlite3.Connection) -> int:
            self._settle(connection)  # or what was noted of such an order would come after
            return pruning.prune(connection, ended_by, limit)

        return await self._writer.submit(work)

    async def close(self) -> None:
        """Write everything down and give the store free. It is free afterwards even where this raises.

        Unless the writer is stuck: then this gives up after `CLOSE_S`, and the store is free when it comes
        back or when the process ends.
        """
        if self._closed:
            return
        self._closed = True
        self._behind.stop()
        writing = [] if self._transactions.corrupt else [self._writer.submit(self._write_all)]
        endings = [*writing, self._writer.stop(self._end)]
        _, late = await asyncio.wait(endings, timeout=CLOSE_S)
        for ending in late:
            ending.cancel()
        if late:
            raise StoreUnavailableError(
                f"{self._path} could not be closed: its disk has not answered for {CLOSE_S:.0f} s; what was taken "
                "on and what has ended is kept: check the disk, its mount and the system's log"
            )
        faults = [fault for ending in endings if (fault := ending.exception()) is not None]
        if faults:
            raise faults[0]

    def _end(self, connection: sqlite3.Connection) -> None:
        with ExitStack() as ending:
            ending.callback(self._lock.release)
            ending.callback(connection.close)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    async def _read(self, work: Work[T], key: OrderKey | None = None) -> T:
        """Run a job that sees all that was noted, or all that was noted of one order."""

        def settled(connection: sqlite3.Connection) -> T:
            if key is None:
                self._settle(connection)
            else:
                self._settle_order(connection, key)
            return work(connection)

        return await self._writer.submit(settled)

    async def _holding(self, work: Work[T], give_back: Callable[[T], None], *, durable: bool = False) -> T:
        """Run a job whose outcome its caller then holds; one that is cancelled gives it back."""
        future = self._writer.submit(work, durable=durable, abandoned=give_back)
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.exception() is None:  # cancelled between answer and step
                give_back(future.result())
            raise

    def _give_back_arrivals(self, answers: Sequence[Submitted]) -> None:
        self.give_back(answer.pending for answer in answers if isinstance(answer, Accepted))

    def _give_back_recorded(self, recorded: Recorded) -> None:
        if recorded.notice is not None:
            self._notes.give_back_notices([recorded.notice.id])
        if recorded.delivery is not None:
            self._notes.give_back_deliveries([recorded.delivery.notice.id])
        self._behind.noted()

    def _write_all(self, connection: sqlite3.Connection) -> None:
        self._settle(connection)
        self._transactions.write_stamp()

    def _settle(self, connection: sqlite3.Connection) -> None:
        """Write down what has been noted, in the transaction of a job."""
        taken = self._notes.take()
        schedule.write_noted(connection, self._orders, taken.orders)
        outbox.write_logged(connection, self._deliveries, taken.logged)
        for number in taken.deliveries:
            self._deliveries.release(number)
        for number in taken.notices:
            self._deliveries.told(number)

    def _settle_order(self, connection: sqlite3.Connection, key: OrderKey) -> None:
        """As `_settle`, of one order alone: a change of it need not write down the queries of all others."""
        number = ledger.number_of(connection, key)
        noted = None if number is None else self._notes.take_order(number)
        if number is not None and noted is not None:
            schedule.write_noted(connection, self._orders, {number: noted})

    def _settle_logged(self, connection: sqlite3.Connection) -> None:
        """As `_settle`, of which notices have been logged."""
        outbox.write_logged(connection, self._deliveries, self._notes.take_logged())

    def _settle_releases(self, connection: sqlite3.Connection) -> None:
        """As `_settle`, but only where a claim may find more after it: what else is noted is held."""
        if self._notes.releases:
            self._settle(connection)
