"""What a store is made of: lines, lane, session, what is noted and held, and the tasks that keep them going."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

from poller.ports import HeldElsewhereError, Pending, Progress, Stamp, StoreUnavailableError, UnknownOrderError
from poller.stores.behind import Behind
from poller.stores.journal import Journal
from poller.stores.notes import Notes
from poller.stores.postgres import migration
from poller.stores.postgres.address import parse
from poller.stores.postgres.connecting import Servers
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.faults import is_passing
from poller.stores.postgres.fleet import PRESENT, FleetTime, read_stamp
from poller.stores.postgres.heartbeat import Heartbeat
from poller.stores.postgres.herald import Herald, Hint
from poller.stores.postgres.holds import Holds
from poller.stores.postgres.lane import CLOSED, Handler, Lane, Transaction
from poller.stores.postgres.lines import Line, Readers, servers_of
from poller.stores.postgres.notes import settle
from poller.stores.postgres.reconciling import reconcile
from poller.stores.postgres.session import Session
from poller.stores.postgres.terms import Terms

READERS = 2
OPEN_S = 20.0
READ_S = 10.0
CLOSE_S = 10.0
LAST_S = 2.0  # of it, for saying goodbye
REFUSALS = (UnknownOrderError, HeldElsewhereError)  # answers, after which the transaction goes on

T = TypeVar("T")
C = TypeVar("C")
Work = Callable[[Transaction], Awaitable[T]]


class Engine:
    """Call it from the loop's thread alone."""

    def __init__(
        self, servers: Servers, presence: Line, name: str, *, terms: Terms, run: float, stamp: Stamp | None
    ) -> None:
        journal = Journal()
        self.last_stamp = stamp
        self.lost: Callable[[], None] | None = None
        self.fleet = FleetTime(run)
        self.session = Session(name, terms, self.fleet, self._lose)
        self.herald = Herald(presence)
        self.heartbeat = Heartbeat(presence, self.session, terms, self.herald)
        self._presence = presence
        self._servers = servers
        self._others: list[Line] = []
        self._notes = Notes(journal)
        self._orders = Holds()
        self._deliveries = Holds()
        self._line = Line(servers, **_bounds(terms))
        self.lane = Lane(self._line, self.session, journal, self._begin, reconcile)
        self.lane.tell = self.herald.tell
        self._readers = Readers(servers, READERS)
        self._behind = Behind(self._notes, self._start_settling)
        self._tasks = [
            _task(self.lane.run(), "store-lane"),
            _task(self.heartbeat.run(), "store-heartbeat"),
            _task(self.herald.run(), "store-herald"),
        ]
        self._closed = False

    @classmethod
    async def open(
        cls, url: str, *, password: str | None, tls: ssl.SSLContext | str | None, name: str, terms: Terms
    ) -> Engine:
        """As `PostgresStore.open`."""
        address = parse(url, password, tls)
        servers = servers_of(address)
        line = Line(servers)
        try:
            async with line.use(migration.BUILD_S) as connection:  # each statement has a bound of its own
                await migration.migrate(connection, address.place, terms.expiry)
        finally:
            await line.close(LAST_S)
        presence = Line(
            servers, greeting=PRESENT, idle_session_timeout=f"{terms.lease * 1000:.0f}", **_bounds(terms)
        )
        name, engine = name or f"daemon {uuid4().hex[:12]}", None
        try:
            async with presence.use(OPEN_S, greet=False) as connection:
                run, stamp = await read_stamp(connection, datetime.now(UTC), terms.joining)
                engine = cls(servers, presence, name, terms=terms, run=run, stamp=stamp)
                await engine.session.ensure(connection)
                await presence.listen(engine.herald.hear)
        except BaseException:
            presence.drop()
            if engine is not None:
                await engine._let_go()
            raise
        return engine

    def check(self) -> None:
        """Raises the defect that has ended one of the tasks."""
        for task in self._tasks:
            if task.done() and not self._closed:
                task.result()

    async def write(
        self,
        handler: Handler[C, T],
        call: C,
        *,
        durable: bool = False,
        abandoned: Callable[[T], None] | None = None,
    ) -> T:
        """Have a call done in the lane; a caller that is cancelled gives back what it would have held."""
        future = self.lane.submit(handler, call, durable=durable, abandoned=abandoned)
        try:
            return await future
        except asyncio.CancelledError:
            if abandoned is not None and not future.cancelled() and future.exception() is None:
                abandoned(future.result())  # cancelled between answer and step
            raise

    async def work(
        self, work: Work[T], *, durable: bool = False, abandoned: Callable[[T], None] | None = None
    ) -> T:
        """Have something done in the lane that is alone of its kind."""

        async def handler(transaction: Transaction, _: Sequence[None]) -> Sequence[T | Exception]:
            try:
                return [await work(transaction)]
            except REFUSALS as refusal:
                return [refusal]

        return await self.write(handler, None, durable=durable, abandoned=abandoned)

    async def read(self, read: Callable[[Connection], Awaitable[T]], *, noted: bool = False) -> T:
        """Read what has been written by those who called before and, with `noted`, what they noted."""
        if noted and self._notes:
            await self._start_settling()
        elif not self.lane.is_idle():
            await self.lane.submit(None, None)
        if self._closed:
            raise StoreUnavailableError(CLOSED)
        try:
            return await self._read(read)
        except StoreUnavailableError as fault:
            if not is_passing(fault):
                raise
            return await self._read(read)

    def note(self, progress: Progress) -> None:
        self._notes.add(progress)
        self._behind.noted()

    def note_logged(self, ids: Iterable[int]) -> None:
        self._notes.add_logged(ids)
        self._behind.noted()

    def give_back_orders(self, orders: Iterable[Pending]) -> None:
        self._notes.give_back_orders(orders)
        self._behind.noted()

    def give_back_deliveries(self, ids: Iterable[int]) -> None:
        self._notes.give_back_deliveries(ids)
        self._behind.noted()

    def another_line(self, **settings: str) -> Line:
        """A connection of its own for somebody; it is closed with the rest."""
        self._others.append(Line(self._servers, **settings))
        return self._others[-1]

    def has_releases(self) -> bool:
        return self._notes.releases

    async def flush(self) -> None:
        """Write down what is noted, and the daemon's times."""

        async def work(transaction: Transaction) -> None:
            await settle(transaction)
            transaction.wrote = True

        await self.work(work)

    async def close(self) -> None:
        """Write everything down and leave the fleet; bounded in time. Raises StoreUnavailableError."""
        if self._closed:
            return
        self._behind.stop()
        self._closed = True
        writing = _task(self.flush(), "store-closing")
        try:
            async with asyncio.timeout(CLOSE_S):
                await asyncio.sleep(0)  # until it is in the lane
                self.lane.stop()
                self.heartbeat.stop()
                self.herald.stop()
                await asyncio.wait([writing, *self._tasks])
                async with self._presence.use(LAST_S) as connection:
                    await self.session.end(connection)
                    await self.herald.say(connection, Hint.FREE)
                await writing
        except TimeoutError:
            raise StoreUnavailableError(
                f"PostgreSQL has not answered for {CLOSE_S:.0f} s; what was taken on and what has ended is kept, "
                "and the others of the fleet have the rest within a lease"
            ) from None
        finally:
            await self._let_go(writing)

    async def _let_go(self, *others: asyncio.Task[None]) -> None:
        tasks = (*others, *self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        lines: tuple[Line | Readers, ...] = (self._line, self._presence, self._readers, *self._others)
        await asyncio.gather(*(one.close(LAST_S) for one in lines))

    async def _read(self, read: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._readers.use(READ_S) as connection:
            return await read(connection)

    def _begin(self, connection: Connection, me: int) -> Transaction:
        return Transaction(connection, me, self._notes, self._orders, self._deliveries)

    def _start_settling(self) -> asyncio.Future[None]:
        return self.lane.submit(_settle_all, None)

    def _lose(self) -> None:
        self._orders.lose_all()
        self._deliveries.lose_all()
        if self.lost is not None:
            self.lost()


def _bounds(terms: Terms) -> dict[str, str]:
    """For the lines on which sessions are renewed, so that a lease is not longer for locks in the way."""
    return {"idle_in_transaction_session_timeout": f"{terms.patience * 1000:.0f}"}


async def _settle_all(transaction: Transaction, calls: Sequence[None]) -> Sequence[None]:
    await settle(transaction)
    return [None] * len(calls)


def _task(coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(coroutine, name=name)
