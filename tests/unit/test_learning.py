"""The cadence learned from a lot's own orders: what is kept of them, and how queries are placed by it."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from poller.core.cadence import Cadence
from poller.core.decision import AskAgain, End, decide
from poller.core.learning import ENOUGH, HORIZON_S, LONGEST, Plan, Settlements
from poller.core.orders import State
from poller.core.replies import InProgress, Reply, Unclear

CADENCE = Cadence()
AGES = [tenths / 10 for tenths in range(1, 900, 3)]

World = Callable[[random.Random], float]  # draws the age at which an order settles


def fast(chance: random.Random) -> float:
    return chance.lognormvariate(math.log(2.0), 0.6)


def scan(chance: random.Random) -> float:
    return chance.lognormvariate(math.log(25.0), 0.4)


def mixed(chance: random.Random) -> float:
    kind = chance.random()
    if kind < 0.05:
        return 120.0 * math.exp(chance.uniform(0.0, math.log(1440.0)))
    return fast(chance) if kind < 0.65 else scan(chance)


WORLDS = [fast, scan, mixed]


def asked(
    settles: float, chance: random.Random, first: float = 0.5, cadence: Cadence | Plan = CADENCE
) -> list[float]:
    """The ages at which an order is asked until it is seen to have settled."""
    ages = [first]
    while ages[-1] < settles:
        ages.append(ages[-1] + cadence.gap(ages[-1], chance.random()))
    return ages


def learned_from(world: World, orders: int, seed: int = 0) -> Settlements:
    chance, known = random.Random(seed), Settlements()
    for _ in range(orders):
        ages = asked(world(chance), chance)
        known.add(ages[-2] if len(ages) > 1 else 0.0, ages[-1])
    return known


def budgeted(queries: float) -> Cadence:
    return replace(CADENCE, queries_per_order=queries)


def test_without_enough_history_it_is_the_proportional_rule() -> None:
    plan = Plan(budgeted(3.0), learned_from(scan, round(ENOUGH / 2)))
    assert not plan.learned
    assert plan.first() == CADENCE.initial_delay
    assert [plan.gap(age, 0.3) for age in AGES] == [CADENCE.gap(age, 0.3) for age in AGES]
    assert "10% of its age" in plan.why(3.0)
    assert "too little is known" in plan.why(3.0)


def test_with_history_it_asks_where_orders_settle_and_says_so() -> None:
    plan = Plan(CADENCE, learned_from(scan, 200))
    assert plan.gap(3.0, 0.0) > 2.0 * CADENCE.gap(3.0, 0.0)
    assert plan.gap(30.0, 0.0) < 0.5 * CADENCE.gap(30.0, 0.0)
    assert re.search(r"are 30 s old, about \d+\.\d% settle within a second, so that gaps", plan.why(30.0))
    assert f"gaps are about {plan.gap(30.0, 0.0):.1f} s" in plan.why(30.0)
    assert (
        plan.why(HORIZON_S) == "gaps are 10% of its age, within the configured bounds, as for all older than 90 s"
    )


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("queries", [1.0, 3.0, 8.0, 1000.0])
def test_it_keeps_the_bounds_and_leaves_old_orders_to_the_proportional_rule(world: World, queries: float) -> None:
    plan = Plan(budgeted(queries), learned_from(world, 200))
    assert CADENCE.initial_delay <= plan.first() <= LONGEST * CADENCE.min_interval
    for age in AGES:
        longest = LONGEST * CADENCE.gap(age, 0.0)
        assert CADENCE.min_interval <= plan.gap(age, 0.9) <= plan.gap(age, 0.0) <= longest
    assert [plan.gap(age, 0.4) for age in (HORIZON_S, 4e5)] == [CADENCE.gap(age, 0.4) for age in (HORIZON_S, 4e5)]


@pytest.mark.parametrize("queries", [9.0, 12.0, 16.0])
def test_orders_take_as_many_queries_as_the_budget_says(queries: float) -> None:
    plan, chance = Plan(budgeted(queries), learned_from(scan, 400)), random.Random(5)
    taken = [len(asked(scan(chance), chance, plan.first(), plan)) for _ in range(3000)]
    assert sum(taken) / len(taken) == pytest.approx(queries, rel=0.15)


def test_when_the_world_changes_it_falls_back_and_learns_anew() -> None:
    known, chance, turns = learned_from(fast, 200), random.Random(1), []
    for _ in range(120):
        settles = scan(chance)
        known.add(settles - 0.5, settles + 0.5)
        turns.append(known.known)
    assert turns[0]
    assert not all(turns[:20])  # noticed
    assert turns[-1]
    assert Plan(CADENCE, known).gap(3.0, 0.0) > 2.0


@pytest.mark.parametrize("world", WORLDS)
def test_chance_alone_is_no_change_of_world(world: World) -> None:
    known, chance = Settlements(), random.Random(2)
    for turn in range(2000):
        settles = world(chance)
        known.add(max(settles - 0.5, 0.0), settles + 0.5)
        assert known.known == (turn + 1 >= 58)  # as soon as there is enough, and for ever


def test_an_order_that_was_not_asked_for_long_teaches_nothing_new() -> None:
    """As after an outage: all that is known is that it settled some time."""
    known = learned_from(fast, 200)
    before = [weight / sum(known.weights) for weight in known.weights]
    for _ in range(100):
        known.add(0.0, 7200.0)
    after = [weight / sum(known.weights) for weight in known.weights]
    assert known.known
    assert after == pytest.approx(before, abs=0.05)


def test_an_order_that_waits_past_the_horizon_counts_as_one_that_settles_beyond_it() -> None:
    known = Settlements()
    known.add(HORIZON_S + 3.0, float("inf"))
    assert known.weights == [0.0] * (len(known.weights) - 1) + [1.0]


def test_a_decision_takes_its_pause_from_the_plan_and_all_else_from_the_cadence() -> None:
    plan = Plan(budgeted(4.0), learned_from(scan, 200))
    in_progress, unclear = InProgress(Reply("1001", status="0")), Unclear("code 500", Reply("500"))
    for age in (3.0, 30.0, 400.0):
        decision = decide(in_progress, age=age, errors=2, jitter=0.5, cadence=plan)
        assert decision == AskAgain(plan.gap(age, 0.5), 0)
        backing_off = decide(unclear, age=age, errors=2, jitter=0.5, cadence=plan)
        assert backing_off == AskAgain(CADENCE.backoff(3, age, 0.5), 3)
    assert decide(in_progress, age=3e5, errors=0, jitter=0.5, cadence=plan) == End(State.EXPIRED)
