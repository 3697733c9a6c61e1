"""What this daemon holds and what it held when its lease was lost. PostgreSQL decides; this remembers."""

from __future__ import annotations

from collections.abc import Iterable


class Holds:
    """Ids of one kind. A lost one is so until it is held anew: what is still under way with it writes nothing."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._lost: set[int] = set()

    def __contains__(self, number: int) -> bool:
        return number in self._held

    def __len__(self) -> int:
        return len(self._held)

    def all(self) -> frozenset[int]:
        """Those that are held."""
        return frozenset(self._held)

    def is_lost(self, number: int) -> bool:
        return number in self._lost

    def any_lost(self) -> bool:
        return bool(self._lost)

    def hold(self, numbers: Iterable[int]) -> None:
        numbers = list(numbers)
        self._held.update(numbers)
        self._lost.difference_update(numbers)

    def release(self, numbers: Iterable[int]) -> None:
        self._held.difference_update(numbers)

    def lose_all(self) -> None:
        self._lost |= self._held
        self._held.clear()


class Uncommitted:
    """What a transaction makes of `holds` once it is committed: of each number its last word counts."""

    def __init__(self, holds: Holds) -> None:
        self._holds = holds
        self._is_held: dict[int, bool] = {}

    def __contains__(self, number: int) -> bool:
        return self._is_held.get(number, number in self._holds)

    def hold(self, numbers: Iterable[int]) -> None:
        self._is_held.update(dict.fromkeys(numbers, True))

    def release(self, numbers: Iterable[int]) -> None:
        self._is_held.update(dict.fromkeys(numbers, False))

    def apply(self) -> None:
        """It is committed."""
        self._holds.hold(number for number, is_held in self._is_held.items() if is_held)
        self._holds.release(number for number, is_held in self._is_held.items() if not is_held)
