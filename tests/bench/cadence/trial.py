"""The learned cadence on trial: at as many queries as the proportional rule, and when the world changes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from poller.core.cadence import Cadence
from poller.core.learning import HORIZON_S, Plan, Settlements, edges
from tests.bench.cadence.replay import Replay, replay
from tests.bench.cadence.schedules import until_settled
from tests.bench.cadence.worlds import WAITING_S, Floats, World

CADENCE = Cadence()
HISTORY = 200  # orders
HISTORIES = 20
PATHS = 6
REPLAN = 10  # orders, after which the plan is made anew
FACTORS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.1, 1.3)  # of the queries that the proportional rule would use
BLOCK = 20  # orders


class Stubborn(Settlements):
    """Notices no change of world."""

    @property
    def change(self) -> float:
        return 0.0


def live(first: float, gap: Callable[[float, float], float], settles: float, chance: random.Random) -> list[float]:
    """The ages at which an order that settles at an age of `settles` is asked, until that is seen."""
    asked = [first]
    while asked[-1] < settles:
        asked.append(asked[-1] + gap(asked[-1], chance.random()))
    return asked


def interval(asked: Sequence[float]) -> tuple[float, float]:
    """All that is known of a settlement: between which two ages it was."""
    return (asked[-2] if len(asked) > 1 else 0.0, asked[-1])


def gathered(world: World, chance: random.Random, horizon: float = HORIZON_S) -> Settlements:
    """A history as the proportional rule gathers it."""
    known = Settlements(edges(horizon))
    for settles in world.history(HISTORY, chance):
        known.add(*interval(live(CADENCE.initial_delay, CADENCE.gap, settles, chance)))
    return known


def lived(known: Settlements, times: Sequence[float], chance: random.Random) -> list[list[float]]:
    """Lets orders be asked by what is `known`, which learns from them; the ages at which each was asked."""
    asked, plan = [], Plan(CADENCE, known)
    for turn, settles in enumerate(times):
        if turn % REPLAN == 0:
            plan = Plan(CADENCE, known)
        asked.append(live(plan.first(), plan.gap, settles, chance))
        known.add(*interval(asked[-1]))
    return asked


def budgeted(known: Settlements, factor: float) -> Plan:
    """A plan for so many times the queries that the proportional rule would take."""
    budget = factor * Plan(CADENCE, known).usual_budget
    return Plan(replace(CADENCE, queries_per_order=budget), known)


def paths(world: World, plan: Plan, seed: str) -> list[Floats]:
    def ages(chance: random.Random) -> Iterator[float]:
        age = plan.first()
        while True:
            yield age
            age += plan.gap(age, chance.random())

    return [until_settled(ages(random.Random(f"{seed}/{path}")), world) for path in range(PATHS)]


def figures(replays: Sequence[Replay]) -> dict[str, float]:
    """Means over histories."""
    return {name: fmean(getattr(one, name) for one in replays) for name in ("queries", "mean", "waiting", "p99")}


def against(world: World, proportional: Replay, seed: int, horizon: float = HORIZON_S) -> dict[str, Any]:
    """The learned cadence in one world, at as many queries as the proportional rule.

    `curve`: by budget, from a history gathered under the proportional rule; `equal`: the same where it uses as
    many queries as the proportional rule, or the most that it can; `own`: by its own choice of budget; `later`:
    the same after as many orders again under itself.
    """
    chances = [random.Random(f"{seed}/{world.name}/{history}") for history in range(HISTORIES)]
    histories = [gathered(world, chance, horizon) for chance in chances]
    curve = []
    for factor in FACTORS:
        plans = [budgeted(known, factor) for known in histories]
        curve.append(figures([replay(world, paths(world, plan, f"{seed}/{at}")) for at, plan in enumerate(plans)]))
    own = curve[FACTORS.index(1.0)]
    for known, chance in zip(histories, chances, strict=True):
        lived(known, world.history(HISTORY, chance), chance)
    later = figures(
        [replay(world, paths(world, Plan(CADENCE, known), f"{seed}/{at}")) for at, known in enumerate(histories)]
    )
    queries = [point["queries"] for point in curve]
    equal = {
        name: float(np.interp(proportional.queries, queries, [point[name] for point in curve]))
        for name in curve[0]
    }
    return {"curve": curve, "equal": equal, "own": own, "later": later}


def change(before: World, after: World, seed: int) -> list[dict[str, float]]:
    """What becomes of the waiting orders when one world turns into another, by blocks of orders since.

    Mean delay in seconds and queries of the proportional rule, of the learned cadence, and of one that does not
    notice (`stubborn`).
    """
    blocks: list[dict[str, list[float]]] = [{} for _ in range(HISTORY // BLOCK)]
    for history in range(HISTORIES):
        for name in ("learned", "stubborn", "proportional"):
            chance = random.Random(f"{seed}/{before.name}/{after.name}/{history}")
            known = gathered(before, chance)
            if name == "stubborn":
                known = Stubborn(known.edges, known.weights, known.quick)
            times = after.history(HISTORY, chance)
            if name == "proportional":
                asked = [live(CADENCE.initial_delay, CADENCE.gap, settles, chance) for settles in times]
            else:
                asked = lived(known, times, chance)
            for turn, (settles, ages) in enumerate(zip(times, asked, strict=True)):
                if settles <= WAITING_S:
                    blocks[turn // BLOCK].setdefault(name, []).append(ages[-1] - settles)
                    blocks[turn // BLOCK].setdefault(f"{name}_queries", []).append(len(ages))
    return [{name: fmean(values) for name, values in block.items()} for block in blocks]


def cost(world: World, seed: int) -> dict[str, float]:
    """What learning takes, in microseconds."""
    chance = random.Random(seed)
    known = gathered(world, chance)
    timed: dict[str, float] = {}
    plan = Plan(CADENCE, known)
    jobs: dict[str, Callable[[], object]] = {
        "order": lambda: known.add(1.5, 2.5),
        "plan": lambda: Plan(CADENCE, known),
        "gap": lambda: plan.gap(3.0, 0.5),
    }
    for name, job in jobs.items():
        started = time.perf_counter()
        for _ in range(200):
            job()
        timed[name] = (time.perf_counter() - started) / 200 * 1e6
    return timed
