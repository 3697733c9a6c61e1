"""When to ask again.

Gaps grow in proportion to an order's age, so that news is late by at most a known part of how long the
payment took. Answers that say nothing of the payment back off on a counter of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

JITTER = 0.1  # at most this part of a pause is taken off, so that orders taken on together drift apart
BACKOFF_CAP_S = 60.0  # an order that only errs is asked at least this often, or as often as its age says


@dataclass(frozen=True, slots=True)
class Cadence:
    """The `[polling]` settings; all in seconds but `age_fraction`, a plain ratio, and `queries_per_order`.

    That is the mean number of queries for an order that a cadence learned from the lot's own orders may take (see
    `learning`), up to an age of 90 s; None where nothing is learned and the rule below stands alone.
    """

    initial_delay: float = 0.5
    min_interval: float = 1.0
    age_fraction: float = 0.1
    max_interval: float = 900.0
    undecided_after: float = 90.0  # 0 = never
    give_up_after: float = 259_200.0
    queries_per_order: float | None = None

    def gap(self, age: float, jitter: float) -> float:
        """Seconds to the next query of an order in progress. `jitter` is in [0, 1); never below the minimum."""
        return self._jittered(min(max(age * self.age_fraction, self.min_interval), self.max_interval), jitter)

    def backoff(self, errors: int, age: float, jitter: float) -> float:
        """Seconds to the next query after `errors` (>= 1) answers in a row that said nothing of the payment."""
        cap = min(max(age * self.age_fraction, BACKOFF_CAP_S), self.max_interval)
        doubled = self.min_interval * 2.0 ** min(errors - 1, 30)
        regular = max(age * self.age_fraction, self.min_interval)
        return self._jittered(min(max(doubled, regular), max(cap, self.min_interval)), jitter)

    def _jittered(self, pause: float, jitter: float) -> float:
        return max(pause * (1.0 - JITTER * jitter), self.min_interval)
