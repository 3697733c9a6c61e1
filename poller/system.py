"""The machine's own clock and dice, and the rate to the platform."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime

from asyncio_throttle.throttler import Throttler

# Arrivals at the platform bunch up by what the network and a busy loop delay a query. Sending this much
# slower keeps the rate in every one-second window on their side as well.
MARGIN = 0.05
SMOOTHING = 0.05  # the part of a second's quota that may go out at once


class SystemClock:
    """`ports.Clock` over the operating system."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> datetime:
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)  # as it is kept and told

    def jitter(self) -> float:
        return random.random()  # noqa: S311 - spreads load, guards nothing

    def new_event_id(self) -> str:
        # Unique, though not hard to guess; those made one after the other lie together in an index, as in UUIDv7.
        return f"evt_{time.time_ns():016x}{random.getrandbits(64):016x}"


class RateThrottle:
    """`ports.Throttle`: at most `rate` (whole, >= 1) acquisitions in any one second, spread evenly.

    It starts with its first quota used up: the second before the start may belong to a predecessor that
    was killed.
    """

    def __init__(self, rate: int) -> None:
        self._throttler = _smooth_throttler(rate)
        self._primed = False
        self._pause = 0.0
        self._one_at_a_time = asyncio.Lock()

    def set_rate(self, rate: int) -> None:
        """Change the rate. A second's pause keeps what went out at the old one from counting against the new."""
        self._throttler = _smooth_throttler(rate)
        self._primed = False
        self._pause = 1.0

    async def acquire(self) -> None:
        async with self._one_at_a_time:  # many who poll the throttler cost a core
            if not self._primed:
                await asyncio.sleep(self._pause)
                self._primed = True
                for _ in range(self._throttler.rate_limit):
                    await self._throttler.acquire()
            await self._throttler.acquire()


def _smooth_throttler(rate: int) -> Throttler:
    # Whatever the phase, a window of one second meets at most rate - k + 1 quotas' worth of time and one
    # quota more: k + (rate - k) = rate.
    quota = max(1, int(rate * SMOOTHING))
    return Throttler(quota, quota * (1 + MARGIN) / (rate - quota + 1), retry_interval=0.001)
