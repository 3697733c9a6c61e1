"""Waiting for something to have happened."""

from __future__ import annotations

import asyncio
import contextlib

LONGEST_WAIT_S = 10.0  # every wait ends by then: loops show that they go on, whether there is work or not


class Bell:
    """Wakes whoever waits for something to have happened; rings are never missed and may be false."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait, and end the wait of the next who comes."""
        self._rung.set()

    async def wait(self, seconds: float | None) -> None:
        """Return at a ring since the last wait, or after so many seconds, LONGEST_WAIT_S at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LONGEST_WAIT_S if seconds is None else min(seconds, LONGEST_WAIT_S)):
                await self._rung.wait()
        self._rung.clear()
