"""Hints to the fleet: that something has changed, or is to be taken up. Nobody relies on one."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable

from poller.ports import StoreUnavailableError
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.lines import Line

PAUSE_S = 0.1  # hints within it go as one
TELL_S = 2.0

_TELL = (
    "BEGIN; SET LOCAL synchronous_commit = off; SELECT pg_notify(left('poller ' || current_schema(), 63), '{}'); "
    "COMMIT"
)


class Hint(enum.StrEnum):
    """What is said."""

    CHANGED = "changed"  # a notice was made
    FREE = "free"  # there is something to take up: an errand, or what somebody held


class Herald:
    """`run` is a task. It speaks on the line that hears, so that a daemon does not hear itself."""

    def __init__(self, line: Line) -> None:
        self.hearers: dict[Hint, Callable[[], None]] = {}
        self._line = line
        self._hints: set[Hint] = set()
        self._told = asyncio.Event()
        self._stopping = False

    def tell(self, *hints: Hint) -> None:
        """Say it to the others, soon."""
        self._hints.update(hints)
        self._told.set()

    def hear(self, said: str) -> None:
        """Somebody else said it."""
        hearer = self.hearers.get(Hint(said)) if said in set(Hint) else None
        if hearer is not None:
            hearer()

    async def say(self, connection: Connection, *hints: Hint) -> None:
        """Say it at once."""
        for hint in sorted(hints):
            await connection.execute(_TELL.format(hint.value))

    def stop(self) -> None:
        self._stopping = True
        self._told.set()

    async def run(self) -> None:
        """Runs until `stop`. A hint that cannot be given is dropped: the others look from time to time."""
        while not self._stopping:
            await self._told.wait()
            self._told.clear()
            hints, self._hints = self._hints, set()
            try:
                async with self._line.use(TELL_S) as connection:
                    await self.say(connection, *hints)
            except StoreUnavailableError:
                continue
            await asyncio.sleep(PAUSE_S)
