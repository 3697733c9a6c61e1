"""What is learned of each lot while the daemon runs, and what is not."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from poller.core.cadence import Cadence
from poller.core.learning import ENOUGH, HORIZON_S
from poller.core.orders import OrderKey
from poller.core.replies import Cause, InProgress, Rejected, Reply, Result, Settled, Unavailable, Unclear
from poller.polling.pace import RECALLED, REPLAN, Pace, pace_of
from poller.ports import Pending
from poller.ports.records import Ended, Ending, Overview, Settlement, Since

BUDGET = Cadence(queries_per_order=12.0)
IN_PROGRESS, PAID = InProgress(Reply("1001", status="0")), Settled(True, Reply("1001", status="1"))
PLENTY = 2 * round(ENOUGH)


class Kept:
    """What a store knows of settled orders."""

    def __init__(self, *settlements: Settlement) -> None:
        self.known = list(settlements)
        self.read = 0

    async def settlements(self, limit: int) -> list[Settlement]:
        self.read += 1
        return self.known[-limit:]

    async def overview(self, since: Since, limit: int) -> Overview:
        raise NotImplementedError

    async def ended(self, after: Ending, limit: int) -> list[Ended]:
        raise NotImplementedError


def order(lot: str = "a", *, unsettled_until: float | None = 0.0) -> Pending:
    return Pending(1, OrderKey(lot, "1"), 0.0, 0.0, unsettled_until=unsettled_until)


def lives(pace: Pace, *answers: tuple[float, Result], lot: str = "a", of: int = PLENTY) -> None:
    """So many orders get these answers at these ages."""
    for _ in range(of):
        pending = order(lot)
        for age, result in answers:
            pace.after(pending, result, age)


def test_without_a_budget_nothing_is_learned() -> None:
    assert pace_of(Cadence(), None) is None
    assert pace_of(Cadence(), Pace(BUDGET)) is None


def test_each_lot_has_its_own_plan() -> None:
    pace = Pace(BUDGET)
    lives(pace, (24.0, IN_PROGRESS), (25.0, PAID))
    assert pace.plan("a").gap(24.5, 0.0) < 1.5
    assert not pace.plan("b").learned


def test_the_plan_is_made_anew_after_some_settled_orders() -> None:
    pace = Pace(BUDGET)
    lives(pace, (1.0, PAID), of=REPLAN - 1)
    before = pace.plan("a")
    assert pace.after(order(), IN_PROGRESS, 1.0) is before
    assert pace.after(order(), PAID, 1.0) is not before


def test_an_order_counts_once_though_its_end_could_not_be_written_at_first() -> None:
    pace, pending = Pace(BUDGET), order()
    for age in range(PLENTY):
        pace.after(pending, PAID, 1.0 + 2.0 * age)
    assert not pace.plan("a").learned


def test_an_order_that_outlives_the_horizon_counts_once_and_as_such() -> None:
    pace = Pace(BUDGET)
    late = [(HORIZON_S + more, IN_PROGRESS) for more in (1.0, 20.0, 200.0)]
    lives(pace, (1.0, IN_PROGRESS), *late, (9000.0, PAID), of=round(ENOUGH) - 10)
    assert not pace.plan("a").learned
    lives(pace, (1.0, IN_PROGRESS), *late, (9000.0, PAID), of=30)
    assert pace.plan("a").learned
    assert pace.plan("a").gap(25.0, 0.0) > 2.5  # nothing has ever settled there


def test_an_order_that_the_store_gave_back_counts_from_its_next_answer_in_progress_on() -> None:
    pace = Pace(BUDGET)
    for _ in range(PLENTY):
        pace.after(order(unsettled_until=None), PAID, 25.0)
    assert not pace.plan("a").learned
    for _ in range(PLENTY):
        pending = order(unsettled_until=None)
        pace.after(pending, IN_PROGRESS, 24.0)
        pace.after(pending, PAID, 25.0)
    assert pace.plan("a").learned


def test_what_says_nothing_of_the_payment_teaches_nothing() -> None:
    pace = Pace(BUDGET)
    silent: list[Result] = [
        Unclear("code 500", Reply("500")),
        Unavailable(Cause.TIMEOUT, "no whole reply in time"),
        Rejected(Reply("400")),
    ]
    lives(pace, *((age, result) for age, result in enumerate(silent, start=1)))
    assert not pace.plan("a").learned


def test_what_the_store_knows_is_read_once_and_planned_by() -> None:
    kept = Kept(*[Settlement("a", 24.0, 25.0)] * 2 * RECALLED)
    pace = Pace(BUDGET)
    for _ in range(2):
        asyncio.run(pace.recall(kept))
    assert kept.read == 1
    assert pace.plan("a").learned


def test_a_reload_plans_anew_by_what_is_known_already() -> None:
    pace = Pace(BUDGET)
    lives(pace, (24.0, IN_PROGRESS), (25.0, PAID))
    before = pace.plan("a")
    assert pace_of(replace(BUDGET, queries_per_order=8.0), pace) is pace
    assert pace.plan("a").learned
    assert pace.plan("a").gap(22.0, 0.0) > before.gap(22.0, 0.0)
