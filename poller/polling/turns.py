"""What is in memory, what is in the air, and whose turn it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from poller.core.orders import Prompt, State
from poller.core.outage import YOUNG_AGE_S, Outage
from poller.core.rounds import Rounds
from poller.ports import Clock, Pending
from poller.timeline import Timeline

HELD_MAX = 10_000  # orders in memory; what is due soon beyond that stays in the store until there is room


@dataclass(slots=True)
class Flight:
    """A query in the air. `again` asks for another one as soon as this has ended, and says what for.

    `canary` says that it went out while the platform was known to be down, `slow` that the order's query before
    this one timed out, `lost` that the lease under which it was asked has been lost since. Where the order is
    held anew after that, `successor` is what has its turn once this has ended.
    """

    pending: Pending
    canary: bool
    slow: bool
    again: Prompt | None = None
    lost: bool = False
    successor: Pending | None = None
    _landing: asyncio.Event | None = None

    def counts(self) -> bool:
        """Whether what it brings is this daemon's to record: of a final order it always is."""
        return not self.lost or self.pending.state is not State.PENDING

    def landed(self) -> asyncio.Event:
        """Set once the query has ended, and what it brought has been recorded."""
        if self._landing is None:  # hardly anybody ever wants it
            self._landing = asyncio.Event()
        return self._landing

    def land(self) -> None:
        """The query has ended."""
        if self._landing is not None:
            self._landing.set()


class Turns:
    """Orders whose last query timed out hold at most half of the `places`; an outage has one canary at a time."""

    def __init__(self, clock: Clock, timeline: Timeline, places: int) -> None:
        self.outage = Outage()
        self.left_out = float("inf")  # when the first of those is due for which there was no room in memory
        self.losses = 0  # of the lease
        self.places = places
        self._clock = clock
        self._timeline = timeline
        self._agenda: Rounds[Pending] = Rounds()
        self._arrivals: dict[int, tuple[str, bool]] = {}  # came in during an outage, latest last; lot, urgent
        self._slow: list[Pending] = []  # their last query timed out and no place for such is free
        self._slow_flights = 0
        self._flights: dict[int, Flight] = {}

    def __len__(self) -> int:
        """How many orders are in memory."""
        return len(self._agenda) + len(self._slow) + len(self._flights)

    def flight(self, number: int) -> Flight | None:
        """The order's query in the air."""
        return self._flights.get(number)

    def in_flight(self) -> int:
        return len(self._flights)

    def put(self, pending: Pending) -> None:
        """Enter an order, or enter it anew with another due time."""
        self._agenda.put(pending.id, pending.key.park_uuid, pending.due, pending.opened_run, pending)

    def arrive(self, pending: Pending, *, urgent: bool = False) -> None:
        """Enter an order that has just been taken on, or that somebody wants to know of now (`urgent`).

        In an outage it is the next canary; an urgent one does not wait for the pause to end.
        """
        self.put(pending)
        if self.outage.is_open:
            self._arrivals.pop(pending.id, None)
            self._arrivals[pending.id] = pending.key.park_uuid, urgent

    def leave_out(self, due: float) -> None:
        """An order that is due soon is in the store alone, for want of room."""
        self.left_out = min(self.left_out, due)

    def waiting(self, lot: str) -> int:
        """How many of a lot's orders wait for their time or their turn."""
        return self._agenda.of(lot)

    def has_room(self, lot: str, room: int) -> bool:
        """Whether one more of a lot's orders may be in memory that is for `room` of them.

        However many others have, every lot has the share of half the room that each of them would have.
        """
        if len(self) < room:
            return True
        of_it = self._agenda.of(lot)
        lots = self._agenda.busy() + (of_it == 0)
        return lots > 1 and of_it < room // (2 * lots)

    def forget(self, order: Pending) -> Pending | None:
        """Take an order out, and give it if it was waiting for its turn. One in the air stays in the air."""
        slow = next((pending for pending in self._slow if pending.id == order.id), None)
        if slow is not None:
            self._slow.remove(slow)
        return self._agenda.remove(order.id, order.key.park_uuid) or slow

    def forget_all(self) -> None:
        """The lease was lost: none of it is held. What is in the air stays there, and counts for nothing."""
        self.losses += 1
        self._agenda = Rounds()
        self._arrivals.clear()
        self._slow.clear()
        for flight in self._flights.values():
            flight.lost, flight.again, flight.successor = True, None, None

    def any_due(self) -> bool:
        """Whether anything in memory is due, though it may not be asked about yet."""
        due = self._agenda.next_due()
        return due is not None and self._timeline.until(due) == 0.0

    def until_next(self) -> float:
        """Seconds until a query may start as far as is known now; infinite while that may take a change first."""
        due = self._agenda.next_due()
        if due is None or len(self._flights) >= self.places:
            return float("inf")
        if not self.outage.is_open:
            return self._timeline.until(due)
        if self._flights:
            return float("inf")
        return max(self._canary_at() - self._clock.monotonic(), 0.0)

    def take(self) -> Flight | None:
        """Take out the order whose turn it is, as a flight; None where it is nobody's."""
        pending = self._canary() if self.outage.is_open else self._due()
        if pending is None:
            return None
        flight = self._flights[pending.id] = Flight(pending, self.outage.is_open, pending.timed_out)
        self._slow_flights += flight.slow
        return flight

    def land(self, flight: Flight) -> None:
        """Note that a query has ended."""
        del self._flights[flight.pending.id]
        flight.land()
        if flight.slow:
            self._slow_flights -= 1
            while self._slow:
                self.put(self._slow.pop())
        if flight.successor is not None:
            self.put(flight.successor)
        if not self.outage.is_open:
            self._arrivals.clear()

    def _due(self) -> Pending | None:
        now = self._timeline.schedule()
        while (pending := self._agenda.pop(now)) is not None:
            if not pending.timed_out or self._slow_flights < max(self.places // 2, 1):
                return pending
            self._slow.append(pending)
            self._agenda.give_back(pending.key.park_uuid)
        return None

    def _canary(self) -> Pending | None:
        if self._flights or self._canary_at() > self._clock.monotonic():
            return None
        while self._arrivals:
            number, (lot, _) = self._arrivals.popitem()
            pending = self._agenda.remove(number, lot)
            if pending is not None:
                return pending
        # By turns the freshest, and whoever was asked longest ago: many that hang cannot hide one that does not.
        freshest = self._agenda.pop(self._timeline.schedule()) if self.outage.canaries % 2 == 0 else None
        return freshest or self._agenda.pop_earliest()

    def _canary_at(self) -> float:
        youngest = self._agenda.freshest()
        young = youngest is not None and self._timeline.run() - youngest < YOUNG_AGE_S
        urgent = any(urgent for _, urgent in self._arrivals.values())
        return self.outage.canary_at(young_waits=young, urgent=urgent)
