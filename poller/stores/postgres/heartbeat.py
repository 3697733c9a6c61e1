"""What goes on by itself: the lease is renewed, the dead are buried, and the size is looked at now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from poller.ports import StoreUnavailableError
from poller.stores.postgres import migration, overview
from poller.stores.postgres.lines import Line
from poller.stores.postgres.session import HEARTBEATS, Session

SIZE_EVERY_S = 60.0
RETRY = 0.2  # of a heartbeat's distance, after one that failed


class Heartbeat:
    """`run` is a task. It has a line of its own, so that no transaction is in its way."""

    def __init__(self, line: Line, session: Session, lease: float) -> None:
        self.size_bytes = 0
        self.beaten: Callable[[], None] | None = None  # told after each beat
        self._line = line
        self._session = session
        self._every = lease / HEARTBEATS
        self._size_at = float("-inf")
        self._contracted = False
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Runs until `stop`. What PostgreSQL refuses is asked again soon, and told to whoever uses the store."""
        while not self._stopping.is_set():
            try:
                async with self._line.use(self._every) as connection:
                    await self._session.beat(connection)
                    self._contracted = self._contracted or await migration.contract(connection)
                    if time.monotonic() - self._size_at >= SIZE_EVERY_S:
                        self.size_bytes = await overview.size_bytes(connection)
                        self._size_at = time.monotonic()
                pause = self._every
                if self.beaten is not None:
                    self.beaten()
            except StoreUnavailableError:
                pause = self._every * RETRY
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                continue
