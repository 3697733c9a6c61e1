"""Time, the rate, the platform and the webhook."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from poller.core.delivery import ReceiverAnswer
from poller.core.orders import OrderKey
from poller.core.replies import Result


class Clock(Protocol):
    """Time and chance. Sleeping is asyncio's, whose loop runs on the same monotonic time."""

    def monotonic(self) -> float:
        """Seconds that only grow, whatever happens to the wall clock."""

    def wall(self) -> datetime:
        """The wall clock, aware, in UTC. It may be wrong by years and may jump; no rule depends on it."""

    def jitter(self) -> float:
        """A random number in [0, 1)."""

    def new_event_id(self) -> str:
        """A fresh, globally unique id for a notice."""


class Throttle(Protocol):
    async def acquire(self) -> None:
        """Wait for the next place in the rate to the platform."""


class Platform(Protocol):
    """The payment platform."""

    def knows(self, park_uuid: str) -> bool:
        """Whether the lot is configured, so that its orders can be asked about."""

    async def query(self, key: OrderKey) -> Result:
        """Ask once. Every reply and every expected failure is a Result; bounded in time and memory.

        Call it only for a lot that the platform `knows`.
        """


class Receiver(Protocol):
    """The lot's own webhook."""

    async def send(self, event_id: str, body: str) -> ReceiverAnswer:
        """Send one notice once, signed. Every expected failure is an answer; bounded in time and memory."""
