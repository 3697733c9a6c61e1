"""What goes on by itself: the lease is renewed, the dead are buried, and size and standby looked at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from poller.ports import StoreUnavailableError
from poller.stores.postgres import migration, overview
from poller.stores.postgres.connecting import Life
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.herald import Herald, Hint
from poller.stores.postgres.lines import Line
from poller.stores.postgres.session import Session
from poller.stores.postgres.terms import Terms

LOOK_EVERY_S = 60.0
CONTRACT_EVERY_S = 5.0
NEWS_EVERY_S = 4.0  # at least; what is freed is told at once
RETRY = 0.2  # of a heartbeat's distance, after one that failed


class Heartbeat:
    """`run` is a task. It has a line of its own, so that no transaction is in its way."""

    def __init__(self, line: Line, session: Session, terms: Terms, herald: Herald) -> None:
        self.size_bytes = 0
        self.beaten: Callable[[], None] | None = None  # told when there may be something to take up
        self.is_replicated: bool | None = None  # whether a commit waits for a standby; None until it is known
        self.replicated: Callable[[bool], None] | None = None  # told of that, and when it changes
        self._line = line
        self._session = session
        self._terms = terms
        self._herald = herald
        self._told_at = float("-inf")
        self._looked_at = float("-inf")
        self._life: Life | None = None
        self._contracted = False
        self._contract_at = float("-inf")
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        """Runs until `stop`. What PostgreSQL refuses is asked again soon, and told to whoever uses the store."""
        while not self._stopping.is_set():
            try:
                began = time.monotonic()
                async with self._line.use(self._terms.patience) as connection:
                    has_freed = await self._session.beat(connection)
                    if not self._contracted and time.monotonic() >= self._contract_at:
                        self._contract_at = time.monotonic() + CONTRACT_EVERY_S  # also where it fails
                        self._contracted = await migration.contract(connection)
                    if time.monotonic() - self._looked_at >= LOOK_EVERY_S or self._life != self._line.life:
                        await self._look(connection)
                self._tell(has_freed)
                pause = max(began + self._terms.heartbeat - time.monotonic(), 0.0)
            except StoreUnavailableError:
                pause = self._terms.heartbeat * RETRY
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    def _tell(self, has_freed: bool) -> None:
        """Have what is free taken up, here and by the others."""
        if has_freed:
            self._herald.tell(Hint.FREE)
        if self.beaten is not None and (has_freed or time.monotonic() - self._told_at >= NEWS_EVERY_S):
            self._told_at = time.monotonic()
            self.beaten()

    async def _look(self, connection: Connection) -> None:
        self.size_bytes = await overview.size_bytes(connection)
        self._looked_at, self._life = time.monotonic(), self._line.life
        before, self.is_replicated = self.is_replicated, await _is_replicated(connection)
        if self.replicated is not None and self.is_replicated is not before:
            self.replicated(self.is_replicated)


async def _is_replicated(connection: Connection) -> bool:
    """Whether a commit waits for a standby: without one, what was acknowledged is lost with the server."""
    return bool(await connection.fetchval("SHOW synchronous_standby_names"))
