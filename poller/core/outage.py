"""Outage mode: when the platform as a whole does not answer, one canary asks for all.

It opens once the last `OPENING_ANSWERS` answers, of at least `OPENING_ORDERS` different orders (or of all
there are, if fewer), were unavailable with no usable reply between. Any usable reply closes it. While it is
open one query at a time goes out, with growing pauses, and no order's own backoff grows.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from poller.core.replies import Cause, Result, Unavailable, is_usable

OPENING_ANSWERS = 5
OPENING_ORDERS = 3
FIRST_PAUSE_S = 1.0
YOUNG_AGE_S = 120.0  # a driver may still be at the barrier
YOUNG_CAP_S = 5.0
CAP_S = 60.0
JITTER = 0.1  # at most this part of a pause is taken off
PAST_KEPT = 200


class Turn(enum.Enum):
    """What one answer did to the platform's state."""

    NOTHING = enum.auto()
    OPENED = enum.auto()
    CLOSED = enum.auto()


@dataclass(frozen=True, slots=True)
class PastOutage:
    """One that is over. `kind` and `cause` are those of its last failure; times are of the same clock."""

    since: float
    until: float
    kind: Cause | None
    cause: str | None


@dataclass(frozen=True, slots=True)
class Told:
    """An outage as several know it together; `since` and `last_canary` are seconds ago.

    So many `canaries` were answered in vain, and the last answer wished for a pause of `wish` seconds.
    """

    since: float
    last_canary: float
    canaries: int
    wish: float
    kind: Cause | None
    cause: str | None


class Outage:
    """The platform's state as its answers show it. Times are seconds of any one monotonic clock."""

    def __init__(self) -> None:
        self.is_open = False
        self.since = 0.0  # of the outage that is open, or was last
        self.lasted = 0.0  # the last one, once it is closed
        self.cause: str | None = None
        self.kind: Cause | None = None
        self.past: deque[PastOutage] = deque(maxlen=PAST_KEPT)  # newest last
        self._unavailable: deque[int] = deque(maxlen=OPENING_ANSWERS)
        self.canaries = 0  # answered in vain since it opened
        self._last_canary = 0.0
        self._jitter = 0.0
        self._wish = 0.0

    def observe(self, order: int, result: Result, now: float, *, orders: int, canary: bool, jitter: float) -> Turn:
        """Take in the answer for order number `order`, while `orders` are being asked about in all.

        `canary` says that the query went out while the outage was open; `jitter` is in [0, 1).
        """
        if is_usable(result):
            self._unavailable.clear()
            return self._close(now) if self.is_open else Turn.NOTHING
        if self.is_open and canary:
            self.canaries += 1
            self._last_canary, self._jitter = now, jitter
        if not isinstance(result, Unavailable):
            return Turn.NOTHING  # garbage says nothing of the platform as a whole
        self.cause, self.kind = result.error, result.cause
        self._wish = result.retry_after or 0.0
        if self.is_open:
            return Turn.NOTHING
        self._unavailable.append(order)
        enough = min(OPENING_ORDERS, max(orders, 1))
        if len(self._unavailable) < OPENING_ANSWERS or len(set(self._unavailable)) < enough:
            return Turn.NOTHING
        self.is_open, self.since = True, now
        self.canaries, self._last_canary, self._jitter = 0, now, jitter
        return Turn.OPENED

    def told(self, now: float) -> Told | None:
        """What others have to know of it; None while there is none."""
        if not self.is_open:
            return None
        return Told(now - self.since, now - self._last_canary, self.canaries, self._wish, self.kind, self.cause)

    def follow(self, told: Told | None, now: float, *, jitter: float) -> Turn:
        """Take over what is known of it together with others: `told`, None where it is over."""
        if told is None:
            self._unavailable.clear()
            return self._close(now) if self.is_open else Turn.NOTHING
        was_open, self.is_open = self.is_open, True
        if not was_open or told.canaries > self.canaries:
            self._last_canary, self._jitter = now - told.last_canary, jitter
        self.since, self.canaries, self._wish = now - told.since, told.canaries, told.wish
        self.kind, self.cause = told.kind, told.cause
        return Turn.NOTHING if was_open else Turn.OPENED

    def _close(self, now: float) -> Turn:
        self.is_open, self.lasted = False, now - self.since
        self.past.append(PastOutage(self.since, now, self.kind, self.cause))
        return Turn.CLOSED

    def canary_at(self, *, young_waits: bool, urgent: bool = False) -> float:
        """When the next canary may go.

        `young_waits` if an order younger than `YOUNG_AGE_S` waits, `urgent` if a person wants to know now.
        """
        if urgent:
            return self._last_canary + FIRST_PAUSE_S
        cap = YOUNG_CAP_S if young_waits else CAP_S
        pause = FIRST_PAUSE_S * 2.0 ** min(self.canaries, 10) * (1.0 - JITTER * self._jitter)
        return self._last_canary + min(max(pause, self._wish), cap)
