"""All figures of the suite: every schedule in every world beside the optimum, the trial, and the targets."""

from __future__ import annotations

import dataclasses
import itertools
import math
from statistics import fmean
from typing import Any

import numpy as np

from poller.core.cadence import Cadence
from poller.core.learning import HORIZON_S
from tests.bench.cadence import schedules, trial
from tests.bench.cadence.optimum import Bounds, Optimum
from tests.bench.cadence.replay import Replay, replay
from tests.bench.cadence.worlds import Floats, World, worlds

DAYS_S = 172_800.0
MOST = 1.1  # times the optimum's mean delay of the orders under 60 s
EARNS_ITS_PLACE = 0.15  # less mean delay than the proportional rule, or learning is left out
PRICES = np.geomspace(1e-3, 300.0, 45)  # of a query, in seconds of delay: one optimum each
FRACTIONS = (0.02, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.3, 0.5, 0.7, 1.0)
STEPS = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0)
FIRSTS = (0.5, 0.7, 1.0, 1.4, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
SETTINGS = tuple(itertools.product((0.5, 2.0, 5.0), (1.0, 1.5, 2.0), (0.05, 0.07, 0.1, 0.14, 0.2)))
FEW = 3.0  # queries for an order, where budgets are tight
FIGURES = ("queries", "mean", "waiting", "p99", "lost")


def run(seed: int = 0) -> dict[str, Any]:
    """Everything, as JSON has it: figures that are for ever or have no meaning are null."""
    places, settings = [], _Settings(seed)
    for world in worlds():
        place = _Place(world, seed)
        places.append(place.results())
        settings.enter(place)
    fast, scan, _ = worlds()
    changes = {"fast to scan": trial.change(fast, scan, seed), "scan to fast": trial.change(scan, fast, seed)}
    learned = {"changes": changes, "cost_us": trial.cost(worlds()[-1], seed)}
    results = {"seed": seed, "worlds": places, "settings": settings.results(), "learned": learned}
    return {**results, "targets": _targets(places)}


def figures(found: Replay) -> dict[str, float | None]:
    values = {name: getattr(found, name) for name in FIGURES}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


class _Place:
    """One world and its optima.

    There are three of them: `all` has the least mean delay of all orders; `waiting` the least of those that settle
    within 60 s, and asks the rest as rarely as is allowed; `tail alike` is as `waiting`, but asks orders older
    than 90 s as often as the proportional rule does, so that only what comes before is compared.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed = world, seed
        self.ours = replay(world, schedules.proportional(world, Cadence(), seed))
        self.best = Optimum(world, Bounds())
        self.best_waiting = Optimum(world, Bounds(), waiting_only=True)
        # an order past the horizon is taken to settle there: what comes later is alike, and left out
        young = dataclasses.replace(world, times=np.minimum(world.times, HORIZON_S))
        self._old = self.ours.queries - replay(young, schedules.proportional(young, Cadence(), seed)).queries
        self._best_young = Optimum(young, Bounds(), waiting_only=True)

    def optima(self, queries: float) -> dict[str, dict[str, float | None] | None]:
        """Each optimum at that many queries; None where it takes more to see every order settle."""
        found = {"all": self.best.at(queries), "waiting": self.best_waiting.at(queries)}
        return {name: figures(one) if one.queries < queries + 0.01 else None for name, one in found.items()}

    def results(self) -> dict[str, Any]:
        world = self.world
        rows: list[dict[str, Any]] = [
            {"name": name, **figures(replay(world, paths))} for name, paths in self._schedules().items()
        ]
        for row in rows:
            row["optima"] = self.optima(row["queries"])
        young = self._best_young.at(self.ours.queries - self._old)
        rows[0]["optima"]["tail alike"] = {"queries": young.queries + self._old, "waiting": young.waiting}
        few = self.best.at(FEW)
        return {
            "name": world.name,
            "words": world.words,
            "schedules": rows,
            "curves": self._curves(),
            "queries_past_90_s": self._old,
            "doubling_at_few": None if few.queries > FEW + 0.01 else self._doubling_at_few(few),
            "learned": trial.against(world, self.ours, self.seed),
            "learned_all_ages": trial.against(world, self.ours, self.seed, DAYS_S),
        }

    def _schedules(self) -> dict[str, list[Floats]]:
        world = self.world
        return {
            "poller": schedules.proportional(world, Cadence(), self.seed),
            "jeepay": schedules.jeepay(world),
            "roncoo-pay": schedules.roncoo_pay(),
            "hyperswitch": schedules.hyperswitch(),
            "every 5 s": schedules.grid(world, 5.0),
            "doubling from 1 s": schedules.doubling(world, 1.0),
        }

    def _curves(self) -> dict[str, list[dict[str, float | None]]]:
        world = self.world
        ours = (
            schedules.proportional(world, Cadence(age_fraction=fraction), self.seed, 8) for fraction in FRACTIONS
        )
        families = {
            "proportional": ours,
            "grid": (schedules.grid(world, step) for step in STEPS),
            "doubling": (schedules.doubling(world, first) for first in FIRSTS),
        }
        curves = {name: [figures(replay(world, paths)) for paths in family] for name, family in families.items()}
        for name, optimum in (("optimum", self.best), ("optimum waiting", self.best_waiting)):
            curves[name] = [figures(optimum.priced(float(price))) for price in PRICES]
        return curves

    def _doubling_at_few(self, few: Replay) -> dict[str, float]:
        found = sorted(
            (one.queries, one.mean)
            for one in (replay(self.world, schedules.doubling(self.world, float(first))) for first in FIRSTS)
        )
        mean = float(np.interp(FEW, [queries for queries, _ in found], [mean for _, mean in found]))
        return {"queries": FEW, "mean": mean, "optimum": few.mean}


class _Settings:
    """Whether other settings of the proportional rule would do better."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._cadences = [Cadence(*choice) for choice in SETTINGS]
        self._found: list[dict[str, dict[str, float]]] = [{} for _ in self._cadences]

    def enter(self, place: _Place) -> None:
        for cadence, found in zip(self._cadences, self._found, strict=True):
            paths = schedules.proportional(place.world, cadence, self._seed, 8)
            one = replay(place.world, paths)
            best = place.best_waiting.at(one.queries)
            found[place.world.name] = {
                "queries": one.queries,
                "waiting": one.waiting,
                "ratio": one.waiting / best.waiting,
            }

    def results(self) -> dict[str, Any]:
        """The setting that is least far from the optimum in the world that suits it least, and the default."""
        rows: list[dict[str, Any]] = [
            {
                "initial_delay": cadence.initial_delay,
                "min_interval": cadence.min_interval,
                "age_fraction": cadence.age_fraction,
                "worst_ratio": max(one["ratio"] for one in found.values()),
                "worlds": found,
            }
            for cadence, found in zip(self._cadences, self._found, strict=True)
        ]
        default = next(row for row, cadence in zip(rows, self._cadences, strict=True) if cadence == Cadence())
        return {"tried": len(rows), "default": default, "best": min(rows, key=lambda row: row["worst_ratio"])}


def _targets(places: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each target beside what was measured."""
    targets: list[dict[str, Any]] = []
    for place in places:
        ours, learned = place["schedules"][0], place["learned"]["equal"]
        for (name, found), optimum in itertools.product((("poller", ours), ("learned", learned)), ours["optima"]):
            ratio = found["waiting"] / ours["optima"][optimum]["waiting"]
            what = f"{place['name']}: {name}, under 60 s, times the optimum's ({optimum})"
            targets.append({"target": what, "wanted": f"<= {MOST}", "measured": ratio, "met": ratio <= MOST})
    for figure, words in (("mean", "all orders"), ("waiting", "under 60 s")):
        gains = {
            place["name"]: 1.0 - place["learned"]["equal"][figure] / place["schedules"][0][figure]
            for place in places
        }
        gains["three worlds, on average"] = fmean(gains.values())
        for name, gain in gains.items():
            what = f"{name}: learned, {words}, less mean delay at equal queries"
            met = gain >= EARNS_ITS_PLACE
            targets.append({"target": what, "wanted": f">= {EARNS_ITS_PLACE}", "measured": gain, "met": met})
    return targets
