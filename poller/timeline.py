"""The daemon's own two times, in seconds, kept through restarts and deaf to the wall clock.

*Running time* counts the seconds that the daemon has run: ages and deadlines are differences of it.
*Schedule time* counts the same seconds, and at a start jumps ahead by how long the daemon was away, so that
what fell due meanwhile is due. How long that was only the wall clock can tell, and it lies: a step back or
a long absence counts as `CATCH_UP_S`, after which everything is due at once. Being wrong here costs a query
too early, never one too late, and ages nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from poller.ports import Clock, Stamp

CATCH_UP_S = 30 * 86_400.0  # above any interval between queries and any pause between deliveries


class Timeline:
    """Built once at the start, from the stamp that the store kept (None for a new store)."""

    def __init__(self, clock: Clock, last: Stamp | None) -> None:
        self._clock = clock
        self._run_offset = (last.run if last else 0.0) - clock.monotonic()
        self._ahead = (last.schedule - last.run + _absence(clock.wall(), last.wall)) if last else 0.0

    def run(self) -> float:
        """The daemon's running time now."""
        return self._clock.monotonic() + self._run_offset

    def schedule(self) -> float:
        """The schedule's time now."""
        return self._clock.monotonic() + self._run_offset + self._ahead

    def wall_at(self, due: float) -> datetime:
        """What the wall clock will show at a schedule time, if nobody sets it; for people."""
        return self._clock.wall() + timedelta(seconds=due - self.schedule())

    def until(self, due: float) -> float:
        """Seconds from now to a schedule time, 0 where it has come."""
        return max(due - self.schedule(), 0.0)

    def advance(self, run: float, schedule: float) -> None:
        """Move forward to the times of a fleet where they are ahead; never back."""
        self._run_offset += max(run - self.run(), 0.0)
        self._ahead += max(schedule - self.schedule(), 0.0)

    def stamp(self) -> Stamp:
        """What the store writes down with each transaction."""
        return Stamp(self.run(), self.schedule(), self._clock.wall())


def _absence(now: datetime, then: datetime) -> float:
    seconds = (now - then).total_seconds()
    return seconds if 0.0 <= seconds <= CATCH_UP_S else CATCH_UP_S
