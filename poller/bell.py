"""Waiting for something to have happened."""

from __future__ import annotations

import asyncio

LONGEST_WAIT_S = 10.0  # every wait ends by then: loops show that they go on, whether there is work or not


class Bell:
    """Wakes who waits for something to have happened: one waits at a time; no ring is missed, one may be false."""

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake the one who waits, or end the wait of the next who comes."""
        self._rung = True
        _wake(self._waiter)

    async def wait(self, seconds: float | None) -> None:
        """Return at a ring since the last wait, or after so many seconds, LONGEST_WAIT_S at most."""
        if not self._rung:
            loop = asyncio.get_running_loop()
            self._waiter = waiter = loop.create_future()
            timer = loop.call_later(
                LONGEST_WAIT_S if seconds is None else min(seconds, LONGEST_WAIT_S), _wake, waiter
            )
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiter = None
        self._rung = False


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
