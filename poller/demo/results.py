"""What came out of the demo, order by order, held against the simulator's own record."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from poller.core.orders import State
from poller.simulator import ReceivedNotice, Record, describe

PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
FATES = {"pending-cancelled": State.CANCELLED, "pending-expired": State.EXPIRED}  # how those end
LISTED = 50  # up to so many orders have a line each in the table
EXPLAINED = (
    "should be: by the simulated platform's own record (pending: cancelled by an operator, or given up on); "
    "is: by the daemon; told: times the webhook got the result; news after: from settling at the platform to the "
    "webhook's 2xx"
)


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one order: by the world's record, by the daemon, and by the receiver."""

    number: str
    scenario: str
    expected: str | None
    state: str | None
    polls: int
    notices: int
    news_after: float | None  # seconds from settling at the platform to the receiver's 2xx

    @property
    def correct(self) -> bool:
        return self.expected is not None and self.state == self.expected and self.notices == 1


def fate_of(number: str) -> State | None:
    """How an order ends that never settles at the platform."""
    return next((fate for form, fate in FATES.items() if number.startswith(form)), None)


def rows_of(
    numbers: Sequence[str], states: dict[str, tuple[str, int]], record: Record, notices: Sequence[ReceivedNotice]
) -> list[Row]:
    told: dict[str, list[ReceivedNotice]] = defaultdict(list)
    for notice in notices:
        told[json.loads(notice.body)["data"]["pay_partner"]].append(notice)
    expected = record.expected()
    rows = []
    for number in numbers:
        scenario, settled_at = record.scenario((PARK, number)), record.settled_at((PARK, number))
        received_at = next((notice.received_at for notice in told[number] if notice.received_at), None)
        state, polls = states.get(number, (None, 0))
        rows.append(
            Row(
                number,
                describe(scenario) if scenario else "never asked about",
                fate_of(number) or expected.get((PARK, number)),
                state,
                polls,
                sum(len(notice.tries) for notice in told[number]),
                received_at - settled_at if received_at is not None and settled_at is not None else None,
            )
        )
    return rows


def table_of(rows: Sequence[Row]) -> Table:
    return _one_by_one(rows) if len(rows) <= LISTED else _by_outcome(rows)


def _one_by_one(rows: Sequence[Row]) -> Table:
    table = Table(
        "order", "at the platform", "should be", "is", "queries", "told", "news after", "", title="Results"
    )
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        news = f"{row.news_after:.2f} s" if row.news_after is not None else ""
        verdict = "[green]ok[/]" if row.correct else "[red]WRONG[/]"
        told = str(row.notices)
        table.add_row(row.number, row.scenario, row.expected, row.state, str(row.polls), told, news, verdict)
    return table


def _by_outcome(rows: Sequence[Row]) -> Table:
    table = Table("should be", "orders", "correct", "queries", "news after, mean", "worst", title="Results")
    for outcome, orders in sorted(Counter(str(row.expected) for row in rows).items()):
        of_it = [row for row in rows if str(row.expected) == outcome]
        news = [row.news_after for row in of_it if row.news_after is not None]
        table.add_row(
            outcome,
            str(orders),
            str(sum(row.correct for row in of_it)),
            str(sum(row.polls for row in of_it)),
            f"{statistics.mean(news):.2f} s" if news else "",
            f"{max(news):.2f} s" if news else "",
        )
    for row in rows:
        if not row.correct:
            table.add_row(f"[red]WRONG[/] {row.number}", row.scenario, f"{row.expected} / {row.state}")
    return table
