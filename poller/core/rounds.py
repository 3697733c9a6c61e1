"""Whose turn it is among lots: each with something due has one in a round, and a lone one has all.

This is start-time fair queueing (Goyal, Vin and Cheng, 1996) with turns of one size. A lot that had less than
its share is first as soon as something of it is due, and what it does not need the others have. Within a lot the
agenda decides.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, TypeVar

from poller.core.agenda import SLACK, Agenda

T = TypeVar("T")


@dataclass(slots=True)
class _Lot(Generic[T]):
    """`mark` is that of its one entry in the heaps that stands: in `_ready` if it `is_ready`, else in `_later`."""

    agenda: Agenda[T] = field(default_factory=Agenda)
    turn: int = 0  # the round of its next one, at the earliest
    is_ready: bool = False  # something of it was found due
    wakes: float = float("inf")  # when it is looked at, while it is not ready; not after anything of it is due
    mark: int = -1


class Rounds(Generic[T]):
    """As `Agenda`, of items of several lots. A number is one item's, in whatever lot."""

    def __init__(self) -> None:
        self._lots: dict[str, _Lot[T]] = {}
        self._lone: Agenda[T] | None = None  # of the one lot there is so far: it needs nothing of what follows
        self._later: list[tuple[float, int, _Lot[T]]] = []  # when it wakes, mark
        self._ready: list[tuple[int, bool, int, _Lot[T]]] = []  # turn, whether it was ready before, mark
        self._marks = count()
        self._round = 0
        self._count = 0
        self._busy = 0

    def __len__(self) -> int:
        return self._count if self._lone is None else len(self._lone)

    def busy(self) -> int:
        """How many lots have items."""
        return self._busy if self._lone is None else min(len(self._lone), 1)

    def of(self, lot: str) -> int:
        """How many items a lot has."""
        return len(self._lots[lot].agenda) if lot in self._lots else 0

    def put(self, number: int, lot: str, due: float, freshness: float, item: T) -> None:
        """Enter an item, or enter it anew with another due time."""
        one = self._lots.get(lot)
        if one is None:
            one = self._meet(lot)
        if self._lone is not None:
            self._lone.put(number, due, freshness, item)
            return
        before = len(one.agenda)
        one.agenda.put(number, due, freshness, item)
        self._counted(one, before)
        if one.is_ready:
            self._settle(one)
        elif due < one.wakes:
            self._wake(one, due)

    def remove(self, number: int, lot: str) -> T | None:
        """Take an item out, due or not."""
        one = self._lots.get(lot)
        return None if one is None else self._take(one, lambda agenda: agenda.remove(number))

    def freshest(self) -> float | None:
        """The highest freshness there is, due or not. Looks at every item."""
        of_lots = [one.agenda.freshest() for one in self._lots.values()]
        return max((fresh for fresh in of_lots if fresh is not None), default=None)

    def next_due(self) -> float | None:
        """The earliest due time; where something is overdue, one in the past."""
        if self._lone is not None:
            return self._lone.next_due()
        if self._prune(self._ready):
            return self._ready[0][-1].agenda.next_due()
        while self._prune(self._later):
            wakes, _, one = self._later[0]
            due = one.agenda.next_due()
            if due == wakes:
                return due
            one.wakes, one.mark = float("inf"), -1  # what it was to wake for is gone
            self._settle(one)
        return None

    def pop_earliest(self) -> T | None:
        """Take out the item with the earliest due time, whether it has come or not. Looks at every lot."""
        dues = [(one.agenda.next_due(), one) for one in self._lots.values() if len(one.agenda)]
        if not dues:
            return None
        _, earliest = min(dues, key=lambda pair: pair[0] or 0.0)
        return self._take(earliest, Agenda.pop_earliest)

    def pop(self, now: float) -> T | None:
        """Take out the item whose turn it is; None where nothing is due at `now`."""
        if self._lone is not None:
            return self._lone.pop(now)
        while self._later and self._later[0][0] <= now:
            _, mark, one = heapq.heappop(self._later)
            if mark != one.mark:
                continue
            one.wakes, one.mark = float("inf"), -1
            if one.agenda.overdue(now):
                one.turn = max(one.turn, self._round)
                self._line_up(one, again=False)
            else:
                self._settle(one)
        if not self._prune(self._ready):
            return None
        one = heapq.heappop(self._ready)[-1]
        self._round, one.turn, one.mark = one.turn, one.turn + 1, -1
        item = self._take(one, lambda agenda: agenda.pop(now))
        if one.is_ready:
            self._line_up(one, again=True)
        return item

    def give_back(self, lot: str) -> None:
        """The item that `pop` has just given was not asked about: its lot still has its turn."""
        one = self._lots[lot]
        if self._lone is not None:
            return
        one.turn -= 1
        if one.is_ready:
            self._line_up(one, again=False)

    def _meet(self, lot: str) -> _Lot[T]:
        one = self._lots[lot] = _Lot()
        if len(self._lots) == 1:
            self._lone = one.agenda
        elif self._lone is not None:
            self._lone = None
            for other in self._lots.values():
                self._counted(other, 0)
                self._settle(other)
        return one

    def _take(self, one: _Lot[T], take: Callable[[Agenda[T]], T | None]) -> T | None:
        before = len(one.agenda)
        item = take(one.agenda)
        if self._lone is not None:
            return item
        self._counted(one, before)
        if one.is_ready:
            self._settle(one)
        return item

    def _counted(self, one: _Lot[T], before: int) -> None:
        after = len(one.agenda)
        self._count += after - before
        self._busy += (after > 0) - (before > 0)

    def _settle(self, one: _Lot[T]) -> None:
        """Have it wake for what is due next, unless something of it is due."""
        if one.is_ready and one.agenda.found_due():
            return
        if one.is_ready:
            one.is_ready, one.mark = False, -1
        due = one.agenda.next_due()
        if due is not None and due < one.wakes:
            self._wake(one, due)

    def _wake(self, one: _Lot[T], due: float) -> None:
        one.wakes, one.mark = due, next(self._marks)
        heapq.heappush(self._later, (due, one.mark, one))
        self._slim(self._later)

    def _line_up(self, one: _Lot[T], *, again: bool) -> None:
        one.is_ready, one.mark = True, next(self._marks)
        heapq.heappush(self._ready, (one.turn, again, one.mark, one))
        self._slim(self._ready)

    @staticmethod
    def _prune(heap: list[Any]) -> list[Any]:
        """The heap without what it holds in vain at its head."""
        while heap and heap[0][-2] != heap[0][-1].mark:
            heapq.heappop(heap)
        return heap

    def _slim(self, heap: list[Any]) -> None:
        """Drop what a heap holds in vain once that is more than what stands."""
        if len(heap) > 2 * len(self._lots) + SLACK:
            heap[:] = [entry for entry in heap if entry[-2] == entry[-1].mark]
            heapq.heapify(heap)
