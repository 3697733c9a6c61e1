"""The last day in hours: how orders ended, and how long that took; read from the store when it is asked for."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from poller.core.orders import State
from poller.ports import Clock
from poller.ports.records import Ended, Ending, Records
from poller.timeline import Timeline

HOURS = 24
DAY_S = 86_400.0
PAGE = 1_000  # orders read in one go, so that nobody waits for it
PAGES = 20  # read at most for one who asks: what is left is read for the next
KEPT = 3 * HOURS  # hours in memory, should the wall clock jump to and fro
SETTLED = (State.PAID, State.FAILED)

_FIRST_S = 0.1  # times to a result are counted in classes: up to this, then each a twelfth longer than the last
_STEPS = 8 / math.log(2.0)  # classes to a doubling


@dataclass(frozen=True, slots=True)
class Hour:
    """How orders ended in an hour that began at `start`. `mean`, `half` and `most` are in seconds.

    They are how long the platform took to settle: on average, for half of the orders at most, for 95 in 100
    at most. None where none was settled.
    """

    start: datetime
    outcomes: dict[State, int]
    mean: float | None
    half: float | None
    most: float | None


@dataclass(slots=True)
class _Tally:
    outcomes: Counter[State] = field(default_factory=Counter)
    classes: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0

    def add(self, ended: Ended) -> None:
        self.outcomes[ended.state] += 1
        if ended.state in SETTLED:
            seconds = max(ended.seconds, _FIRST_S)
            self.seconds += seconds
            self.classes[math.ceil(math.log(seconds / _FIRST_S) * _STEPS)] += 1

    def hour(self, start: datetime) -> Hour:
        settled = self.classes.total()
        mean = self.seconds / settled if settled else None
        return Hour(start, dict(self.outcomes), mean, self._within(0.5), self._within(0.95))

    def _within(self, share: float) -> float | None:
        wanted, seen = share * self.classes.total(), 0
        for number in sorted(self.classes):
            seen += self.classes[number]
            if seen >= wanted:
                return _FIRST_S * math.exp(number / _STEPS)
        return None


class Daybook:
    """Hours are those of the wall clock, by which an order's end is dated, in UTC."""

    def __init__(self, records: Records, clock: Clock, timeline: Timeline) -> None:
        self._records = records
        self._clock = clock
        self._last = Ending(timeline.run() - DAY_S, 0)
        self._tallies: dict[int, _Tally] = {}
        self._reading = asyncio.Lock()

    async def catch_up(self) -> bool:
        """Read on; whether everything has been read. Raises StoreUnavailableError."""
        async with self._reading:
            for _ in range(PAGES):
                page = await self._records.ended(self._last, PAGE)
                for one in page:
                    self._add(one)
                if len(page) < PAGE:
                    return True
        return False

    def hours(self) -> list[Hour]:
        """The last 24, oldest first; the last of them is the one that runs."""
        now = _hour_of(self._clock.wall())
        return [
            self._tallies.get(number, _Tally()).hour(datetime.fromtimestamp(number * 3600, UTC))
            for number in range(now - HOURS + 1, now + 1)
        ]

    def _add(self, ended: Ended) -> None:
        self._last = ended.ending
        number = _hour_of(ended.at)
        if number not in self._tallies:
            self._tallies[number] = _Tally()
            if len(self._tallies) > KEPT:
                del self._tallies[next(iter(self._tallies))]
        self._tallies[number].add(ended)


def _hour_of(at: datetime) -> int:
    return int(at.timestamp() // 3600)
