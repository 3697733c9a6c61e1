"""The yardstick: the schedule with the least mean delay for each budget of queries, settlement times known.

Dynamic programming over ages on a grid. With the last query at age s, unanswered, and the next one at q:

    cost(s, q) = price * P(T > s) + E[(q - T); s < T <= q]
    best(s) = min over q of cost(s, q) + best(q)

where the price of a query, in seconds of delay, stands for the budget: raising it walks the lower convex hull
of (mean queries, mean delay). Nothing is learned on the way but that the order has not settled, so no rule
that looks at answers does better. Between two neighbours on the hull, asking some orders by one schedule and
the rest by the other gives any budget in between.

The bounds are those of the daemon: no query before the initial delay, gaps from the shortest to the longest.
`waiting_only` counts the delay of those orders alone that settle within `WAITING_S`, and the queries of all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tests.bench.cadence.replay import Replay, replay
from tests.bench.cadence.worlds import WAITING_S, Floats, World

# up to this age, in steps of this many seconds: one part in 40 or so of the gaps that matter there
STEPS = ((40.0, 0.05), (120.0, 0.1), (300.0, 0.5), (1200.0, 2.0), (3600.0, 10.0), (math.inf, 30.0))
FREE, PROHIBITIVE = 1e-6, 1e6  # prices of a query, in seconds of delay
EQUAL_S = 1e-4


@dataclass(frozen=True)
class Bounds:
    initial_delay: float = 0.5
    min_interval: float = 1.0
    max_interval: float = 900.0


def ages(last: float, steps: tuple[tuple[float, float], ...] = STEPS) -> Floats:
    """The grid of ages, from 0 to at least `last`."""
    parts, start = [], 0.0
    for end, step in steps:
        count = math.ceil((min(end, last) - start) / step - 1e-9)
        parts.append(start + step * np.arange(max(count, 0)))
        start += step * max(count, 0)
        if start >= last:
            break
    return np.append(np.concatenate(parts), start)


class Optimum:
    """The best schedules for one world."""

    def __init__(
        self, world: World, bounds: Bounds, *, waiting_only: bool = False, grid: Floats | None = None
    ) -> None:
        self.world = world
        self._ages = ages(float(world.times[-1])) if grid is None else grid
        self._counted = counted = world.times <= (WAITING_S if waiting_only else math.inf)
        settled = np.searchsorted(world.times, self._ages, side="right")
        sums = np.append(0.0, np.cumsum(np.where(counted, world.times, 0.0)))
        orders = len(world.times)
        self._pending = 1.0 - settled / orders
        self._share = np.append(0, np.cumsum(counted))[settled] / orders
        self._sum = sums[settled] / orders
        slack = 1e-9
        self._from = np.searchsorted(self._ages, self._ages + bounds.min_interval - slack)
        self._to = np.searchsorted(self._ages, self._ages + bounds.max_interval + slack)
        self._from[0] = np.searchsorted(self._ages, bounds.initial_delay - slack)
        self._known: dict[float, Replay] = {}

    def schedule(self, price: float) -> Floats:
        """The ages of the best schedule's queries, where one query costs as much as `price` seconds of delay."""
        best = np.zeros(len(self._ages))
        chosen = np.full(len(self._ages), len(self._ages))
        reach = self._ages * self._share - self._sum
        for at in range(len(self._ages) - 1, -1, -1):
            if self._pending[at] <= 0.0:
                continue
            low, high = min(self._from[at], len(best) - 1), self._to[at]
            costs = reach[low:high] - self._ages[low:high] * self._share[at] + best[low:high]
            pick = int(np.argmin(costs))
            best[at] = price * self._pending[at] + self._sum[at] + costs[pick]
            chosen[at] = low + pick
        path, at = [], int(chosen[0])
        while at < len(self._ages):
            path.append(self._ages[at])
            at = int(chosen[at])
        return np.array(path)

    def priced(self, price: float) -> Replay:
        if price not in self._known:
            self._known[price] = replay(self.world, [self.schedule(price)])
        return self._known[price]

    def at(self, queries: float) -> Replay:
        """The optimum at as many queries for an order: of its two neighbours on the hull, the mixture.

        Where more queries do not help, since the shortest gap stands in the way, it uses fewer; where some orders
        would never be seen with as few, since the longest gap does, it uses more.
        """
        dear, cheap = self.priced(FREE), self.priced(PROHIBITIVE)
        for known in self._known.values():
            dear = min((dear, known), key=lambda one: one.queries if one.queries > queries else math.inf)
            cheap = max((cheap, known), key=lambda one: one.queries if one.queries <= queries else -math.inf)
        if dear.queries <= queries:
            return dear
        if cheap.queries >= queries:
            return cheap
        while (
            True
        ):  # the price at which both cost the same finds what lies below the line between them, if anything
            price = (self._delay(cheap) - self._delay(dear)) / (dear.queries - cheap.queries)
            found = self.priced(price)
            if self._delay(found) + price * found.queries > self._delay(dear) + price * dear.queries - EQUAL_S:
                return mixture(dear, cheap, (queries - cheap.queries) / (dear.queries - cheap.queries))
            dear, cheap = (found, cheap) if found.queries > queries else (dear, found)

    def _delay(self, found: Replay) -> float:
        """What is least, in seconds for an order."""
        return float(found.delays[0, self._counted].sum()) / len(self.world.times)


def mixture(first: Replay, second: Replay, part: float) -> Replay:
    """`part` of the orders by the first schedule, the rest by the second."""
    delays, asked = np.vstack([first.delays, second.delays]), np.vstack([first.asked, second.asked])
    return Replay(first.world, delays, asked, np.concatenate([first.weights * part, second.weights * (1 - part)]))
