"""Taking orders on, however many, with few statements."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import cache
from itertools import chain

from poller.core.documents import compact_json, same_json
from poller.core.orders import NewOrder, Order, OrderKey, State
from poller.ports import Accepted, Differs, Known, Pending, Submitted
from poller.stores.journal import Journal
from poller.stores.sqlite.holds import OrderHolds
from poller.stores.sqlite.orders import load
from poller.stores.sqlite.rows import Row, from_ms, to_ms
from poller.stores.sqlite.tally import Tally

ROWS_MOST = 64  # in one statement; they come in powers of two, so that few statements need to be known

_COUNTED = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'orders'"
_LAST = f"SELECT max(ifnull(max(id), 0), ({_COUNTED})) FROM orders"  # noqa: S608
_ORDERS = "INSERT INTO orders (id, park_uuid, pay_partner, metadata, accepted_at, opened_run, state) VALUES "
_ORDER = "(?, ?, ?, ?, ?, ?, 'pending')"
_ONCE = " ON CONFLICT (park_uuid, pay_partner) DO NOTHING"
_SCHEDULE = "INSERT INTO schedule (order_id, due, opened_run) VALUES "
_TURN = "(?, ?, ?)"
_ENTERED = "SELECT id FROM orders WHERE id BETWEEN ? AND ?"


class Numbers:
    """The ids of new orders, each above all that were given. The file's own count (AUTOINCREMENT) follows."""

    def __init__(self, connection: sqlite3.Connection, journal: Journal) -> None:
        self._journal = journal
        self._last: int = connection.execute(_LAST).fetchone()[0]

    def take(self, count: int) -> range:
        """The next ones; they are free again where the transaction is undone."""
        before, self._last = self._last, self._last + count
        self._journal.add(lambda: self._restore(before))
        return range(before + 1, self._last + 1)

    def _restore(self, last: int) -> None:
        self._last = last


class Arrivals:
    """Enters orders and holds them. `settle` writes down what was noted of one that is known."""

    def __init__(
        self,
        numbers: Numbers,
        holds: OrderHolds,
        tally: Tally,
        settle: Callable[[sqlite3.Connection, OrderKey], None],
    ) -> None:
        self._numbers = numbers
        self._holds = holds
        self._tally = tally
        self._settle = settle

    def submit(
        self, connection: sqlite3.Connection, new: Sequence[NewOrder], at: datetime, run: float, due: float
    ) -> list[Submitted]:
        """As `Store.submit`, inside a transaction."""
        ids = self._numbers.take(len(new))
        texts = [compact_json(one.metadata) if one.metadata else "{}" for one in new]
        ms = to_ms(at)
        rows: list[Row] = [
            (number, *one.key, text, ms, run) for number, one, text in zip(ids, new, texts, strict=True)
        ]
        entered: Collection[int] = ids
        if (count := _insert(connection, rows, _ORDERS, _ORDER, _ONCE)) < len(ids):
            entered = {row[0] for row in connection.execute(_ENTERED, (ids[0], ids[-1]))} if count else ()
        _insert(connection, [(number, due, run) for number in ids if number in entered], _SCHEDULE, _TURN)
        self._holds.hold_new(entered)
        self._tally.add(pending=count)
        at = from_ms(ms)
        return [
            _accepted(Pending(number, one.key, run, due), text, at)
            if number in entered
            else self._recognise(connection, one, text)
            for number, one, text in zip(ids, new, texts, strict=True)
        ]

    def _recognise(self, connection: sqlite3.Connection, new: NewOrder, text: str) -> Known | Differs:
        self._settle(connection, new.key)
        order = load(connection, new.key)
        return Known(order) if same_json(order.metadata, json.loads(text)) else Differs(order)


def _accepted(pending: Pending, text: str, at: datetime) -> Accepted:
    metadata = json.loads(text) if text != "{}" else {}
    order = Order(
        pending.id, pending.key, State.PENDING, metadata, at, opened_run=pending.opened_run, due=pending.due
    )
    return Accepted(order, pending)


def _insert(connection: sqlite3.Connection, rows: Sequence[Row], head: str, row: str, tail: str = "") -> int:
    """Insert rows; how many there are more."""
    inserted = done = 0
    while done < len(rows):
        size = min(ROWS_MOST, 1 << (len(rows) - done).bit_length() - 1)
        some = rows[done : done + size]
        inserted += connection.execute(_many(head, row, size, tail), [*chain.from_iterable(some)]).rowcount
        done += size
    return inserted


@cache
def _many(head: str, row: str, count: int, tail: str) -> str:
    return head + ", ".join([row] * count) + tail
