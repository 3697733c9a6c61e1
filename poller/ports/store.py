"""The durable queue of orders, and the outbox of their notices."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from poller.core.delivery import DeliveryState
from poller.core.orders import Change, NewOrder, Order, OrderKey, State
from poller.ports.values import (
    Attempt,
    Counts,
    Delivery,
    HistoryEntry,
    Making,
    Notice,
    Pending,
    Progress,
    Recorded,
    Submitted,
)


class Store(Protocol):
    """The durable queue. Every `async` call below is one transaction; a cancelled caller changes nothing of it.

    "Durable" means on disk, through a power cut, before the call returns. Reads see everything that was
    written before them, `note` included; answers come in the order of the transactions. All raise
    StoreUnavailableError.
    """

    async def submit(self, orders: Sequence[NewOrder], at: datetime, run: float, due: float) -> list[Submitted]:
        """Take orders on, durable; one answer each, in order. A number known already is never taken on twice.

        Metadata is compared as JSON. The caller holds each accepted order, which was opened at `run` and is first
        due at `due`, in seconds, as in `Order`.
        """

    async def get(self, key: OrderKey) -> Order | None:
        """One order with its last answer."""

    async def orders(
        self, state: State | None, park_uuid: str | None, limit: int, before: int | None
    ) -> list[Order]:
        """At most `limit` orders, newest first, with ids below `before`."""

    async def history(self, key: OrderKey) -> list[HistoryEntry]:
        """The queries of an order, oldest first. Empty for an unknown order or one whose history has gone."""

    async def claim(self, by: float, limit: int, *, freshest: bool = False) -> list[Pending]:
        """Hold at most `limit` pending orders that nobody holds and that are due by `by`.

        The longest overdue come first, or the youngest with `freshest`, which may look at the youngest
        few thousand only.
        """

    async def claim_of_lots(self, by: float, wanted: Mapping[str, int]) -> list[Pending]:
        """As `claim`, of each lot that is named at most so many, its youngest first.

        It may look at some thousands of a lot's youngest only, and at fewer where many lots are named.
        """

    async def hold(self, key: OrderKey) -> Pending:
        """Give one order in whatever state it is, to ask about it now, and hold it if it is pending.

        The caller may hold it already. Raises UnknownOrderError.
        """

    def note(self, progress: Progress) -> None:
        """Write a query down, behind: soon, in batches, not durable. A crash may lose it. Never raises."""

    def give_back(self, orders: Iterable[Pending]) -> None:
        """Hold these no more, without a query: each still has the `due` that the store gave it. Never raises."""

    async def change(self, key: OrderKey, change: Callable[[Order], Change | None], making: Making) -> Recorded:
        """Load an order, apply a pure transition, and write the outcome with its notice, durable, in one go.

        What `change` raises passes through and nothing is written; None writes nothing. Raises
        UnknownOrderError.
        """

    async def undecided(self, opened_by: float, limit: int) -> list[OrderKey]:
        """Pending orders opened by that running time of which the gate has not been told, oldest first."""

    async def oldest_untold(self) -> float | None:
        """The smallest `opened_run` of the pending orders of which the gate has not been told."""

    async def unlogged(self, limit: int) -> list[Notice]:
        """Notices that may not have reached the log yet, oldest first; none that a `change` has handed over."""

    def note_logged(self, ids: Sequence[int]) -> None:
        """Write behind, not durable, that notices have been logged."""

    async def claim_deliveries(self, by: float, limit: int, *, freshest: bool = False) -> list[Delivery]:
        """Hold at most `limit` pending deliveries due by `by` that nobody holds.

        Only the oldest pending notice of an order is eligible, and none while another of that order is held.
        The longest due come first or, with `freshest`, those that fell due last, of equals the newest.
        """

    def give_back_deliveries(self, ids: Sequence[int]) -> None:
        """Hold these no more, without a try. Never raises."""

    async def bring_deliveries_forward(self, due: float, limit: int, before: int | None = None) -> int | None:
        """Make pending deliveries that nobody holds and that are due later due then; not durable.

        At most `limit`, the newest first, with ids below `before`. Returns the `before` to go on with, None
        at the end.
        """

    def undelivered(self) -> int | None:
        """How many notices are to be sent, held ones included; None where only a look would tell."""

    async def next_delivery(self) -> float | None:
        """When the next delivery that `claim_deliveries` would give is due, in schedule seconds."""

    async def record_attempt(self, attempt: Attempt) -> None:
        """Write down one try and give the delivery back; durable where it ended as delivered or dead."""

    async def deliveries(
        self,
        state: DeliveryState | None,
        key: OrderKey | None,
        limit: int,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Delivery]:
        """Deliveries with ids below `before` newest first or, with `after`, above it and oldest first."""

    async def delivery(self, event_id: str) -> Delivery | None:
        """One delivery."""

    async def redeliver(self, event_id: str, run: float, due: float) -> Delivery:
        """Make a delivery that is not under way pending again, due then, its age counting from `run`; durable.

        Raises UnknownOrderError.
        """

    async def prune(self, ended_by: float, limit: int) -> int:
        """Let go of what is no longer needed of final orders that ended by that running time; not durable.

        Of at most `limit` of them, the longest ended first, the history goes, and the notices that were
        delivered or are for the log alone and have reached it; pending and dead ones never. The order itself
        stays: its number, metadata, outcome and count of queries. Returns how many orders that were; each is
        done once, so 0 says that there are no more.
        """

    async def counts(self) -> Counts:
        """How much there is; as quick with a million orders as with one."""

    async def flush(self) -> None:
        """Return once everything noted so far has been written."""

    async def close(self) -> None:
        """Write everything down and give the store free for the next daemon; bounded in time.

        Raises StoreUnavailableError where that cannot be done, in time or at all.
        """
