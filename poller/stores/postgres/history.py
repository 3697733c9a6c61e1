"""The SQL of queries and their answers; equal ones in a row are one entry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from poller.core.orders import OrderKey
from poller.ports import HistoryEntry
from poller.stores.notes import joined
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.lane import Transaction
from poller.stores.postgres.rows import ENTRY, columns, cut, entry_of, kept_answer

LAST = "LEFT JOIN LATERAL (SELECT * FROM history WHERE order_id = o.id ORDER BY n DESC LIMIT 1) h ON true"

_ALL = (
    f"SELECT {ENTRY} FROM orders o JOIN history h ON h.order_id = o.id "  # noqa: S608
    "WHERE o.park_uuid = $1 AND o.pay_partner = $2 ORDER BY h.n"
)
_WRITE = (
    "INSERT INTO history "
    "(order_id, n, count, first_at, last_at, code, message, hint, seqno, status, error, prompt) "
    "SELECT * FROM unnest($1::bigint[], $2::int[], $3::int[], $4::timestamptz[], $5::timestamptz[], $6::text[], "
    "$7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[]) "
    "ON CONFLICT (order_id, n) DO UPDATE SET count = excluded.count, last_at = excluded.last_at, "
    "seqno = excluded.seqno"
)
_WIDTH = 12


@dataclass(slots=True)
class Tail:
    """An order's last entry as it is stored, its number, and what comes of it in this transaction."""

    order_id: int
    n: int = 0
    last: HistoryEntry | None = None
    changed: dict[int, HistoryEntry] = field(default_factory=dict)

    def append(self, runs: Iterable[HistoryEntry]) -> None:
        """Add queries, oldest first; the first may continue the last entry that is there."""
        for given in runs:
            run = replace(given, first_at=cut(given.first_at), answer=kept_answer(given.answer))
            if self.last is not None and self.last.answer.same_as(run.answer):
                self.last = joined(self.last, run)
            else:
                self.n, self.last = self.n + 1, run
            self.changed[self.n] = self.last


async def write(transaction: Transaction, tails: Iterable[Tail]) -> None:
    """Write down what was appended."""
    rows = [_row(tail.order_id, n, entry) for tail in tails for n, entry in tail.changed.items()]
    if rows:
        await transaction.write(_WRITE, *columns(rows, _WIDTH))


def _row(number: int, n: int, entry: HistoryEntry) -> Sequence[object]:
    answer = entry.answer
    return (
        number,
        n,
        entry.count,
        entry.first_at,
        answer.at,
        answer.code,
        answer.message,
        answer.hint,
        answer.seqno,
        answer.status,
        answer.error,
        answer.prompt.value,
    )


async def of(connection: Connection, key: OrderKey) -> list[HistoryEntry]:
    """Oldest first."""
    return [entry_of(row) for row in await connection.fetch(_ALL, *key)]
