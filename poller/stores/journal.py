"""What a job changed in memory, so that it can be undone together with its transaction."""

from __future__ import annotations

from collections.abc import Callable


class Journal:
    """Undo steps in the order of the changes. Used by one thread at a time, inside a transaction."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def add(self, undo: Callable[[], None]) -> None:
        """Remember how to take back what was just done."""
        self._undo.append(undo)

    def mark(self) -> int:
        """A point to go back to, as a savepoint is."""
        return len(self._undo)

    def undo(self, mark: int = 0) -> None:
        """Take back everything since `mark`, the newest first."""
        while len(self._undo) > mark:
            self._undo.pop()()

    def keep(self) -> None:
        """The transaction is committed."""
        self._undo.clear()
