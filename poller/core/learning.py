"""A cadence learned from how long a lot's own orders took to settle.

`Settlements` is what is kept of the orders seen to settle: how likely each age is, in buckets whose width grows
with the age, old orders fading. An order is known to have settled between its last answer in progress and the
one that saw it settled; its weight is spread over that interval as the weights so far suggest.

`Plan` places queries up to `HORIZON_S` in proportion to the square root of the hazard (of settling now, having
not settled before): with f for the density of settling, S for what is still waiting and r for the rate of
queries, the mean delay is the integral of f / 2r, the queries are that of S * r, and the one is least for the
other where r is in proportion to the root of f / S (by Lagrange's multiplier). The scale is chosen so that an
order takes as many queries on average as the budget says. Past the horizon, and as long as there is too little
history or the last orders settled unlike those before, the proportional rule of `cadence` stands.

The constants were tried in `tests/bench/cadence`. Ages are in seconds of running time, as everywhere.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from poller.core.cadence import JITTER, Cadence

HORIZON_S = 90.0  # where the gate, as it comes, is told that nothing is known yet, and lets the driver go
MEMORY = 200.0  # orders, after which one has faded to 1/e
QUICK_MEMORY = 20.0
ENOUGH = 50.0  # orders in memory, before which nothing is concluded from them
CHANGED = 0.45  # largest difference of the two cumulative distributions that chance explains
DOUBT = 5.0  # orders' worth of weight for what was never seen: spread evenly over the logarithm of the age
INSTANT_S = 0.001
SCALES = 1000.0  # of the roots: beyond, every rate is at its bound
LONGEST = 3.0  # a gap is never longer than this many times the proportional rule's


def edges(horizon: float, growth: float = 1.2) -> tuple[float, ...]:
    """The buckets' bounds in seconds, from 0 to the horizon."""
    bounds = [0.0, 0.5]
    while bounds[-1] * growth * growth**0.5 < horizon:
        bounds.append(bounds[-1] * growth)
    return (*bounds, horizon)


EDGES = edges(HORIZON_S)


@dataclass(slots=True)
class Settlements:
    """Weights of the ages at which orders settled, by bucket; the last is for all beyond the horizon.

    `weights` fade over `MEMORY` orders, `quick` over `QUICK_MEMORY`.
    """

    edges: tuple[float, ...] = EDGES
    weights: list[float] = field(default_factory=list)
    quick: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.weights = self.weights or [0.0] * len(self.edges)
        self.quick = self.quick or [0.0] * len(self.edges)

    def add(self, after: float, by: float) -> None:
        """Take in an order that was seen to settle, past an age of `after` (>= 0) and by one of `by` seconds.

        One that was still waiting past the horizon may be taken in as such, `by` being infinite.
        """
        share = self._spread(after, max(by, after + INSTANT_S))
        for weights, memory in ((self.weights, MEMORY), (self.quick, QUICK_MEMORY)):
            keep = 1.0 - 1.0 / memory
            weights[:] = [weight * keep + part for weight, part in zip(weights, share, strict=True)]
        if self.change > CHANGED and sum(self.weights) >= ENOUGH:
            self.weights[:] = self.quick

    @property
    def known(self) -> bool:
        """Whether there is enough to conclude from."""
        return sum(self.weights) >= ENOUGH

    @property
    def change(self) -> float:
        """How far the last orders' distribution is from that of all in memory, 0 to 1 (Kolmogorov's distance)."""
        total, quick = sum(self.weights), sum(self.quick)
        if not total or not quick:
            return 0.0
        apart = below = recent = 0.0
        for weight, late in zip(self.weights, self.quick, strict=True):
            below, recent = below + weight / total, recent + late / quick
            apart = max(apart, abs(below - recent))
        return apart

    def _spread(self, after: float, by: float) -> list[float]:
        """One order's weight by bucket: where orders are known to settle more, it is likelier to have been."""
        doubt = DOUBT / len(self.edges)
        first = min(bisect_right(self.edges, after), len(self.edges)) - 1
        share = [0.0] * len(self.edges)
        for bucket in range(first, len(self.edges) - 1):
            low, high = self.edges[bucket], self.edges[bucket + 1]
            if low >= by:
                break
            share[bucket] = (self.weights[bucket] + doubt) * (min(high, by) - max(low, after)) / (high - low)
        if by > self.edges[-1]:
            share[-1] = self.weights[-1] + doubt
        total = sum(share)
        return [part / total for part in share]


class Plan:
    """How queries are placed by age, from what is known of the lot; it stands until it is made anew.

    The budget is the cadence's `queries_per_order`: of queries up to the horizon, on average; where that is None
    they are as many as by the proportional rule. The bounds come first: no gap is shorter than the cadence's
    shortest, nor longer than `LONGEST` times the proportional one.
    """

    def __init__(self, cadence: Cadence, settlements: Settlements) -> None:
        self.cadence = cadence
        self.horizon = settlements.edges[-1]
        self._edges = settlements.edges
        self.learned = settlements.known
        self._usual = [1.0 / cadence.gap((low + high) / 2, 0.0) for low, high in pairwise(self._edges)]
        self._weights = [weight + DOUBT / len(self._edges) for weight in settlements.weights]
        self.usual_budget = self._queries(self._usual)
        self._rates = self._usual
        if self.learned:
            budget = cadence.queries_per_order
            self._rates = self._scaled(self.usual_budget if budget is None else budget)

    @property
    def give_up_after(self) -> float:
        """As of `Cadence`."""
        return self.cadence.give_up_after

    def first(self) -> float:
        """The age in seconds of the first query, never before the cadence's."""
        if not self.learned:
            return self.cadence.initial_delay
        return max(self._after(0.0, 0.5), self.cadence.initial_delay)

    def gap(self, age: float, jitter: float) -> float:
        """Seconds to the next query; as `Cadence.gap`."""
        if not self.learned or age >= self.horizon:
            return self.cadence.gap(age, jitter)
        longest = min(LONGEST * self.cadence.gap(age, 0.0), self.cadence.max_interval)
        pause = min(max(self._after(age, 1.0) - age, self.cadence.min_interval), longest)
        return max(pause * (1.0 - JITTER * jitter), self.cadence.min_interval)

    def backoff(self, errors: int, age: float, jitter: float) -> float:
        """As `Cadence.backoff`, whatever is known of the lot's orders."""
        return self.cadence.backoff(errors, age, jitter)

    def why(self, age: float) -> str:
        """Why the next query of an order of this age is when it is, in words for people."""
        proportional = f"gaps are {self.cadence.age_fraction:.0%} of its age, within the configured bounds"
        if not self.learned:
            return f"{proportional}: too little is known of how long orders take here"
        if age >= self.horizon:
            return f"{proportional}, as for all older than {self.horizon:g} s"
        bucket = bisect_right(self._edges, age) - 1
        hazard = self._weights[bucket] / (self._edges[bucket + 1] - self._edges[bucket]) / self._reached(bucket)
        return (
            f"of the orders here that are {age:.0f} s old, about {min(hazard, 1.0):.1%} settle within a second, "
            f"so that gaps are about {self.gap(age, 0.0):.1f} s"
        )

    def _after(self, age: float, queries: float) -> float:
        """The age at which as many queries have fallen due since `age`."""
        for bucket in range(bisect_right(self._edges, age) - 1, len(self._rates)):
            due = age + queries / self._rates[bucket]
            if due <= self._edges[bucket + 1]:
                return due
            queries -= (self._edges[bucket + 1] - age) * self._rates[bucket]
            age = self._edges[bucket + 1]
        return age + queries * self.cadence.gap(age, 0.0)

    def _reached(self, bucket: int) -> float:
        """How many of the orders in memory were still waiting in the middle of a bucket."""
        return self._weights[bucket] / 2 + sum(self._weights[bucket + 1 :])

    def _queries(self, rates: Sequence[float]) -> float:
        """Mean queries for an order up to the horizon; half a gap comes after the settlement."""
        left = total = sum(self._weights)
        spent = 0.0
        for rate, weight, (low, high) in zip(rates, self._weights, pairwise(self._edges), strict=False):
            spent += rate * (high - low) * (left - weight / 2)
            left -= weight
        return spent / total + 0.5

    def _scaled(self, budget: float) -> list[float]:
        """The rates that use up the budget, within the bounds."""
        roots = [
            (self._weights[bucket] / (high - low) / self._reached(bucket)) ** 0.5
            for bucket, (low, high) in enumerate(pairwise(self._edges))
        ]
        low, high = 0.0, SCALES
        for _ in range(40):
            scale = (low + high) / 2
            low, high = (low, scale) if self._queries(self._bounded(roots, scale)) > budget else (scale, high)
        return self._bounded(roots, low)

    def _bounded(self, roots: Sequence[float], scale: float) -> list[float]:
        most = 1.0 / self.cadence.min_interval
        return [
            min(max(scale * root, usual / LONGEST), most) for root, usual in zip(roots, self._usual, strict=True)
        ]
