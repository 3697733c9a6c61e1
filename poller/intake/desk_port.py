"""What the intake needs of the daemon: the desk where orders are handed in and asked after."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from poller.core.delivery import DeliveryState
from poller.core.orders import NewOrder, Order, OrderKey, Prompt, State
from poller.lookout import Summary
from poller.ports import Delivery, HistoryEntry, Submitted


class Desk(Protocol):
    """Every `async` call may raise StoreUnavailableError; nothing of the call was kept then.

    Calls that name an order or a notice raise UnknownOrderError where there is none, unless they say else.
    """

    @property
    def park_uuids(self) -> Sequence[str]:
        """The configured lots."""

    async def submit(self, orders: Sequence[NewOrder]) -> list[Submitted]:
        """Take orders on, durable; one answer each, in order."""

    async def order(self, key: OrderKey) -> Order:
        """One order as it stands."""

    async def wait(self, key: OrderKey, seconds: float) -> Order:
        """The order as soon as it is final, or as it stands after `seconds`. May be cancelled."""

    async def orders(
        self, state: State | None, park_uuid: str | None, limit: int, before: int | None
    ) -> list[Order]:
        """At most `limit` orders, newest first, with ids below `before`."""

    async def poll(self, key: OrderKey, prompt: Prompt = Prompt.REQUEST) -> Order:
        """Ask now, whatever the state. Raises NotAllowedError."""

    async def cancel(self, key: OrderKey) -> Order:
        """Stop asking. Raises NotAllowedError."""

    async def reopen(self, key: OrderKey) -> Order:
        """Ask again after `rejected`, `expired` or `cancelled`. Raises NotAllowedError."""

    async def history(self, key: OrderKey) -> list[HistoryEntry]:
        """The order's queries, oldest first."""

    async def deliveries(
        self,
        state: DeliveryState | None,
        key: OrderKey | None,
        limit: int,
        before: int | None,
        after: int | None,
    ) -> list[Delivery]:
        """Deliveries with ids below `before` newest first or, with `after`, above it and oldest first."""

    async def delivery(self, event_id: str) -> Delivery | None:
        """One delivery; None where there is no such notice."""

    async def redeliver(self, event_id: str) -> Delivery:
        """Send a notice again. Raises NotAllowedError while it is under way."""

    @property
    def webhook(self) -> bool:
        """Whether one is configured, so that a notice can be sent."""

    async def summary(self) -> Summary:
        """What a person needs to see at a glance."""

    async def next_notice(self, after: int, wait: float) -> None:
        """Return when a notice with an id above `after` may exist, or after `wait` seconds. May be cancelled."""

    def document(self, order: Order) -> dict[str, object]:
        """The order as its users read it."""

    def reason(self, order: Order) -> str:
        """Why the next query is when it is, or why there is none, in a word that stays the same."""

    def why(self, order: Order) -> str:
        """Its `reason`, in words for people."""

    def wall_at(self, due: float) -> datetime:
        """What the wall clock will show at a schedule time."""

    def health(self) -> dict[str, object]:
        """That the daemon is alive."""

    def readiness(self) -> tuple[bool, dict[str, object]]:
        """Whether orders can be taken on, and the state of the parts."""
