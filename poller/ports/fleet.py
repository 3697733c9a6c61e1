"""The fleet: the daemons that share one store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from poller.core.orders import OrderKey, Prompt
from poller.core.outage import Told
from poller.ports.world import Throttle

LEASE_S = 15.0  # by default: from a daemon's last sign of life to the others' queries, at most
SHORTEST_LEASE_S, LONGEST_LEASE_S = 6.0, 600.0
CANARY_S = 15.0  # above what a query and its connection take by default


class Lease(Protocol):
    """What says whether this daemon may still act on what it holds."""

    def holds(self) -> bool:
        """Whether nobody else can hold what this daemon holds now. Ask right before each send; it is cheap."""


class Alone:
    """The lease of a daemon that shares its store with nobody."""

    def holds(self) -> bool:
        return True


class Errand(NamedTuple):
    """A wish to have an order asked about, or ended where it is to be cancelled, and what prompted it."""

    key: OrderKey
    prompt: Prompt


class FleetThrottle(Throttle, Protocol):
    """The one rate of the fleet. `acquire` raises StoreUnavailableError where it cannot be known."""

    def set_rate(self, rate: int) -> None:
        """Take another rate, in queries a second."""


class Fleet(Lease, Protocol):
    """This daemon's place among the others. What it calls back, it calls in the loop's thread."""

    def follow(self, advance: Callable[[float, float], None]) -> None:
        """From now on tell, now and then, the greatest running and schedule time of all daemons."""

    def on_lost(self, lost: Callable[[], None]) -> None:
        """From now on tell when this daemon holds nothing of what it held: the others have it."""

    def on_news(self, news: Callable[[], None]) -> None:
        """From now on tell, every few seconds and soon after a hint, that there may be something to take up:
        an order or a delivery that another daemon has given free, or an errand.
        """

    def on_change(self, changed: Callable[[], None]) -> None:
        """From now on tell soon, though not reliably, that another daemon has made notices of orders."""

    def on_replicated(self, replicated: Callable[[bool], None]) -> None:
        """From now on tell whether what is acknowledged is kept by more than one server: soon, and when it
        changes.
        """

    async def hand_over(self, errand: Errand) -> None:
        """Have an errand seen by whoever holds the order. Raises UnknownOrderError and StoreUnavailableError."""

    async def errands(self) -> Sequence[Errand]:
        """Take out those for orders that this daemon or nobody holds. Raises StoreUnavailableError."""

    async def outage(self) -> Told | None:
        """What the fleet knows of an outage. This and the next four raise StoreUnavailableError."""

    async def outage_opened(self, told: Told) -> None:
        """It is down for all, unless the fleet knows so already."""

    async def outage_over(self) -> None:
        """It is up for all."""

    async def take_canary(self, canaries: int) -> bool:
        """Reserve the one canary of the fleet, where so many were answered in vain and none is in the air.

        Nobody else gets it until `canary_failed` or `outage_over` is told, or for `CANARY_S`.
        """

    async def canary_failed(self, told: Told) -> None:
        """It was answered in vain."""

    def throttle(self, account: str, rate: int) -> FleetThrottle:
        """The rate of an account at the platform, in queries a second, for all daemons together."""
