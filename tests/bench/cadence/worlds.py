"""How long payments take: three made-up worlds, each a known distribution of settlement times.

A world is 10,000 orders of equal weight, laid out at the quantiles of its parts, so that the schedule that
is best for it can be computed and every figure is exact for it: no luck of the draw.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

ORDERS = 10_000
WAITING_S = 60.0  # orders that settle within this have a driver waiting

Floats = NDArray[np.float64]
Quantile = Callable[[float], float]


@dataclass(frozen=True)
class World:
    """`times`: ages in seconds at which the orders settle, ascending."""

    name: str
    words: str
    times: Floats

    @property
    def waiting(self) -> NDArray[np.bool_]:
        """Which orders have a driver waiting."""
        return self.times <= WAITING_S

    def history(self, orders: int, chance: random.Random) -> list[float]:
        """Settlement times of as many orders, drawn at random."""
        return [float(self.times[chance.randrange(len(self.times))]) for _ in range(orders)]


def lognormal(median: float, sigma: float) -> Quantile:
    return lambda part: median * math.exp(sigma * NormalDist().inv_cdf(part))


def log_uniform(low: float, high: float) -> Quantile:
    return lambda part: low * (high / low) ** part


FAST = lognormal(2.0, 0.6)
SCAN = lognormal(25.0, 0.4)
STUCK = log_uniform(120.0, 172_800.0)


def world(name: str, words: str, *parts: tuple[float, Quantile], orders: int = ORDERS) -> World:
    """A world of `parts`, each a share of the orders and the quantile function of their settlement times."""
    times = [
        quantile((index + 0.5) / round(share * orders))
        for share, quantile in parts
        for index in range(round(share * orders))
    ]
    return World(name, words, np.sort(np.array(times)))


def worlds() -> list[World]:
    return [
        world("fast", "debits: log-normal, median 2 s, sigma 0.6", (1.0, FAST)),
        world("scan", "scan and confirm: log-normal, median 25 s, sigma 0.4", (1.0, SCAN)),
        world(
            "mixed",
            "60 % as fast, 35 % as scan, 5 % stuck, log-uniform from 2 min to 2 days",
            (0.60, FAST),
            (0.35, SCAN),
            (0.05, STUCK),
        ),
    ]
