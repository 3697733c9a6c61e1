"""The SQL of orders and their history."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from poller.core.orders import Order, OrderKey, State
from poller.ports import HistoryEntry, UnknownOrderError
from poller.stores.notes import joined
from poller.stores.sqlite.rows import ANSWER, ORDER, entry_of, maybe_ms, order_of, to_ms, whole_ms

_LAST_ANSWER = (
    "LEFT JOIN history h ON h.order_id = o.id AND h.n = (SELECT max(n) FROM history WHERE order_id = o.id)"
)
_FROM = f"FROM orders o LEFT JOIN schedule s ON s.order_id = o.id {_LAST_ANSWER}"
_FROM_PENDING = f"FROM schedule s CROSS JOIN orders o ON o.id = s.order_id {_LAST_ANSWER}"
_LOAD = f"SELECT {ORDER} {_FROM} WHERE o.park_uuid = ? AND o.pay_partner = ?"
_NUMBERED = f"SELECT {ORDER} {_FROM} WHERE o.id = ?"
_NUMBER = "SELECT id FROM orders WHERE park_uuid = ? AND pay_partner = ?"
_HISTORY = (
    f"SELECT h.count, h.first_at, {ANSWER} FROM orders o JOIN history h ON h.order_id = o.id "  # noqa: S608
    "WHERE o.park_uuid = ? AND o.pay_partner = ? ORDER BY h.n"
)
_LAST = (
    f"SELECT h.n, h.count, h.first_at, {ANSWER} FROM history h "  # noqa: S608
    "WHERE h.order_id = ? ORDER BY h.n DESC LIMIT 1"
)


def number_of(connection: sqlite3.Connection, key: OrderKey) -> int | None:
    """An order's id; None for an unknown one."""
    row = connection.execute(_NUMBER, key).fetchone()
    return None if row is None else int(row[0])


def find(connection: sqlite3.Connection, key: OrderKey) -> Order | None:
    """One order with its last answer."""
    row = connection.execute(_LOAD, key).fetchone()
    return None if row is None else order_of(row)


def load(connection: sqlite3.Connection, key: OrderKey) -> Order:
    """As `find`. Raises UnknownOrderError."""
    order = find(connection, key)
    if order is None:
        raise UnknownOrderError(f"there is no order {key.pay_partner!r} of lot {key.park_uuid!r}")
    return order


def newest(
    connection: sqlite3.Connection, state: State | None, park_uuid: str | None, limit: int, before: int | None
) -> list[Order]:
    """Newest first, with ids below `before`."""
    wanted: list[tuple[str, object]] = []
    tables, number = _FROM, "o.id"
    if state is State.PENDING:
        tables, number = _FROM_PENDING, "s.order_id"
    elif state is not None:
        wanted.append(("o.state != 'pending' AND o.state = ?", state.value))  # the first for the sake of its index
    if park_uuid is not None:
        wanted.append(("+o.park_uuid = ?", park_uuid))  # a filter: its index is in no useful order
    if before is not None:
        wanted.append((f"{number} < ?", before))
    where = "WHERE " + " AND ".join(condition for condition, _ in wanted) if wanted else ""
    rows = connection.execute(
        f"SELECT {ORDER} {tables} {where} ORDER BY {number} DESC LIMIT ?",
        (*(value for _, value in wanted), limit),
    )
    return [order_of(row) for row in rows]


def numbered(connection: sqlite3.Connection, ids: Iterable[int]) -> list[Order]:
    """The orders with these ids, which exist, in their order."""
    return [order_of(connection.execute(_NUMBERED, (number,)).fetchone()) for number in ids]


def history(connection: sqlite3.Connection, key: OrderKey) -> list[HistoryEntry]:
    """Oldest first."""
    return [entry_of(row) for row in connection.execute(_HISTORY, key)]


def write(connection: sqlite3.Connection, before: Order, changed: Order, run: float) -> Order:
    """Write down what a change at `run` made of an order, its last answer included where that is new.

    Returns the order as it can be read from now on.
    """
    after = _as_kept(changed)
    has_turned = (before.state is State.PENDING) is not (after.state is State.PENDING)
    connection.execute(
        "UPDATE orders SET state = ?, undecided_at = ?, final_at = ?, conflict_at = ?, opened_run = ?, "
        "polls = ?, pay_serial = ?, pay_origin = ?, pay_origin_desc = ?, "
        "ended_run = CASE WHEN ? THEN ? ELSE ended_run END WHERE id = ?",
        (
            after.state.value,
            maybe_ms(after.undecided_at),
            maybe_ms(after.final_at),
            maybe_ms(after.conflict_at),
            after.opened_run,
            after.polls,
            after.payment.serial,
            after.payment.origin,
            after.payment.origin_desc,
            has_turned,
            None if after.state is State.PENDING else run,
            before.id,
        ),
    )
    if after.state is State.PENDING:
        connection.execute(
            "INSERT OR REPLACE INTO schedule (order_id, due, opened_run, polls, errors, cancelling, untold) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                before.id,
                after.due,
                after.opened_run,
                after.polls,
                after.errors,
                after.cancelling,
                after.undecided_at is None,
            ),
        )
    elif before.state is State.PENDING:
        connection.execute("DELETE FROM schedule WHERE order_id = ?", (before.id,))
    answer = after.last_answer
    if answer is not None and answer is not before.last_answer:
        append_history(connection, before.id, [HistoryEntry(1, answer.at, answer)], is_first=False)
    return after


def _as_kept(order: Order) -> Order:
    """Times are kept in whole milliseconds, which they are in already where they come from the machine's clock."""
    times = (order.undecided_at, order.final_at, order.conflict_at)
    if not any(at is not None and at.microsecond % 1000 for at in times):
        return order
    undecided_at, final_at, conflict_at = (None if at is None else whole_ms(at) for at in times)
    return order._replace(undecided_at=undecided_at, final_at=final_at, conflict_at=conflict_at)


def append_history(
    connection: sqlite3.Connection, number: int, runs: Sequence[HistoryEntry], *, is_first: bool
) -> None:
    """Add an order's queries, oldest first; the first may continue the last entry that is there.

    `is_first` says that there is none.
    """
    row = None if is_first else connection.execute(_LAST, (number,)).fetchone()
    n, last = (0, None) if row is None else (row[0], entry_of(row[1:]))
    for run in runs:
        if last is not None and last.answer.same_as(run.answer):
            last = joined(last, run)
            connection.execute(
                "UPDATE history SET count = ?, last_at = ?, seqno = ? WHERE order_id = ? AND n = ?",
                (last.count, to_ms(run.answer.at), run.answer.seqno, number, n),
            )
            continue
        n, last, answer = n + 1, run, run.answer
        connection.execute(
            "INSERT INTO history (order_id, n, count, first_at, last_at, code, status, message, hint, seqno, "
            "error, prompt) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                number,
                n,
                run.count,
                to_ms(run.first_at),
                to_ms(answer.at),
                answer.code,
                answer.status,
                answer.message,
                answer.hint,
                answer.seqno,
                answer.error,
                answer.prompt.value,
            ),
        )
