"""The schedules that are compared: ours, those of open payment systems, a grid, and doubling.

A schedule is drawn as paths: the ages in seconds at which an order is asked, up to the last settlement in
the world or to the schedule's own end. Where chance has a part there are several paths.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import numpy as np

from poller.core.cadence import Cadence
from tests.bench.cadence.worlds import Floats, World

PATHS = 24


def until_settled(ages: Iterator[float], world: World) -> Floats:
    """The ages up to the first at or after the world's last settlement."""
    last, path = float(world.times[-1]), []
    for age in ages:
        path.append(age)
        if age >= last:
            break
    return np.array(path)


def proportional(world: World, cadence: Cadence, seed: int, paths: int = PATHS) -> list[Floats]:
    """The daemon's own rule."""

    def ages(chance: random.Random) -> Iterator[float]:
        age = cadence.initial_delay
        while True:
            yield age
            age += cadence.gap(age, chance.random())

    return [until_settled(ages(random.Random(f"{seed}/{path}")), world) for path in range(paths)]


def grid(world: World, step: float) -> list[Floats]:
    return [until_settled(itertools.count(step, step), world)]


def doubling(world: World, first: float, longest: float = 900.0) -> list[Floats]:
    """Gaps of `first` seconds, then twice the last one each time, up to `longest`."""
    gaps = (min(first * 2.0**turn, longest) for turn in itertools.count())
    return [until_settled(itertools.accumulate(gaps), world)]


def roncoo_pay() -> list[Floats]:
    """Gaps of 2, 3, 5, 10, 20 and 30 s, each from the query before; then never again."""
    return [np.cumsum([2.0, 3.0, 5.0, 10.0, 20.0, 30.0])]


def hyperswitch() -> list[Floats]:
    """After 60 s, then five times after 300 s each; then never again."""
    return [np.cumsum([60.0] + [300.0] * 5)]


def jeepay(world: World) -> list[Floats]:
    """Six times after 5 s each; from an age of 10 min on by a job that runs every 60 s, for all orders at once."""
    phases = ((path + 0.5) / PATHS * 60.0 for path in range(PATHS))
    ages = (itertools.chain(np.arange(5.0, 31.0, 5.0), itertools.count(600.0 + phase, 60.0)) for phase in phases)
    return [until_settled(path, world) for path in ages]
