"""What a schedule of queries costs and brings in a world.

A query takes no time here. An order is asked at the ages of its schedule until the first query at or after its
settlement, which sees the result: its **delay** is that query's age minus the settlement's, its **queries**
are all up to and with that one. An order that outlives its schedule is **lost**: it has used all queries,
counts in their mean, and has no delay (the means are over those seen; in the percentile it counts as for ever).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tests.bench.cadence.worlds import Floats, World


@dataclass(frozen=True)
class Replay:
    """`delays` and `asked` have a row for each path and a column for each order of the world."""

    world: World
    delays: Floats
    asked: Floats
    weights: Floats

    @cached_property
    def queries(self) -> float:
        """Mean queries for an order, of all orders."""
        return float(self.weights @ self.asked.mean(axis=1))

    @cached_property
    def mean(self) -> float:
        """Mean delay in seconds of the orders seen."""
        return self._mean(self.delays)

    @cached_property
    def waiting(self) -> float:
        """Mean delay in seconds of the orders seen that settled within `WAITING_S`."""
        return self._mean(self.delays[:, self.world.waiting])

    @cached_property
    def p99(self) -> float:
        """99th percentile of delay in seconds; `inf` where more than 1 % are lost."""
        delays = self.delays.ravel()
        order = np.argsort(delays)
        heard = np.cumsum(np.repeat(self.weights / self.delays.shape[1], self.delays.shape[1])[order])
        return float(delays[order[min(int(np.searchsorted(heard, 0.99 - 1e-9)), len(delays) - 1)]])

    @cached_property
    def lost(self) -> float:
        """Share of the orders that were never seen to settle."""
        return float(self.weights @ np.isinf(self.delays).mean(axis=1))

    def _mean(self, delays: Floats) -> float:
        seen = np.isfinite(delays)
        share = self.weights @ seen.mean(axis=1)
        return float(self.weights @ np.where(seen, delays, 0.0).mean(axis=1) / share) if share else math.nan


def replay(world: World, paths: Sequence[Floats], weights: Sequence[float] | None = None) -> Replay:
    """Replay a schedule. `paths` are the ages of its queries, ascending: one path, or one for each way that
    chance can go, which are equally likely unless `weights` says otherwise."""
    delays, asked = [], []
    for path in paths:
        seen_by = np.searchsorted(path, world.times, side="left")
        delays.append(np.append(path, math.inf)[seen_by] - world.times)
        asked.append(np.minimum(seen_by + 1.0, len(path)))
    shares = np.full(len(paths), 1.0 / len(paths)) if weights is None else np.array(weights, dtype=np.float64)
    return Replay(world, np.array(delays), np.array(asked), shares)
