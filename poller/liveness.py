"""Alive means going on: loops report each turn they take, and whoever falls silent is found out."""

from __future__ import annotations

from poller.ports import Clock

SILENCE_S = 40.0  # a loop that has not taken a turn for so long is stuck: four times the longest wait


class StalledError(Exception):
    """A part of the daemon makes no progress. The message names it; only a new start can help."""


class Liveness:
    """The turns of the loops, by name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turns: dict[str, float] = {}

    def turn(self, loop: str) -> None:
        """The loop of that name goes on."""
        self._turns[loop] = self._clock.monotonic()

    def check(self) -> None:
        """Raises StalledError where a loop has fallen silent."""
        now = self._clock.monotonic()
        for loop, last in self._turns.items():
            if now - last > SILENCE_S:
                raise StalledError(f"the {loop} has made no progress for {now - last:.0f} s")
