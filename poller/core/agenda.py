"""What is due when, and who goes first.

Nothing that is due waits while the daemon keeps up. When it is behind, the freshest go first, since their
drivers are the ones at the barrier, and one turn in `FAIR_SHARE` goes to the longest overdue, so that none
starves.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, TypeVar

FAIR_SHARE = 5
SLACK = 64  # entries that a heap may hold in vain, besides as many as stand

T = TypeVar("T")


@dataclass(slots=True)
class _Entry(Generic[T]):
    """`mark` is new at each `put`: what the heaps hold under another mark is void, and dropped in time."""

    due: float
    freshness: float
    mark: int
    item: T


class Agenda(Generic[T]):
    """Items by number, each with a due time and a freshness in seconds; higher is fresher, then by number."""

    def __init__(self) -> None:
        self._items: dict[int, _Entry[T]] = {}
        self._due: set[int] = set()
        self._later: list[tuple[float, int, int]] = []  # due, mark, number
        self._longest: list[tuple[float, int, int]] = []  # the same, of those found due
        self._freshest: list[tuple[float, int, float, int, int]] = []  # minus freshness and number, then the same
        self._marks = count()
        self._turn = 0

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, number: int) -> bool:
        return number in self._items

    def put(self, number: int, due: float, freshness: float, item: T) -> None:
        """Enter an item, or enter it anew with another due time."""
        self.remove(number)
        mark = next(self._marks)
        self._items[number] = _Entry(due, freshness, mark, item)
        heapq.heappush(self._later, (due, mark, number))

    def remove(self, number: int) -> T | None:
        """Take an item out, due or not."""
        entry = self._items.pop(number, None)
        if entry is None:
            return None
        self._due.discard(number)
        self._slim(self._later, len(self._items) - len(self._due), self._stands_later)
        self._slim(self._longest, len(self._due), self._stands_due)
        self._slim(self._freshest, len(self._due), self._stands_due)
        return entry.item

    def freshest(self) -> float | None:
        """The highest freshness there is, due or not. Looks at every item."""
        return max((entry.freshness for entry in self._items.values()), default=None)

    def next_due(self) -> float | None:
        """The earliest due time; in the past where something is overdue."""
        earliest = self._earliest()
        return earliest[0] if earliest else None

    def pop_earliest(self) -> T | None:
        """Take out the item with the earliest due time, whether it has come or not."""
        earliest = self._earliest()
        return self.remove(earliest[-1]) if earliest else None

    def found_due(self) -> bool:
        """Whether anything that was found due is still there."""
        return bool(self._due)

    def overdue(self, now: float) -> int:
        """How many items are due at `now`."""
        self._collect(now)
        return len(self._due)

    def pop(self, now: float) -> T | None:
        """Take out the item whose turn it is; None where nothing is due at `now`."""
        self._collect(now)
        if not self._due:
            return None
        self._turn += 1
        heap: list[Any] = self._longest if self._turn % FAIR_SHARE == 0 else self._freshest
        self._prune(heap, self._stands_due)
        return self.remove(heap[0][-1])

    def _earliest(self) -> tuple[float, int, int] | None:
        later, longest = self._later, self._longest
        self._prune(later, self._stands_later)
        self._prune(longest, self._stands_due)
        if not later or not longest:
            return later[0] if later else longest[0] if longest else None
        return min(later[0], longest[0])

    def _collect(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            head = heapq.heappop(self._later)
            if not self._stands_later(head):
                continue
            number = head[-1]
            self._due.add(number)
            heapq.heappush(self._longest, head)
            heapq.heappush(self._freshest, (-self._items[number].freshness, -number, *head))

    def _stands(self, head: tuple[Any, ...]) -> bool:
        entry = self._items.get(head[-1])
        return entry is not None and entry.mark == head[-2]

    def _stands_later(self, head: tuple[Any, ...]) -> bool:
        return self._stands(head) and head[-1] not in self._due

    def _stands_due(self, head: tuple[Any, ...]) -> bool:
        return self._stands(head) and head[-1] in self._due

    @staticmethod
    def _prune(heap: list[Any], stands: Callable[[Any], bool]) -> None:
        while heap and not stands(heap[0]):
            heapq.heappop(heap)

    @staticmethod
    def _slim(heap: list[Any], standing: int, stands: Callable[[Any], bool]) -> None:
        """Drop what a heap holds in vain once that is more than what stands, so that it cannot grow for ever."""
        if len(heap) > 2 * standing + SLACK:
            heap[:] = filter(stands, heap)
            heapq.heapify(heap)
