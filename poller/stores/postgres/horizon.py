"""How far the notices are complete: below it no transaction that is still under way can add one.

Ids are given out before their transactions end, and in another order than those: who reads on from the last id he
has seen would miss the notice of a slower daemon. So nothing is told above the newest notice of a moment ago,
once every transaction of that moment has ended.
"""

from __future__ import annotations

import asyncio
import time

from poller.stores.postgres.connection import Connection

SLOWEST_S = 12.0  # no transaction of a daemon takes longer; another program's is not waited for
LOOKS = 10
PAUSE_S = 0.02

_LOOK = (
    "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint, "
    "(SELECT coalesce(max(id), 0) FROM deliveries) FROM pg_current_snapshot() s"
)


class Horizon:
    """One for a store; it only moves forward."""

    def __init__(self) -> None:
        self._complete = 0
        self._newest = 0  # complete once all transactions below `_ended_by` have ended
        self._ended_by = 0
        self._since = 0.0

    async def reach(self, connection: Connection, after: int) -> int:
        """The id up to which all is there, looked at for a fraction of a second while it is not above `after`."""
        for _ in range(LOOKS):
            newest = await self._look(connection)
            if newest <= after or self._complete > after:
                break
            await asyncio.sleep(PAUSE_S)
        return self._complete

    async def _look(self, connection: Connection) -> int:
        [(oldest, following, newest)] = await connection.fetch(_LOOK)
        now = time.monotonic()
        has_failed_over = following < self._ended_by  # then all that was under way there has ended
        if oldest >= self._ended_by or has_failed_over or now - self._since > SLOWEST_S:
            self._complete = max(self._complete, self._newest)
            self._newest, self._ended_by, self._since = newest, following, now
            if oldest == following:
                self._complete = max(self._complete, newest)
        return int(newest)
