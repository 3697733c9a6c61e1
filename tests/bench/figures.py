"""What a scenario found: a figure with its unit, and the target beside it."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

COMPARE = {"≤": operator.le, "≥": operator.ge}


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` in `unit`; a ratio is to the bare loop, or whatever `name` says, in the same run.

    `target` is how it compares and with what, None where there is none.
    """

    scenario: str
    name: str
    value: float
    unit: str = ""
    target: tuple[str, float] | None = None

    @property
    def is_met(self) -> bool | None:
        """None without a target."""
        return None if self.target is None else bool(COMPARE[self.target[0]](self.value, self.target[1]))


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def percentile(ordered: Sequence[float], share: float) -> float:
    """Of values in rising order, the one that `share` of them do not pass."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
