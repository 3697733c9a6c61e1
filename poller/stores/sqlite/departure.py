"""A file whose orders move to another store: read order by order, with a mark that remembers how far.

The mark comes first, on disk: from then on no daemon opens the file, so nothing in it changes any more.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from poller.core.orders import OrderKey, State
from poller.ports import Stamp, StoreMovedError, StoreTooNewError, StoreUnavailableError
from poller.stores.dossier import Dossier, Told
from poller.stores.sqlite import deliveries, mark, orders, schema
from poller.stores.sqlite.batch import read_stamp
from poller.stores.sqlite.faults import fault_of
from poller.stores.sqlite.lock import StoreLock
from poller.stores.sqlite.mark import ABOVE_ALL, MOVED, Mark
from poller.stores.sqlite.opening import connect, open_connection

BATCH = 500  # orders, and
BATCH_ROWS = 4000  # rows of their histories and notices

_ALL = -1  # to SQLite: no limit
_FOLLOWING = {
    ended: f"SELECT id, ended_run FROM orders WHERE state {sign} ? AND id < ? ORDER BY id DESC LIMIT {BATCH}"  # noqa: S608
    for ended, sign in ((False, "="), (True, "<>"))
}
_UNLOGGED = "SELECT id FROM deliveries WHERE order_id = ? AND logged = 0"


class Differing(NamedTuple):
    """An order that has one final state here and another one there."""

    key: OrderKey
    here: State
    there: State


@dataclass(slots=True)
class Departure:
    """Open it with `open`. All calls raise StoreUnavailableError and StoreCorruptError."""

    path: Path
    _connection: sqlite3.Connection
    _lock: StoreLock
    mark: Mark | None = None

    @classmethod
    async def open(cls, path: Path, *, lock_wait: float) -> Departure:
        """Take hold of the file, for which a daemon has to let go of it within `lock_wait` seconds.

        Raises StoreHeldError, StoreTooNewError, StoreCorruptError and StoreUnavailableError.
        """
        with _faults(path):
            _look_for(path)
            lock = await StoreLock.acquire(path, lock_wait)
            try:
                connection, marked = _open(path)
                return cls(path, connection, lock, mark.read(connection) if marked else None)
            except BaseException:
                lock.release()
                raise

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        self._lock.release()

    def stamp(self) -> Stamp | None:
        """The times of the daemon that used the file, as it wrote them last; None where none did."""
        with _faults(self.path):
            return read_stamp(self._connection)

    def count(self) -> int:
        """How many orders there are in the file."""
        with _faults(self.path):
            count: int = self._connection.execute("SELECT count(*) FROM orders").fetchone()[0]
            return count

    def begin(self, begun: Mark) -> Mark:
        """Put the mark on the file: from now on it is of use for nothing but the move."""
        with self._transaction():
            mark.make(self._connection, begun, schema.VERSION)
        self._checkpoint()  # so that a copy of the file alone has it, too
        self.mark = begun
        return begun

    def following(self, since: Mark) -> tuple[Mark, list[Dossier]]:
        """The next orders, newest first, and the mark to go on with once they are there; none at the end."""
        with _faults(self.path):
            page = self._page(since)
            if not page and not since.ended:
                since = replace(since, ended=True, below=ABOVE_ALL)
                page = self._page(since)
        return (replace(since, below=page[-1].order.id) if page else since), page

    def keep(self, so_far: Mark, differing: Sequence[tuple[int, Differing]] = ()) -> None:
        """Write down how far the move has come, and which orders have ended in two ways, by their ids."""
        rows = [(number, *one.key, one.here.value, one.there.value) for number, one in differing]
        with self._transaction():
            mark.write(self._connection, so_far)
            self._connection.executemany("INSERT OR REPLACE INTO moved_differing VALUES (?, ?, ?, ?, ?)", rows)
        self.mark = so_far
        if so_far.done:
            self._checkpoint()

    def differing(self) -> Iterator[Differing]:
        """The orders that have ended in two ways, oldest first."""
        with _faults(self.path), closing(self._connection.cursor()) as rows:
            rows.execute("SELECT park_uuid, pay_partner, here, there FROM moved_differing ORDER BY order_id")
            for lot, number, here, there in rows:
                yield Differing(OrderKey(lot, number), State(here), State(there))

    def _checkpoint(self) -> None:
        with _faults(self.path):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _page(self, since: Mark) -> list[Dossier]:
        page: list[Dossier] = []
        rows = 0
        with closing(self._connection.cursor()) as found:
            found.execute(_FOLLOWING[since.ended], (State.PENDING.value, since.below))
            for number, ended_run in found:
                page.append(self._dossier(number, ended_run))
                rows += len(page[-1].history) + len(page[-1].notices)
                if rows > BATCH_ROWS:
                    break
        return page

    def _dossier(self, number: int, ended_run: float | None) -> Dossier:
        [order] = orders.numbered(self._connection, [number])
        made = deliveries.some(self._connection, None, order.key, _ALL, before=None, after=0)
        unlogged = {row[0] for row in self._connection.execute(_UNLOGGED, (number,))} if made else set()
        return Dossier(
            order,
            ended_run,
            orders.history(self._connection, order.key),
            [Told(delivery, delivery.notice.id not in unlogged) for delivery in made],
        )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """On disk once it has ended."""
        with _faults(self.path):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise


def _look_for(path: Path) -> None:
    if not path.exists() or not path.stat().st_size:
        raise StoreUnavailableError(f"there is no store at {path}: name the file that the daemon used")


def _open(path: Path) -> tuple[sqlite3.Connection, bool]:
    """A connection whose transactions are on disk once they have ended, and whether the file has a mark."""
    try:
        return open_connection(path), False
    except StoreMovedError:
        connection = connect(path)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        version = connection.execute("PRAGMA user_version").fetchone()[0] - MOVED
        if version != schema.VERSION and not mark.read(connection).done:
            raise StoreTooNewError(  # noqa: TRY301
                f"{path} is half moved, by a program that knows version {version} of it, while this one knows "
                f"{schema.VERSION}: end the move with that program"
            )
    except BaseException:
        connection.close()
        raise
    return connection, True


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise fault_of(error, path) or error from error
