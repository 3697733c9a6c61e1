"""Spans of monotonic time in which something was out of order."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Span:
    """From `start` to `end`, which is infinite while it lasts."""

    start: float
    end: float = float("inf")

    @property
    def is_open(self) -> bool:
        return self.end == float("inf")

    def close(self, at: float) -> None:
        self.end = at

    def __contains__(self, at: float) -> bool:
        return self.start <= at <= self.end

    def meets(self, start: float, end: float) -> bool:
        """Whether it has a moment in common with that from `start` to `end`."""
        return self.start <= end and start <= self.end
