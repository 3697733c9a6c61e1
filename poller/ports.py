"""What the loops need of the world, in the domain's words. The docstrings are the contract.

A call that meets a fault the caller must know about raises the error named here; anything else that is
raised is a defect and ends the process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from poller.core.delivery import DeliveryState, ReceiverAnswer
from poller.core.orders import Answer, Change, NewOrder, NoticeType, Order, OrderKey, State
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


class StoreUnavailableError(Exception):
    """The store could not write or read now (full disk, I/O error, …). Nothing of the call was kept.

    The message says what happened and what to do about it. The call may be repeated.
    """


class StoreTooNewError(Exception):
    """The store was written by a newer version; it was not touched."""


class StoreHeldError(Exception):
    """Another process holds the store. The message names its pid."""


class StoreCorruptError(Exception):
    """The file is not a usable store. The message says what to do."""


class UnknownOrderError(Exception):
    """There is no such order or notice."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """The daemon's times as last written down: see `timeline`."""

    run: float
    schedule: float
    wall: datetime


@dataclass(slots=True)
class Pending:
    """What asking about an order takes, and no more: one of these is in memory for each order due soon.

    It is held by whoever got it from the store, until given back by `note(..., keep=False)` or by a change
    that ends the order. `opened_run` and `due` are in seconds, as in `Order`. For an order that is final
    already, and is asked once on request, `state` says so.
    """

    id: int
    key: OrderKey
    opened_run: float
    due: float
    errors: int = 0
    state: State = State.PENDING
    cancelling: bool = False
    timed_out: bool = False  # the last query timed out; not stored
    unclear: bool = False  # the last query's answer said nothing of the payment; not stored


@dataclass(frozen=True, slots=True)
class Progress:
    """One query that ended nothing. `due` is the schedule's time of the next one, None for a final order.

    `answer` is None where the order was only put off without being asked about. `keep` says whether the
    caller goes on holding the order.
    """

    id: int
    answer: Answer | None
    due: float | None
    errors: int
    keep: bool = True


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """Equal answers in a row: `answer` is the last of them."""

    count: int
    first_at: datetime
    answer: Answer


@dataclass(frozen=True, slots=True)
class Accepted:
    order: Order
    pending: Pending


@dataclass(frozen=True, slots=True)
class Known:
    order: Order


@dataclass(frozen=True, slots=True)
class Differs:
    """The number is known with other metadata."""

    order: Order


Submitted = Accepted | Known | Differs


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice in the outbox. `id` grows in the order of making; `body` is the exact text that is sent."""

    id: int
    event_id: str
    type: NoticeType
    key: OrderKey
    body: str
    made_at: datetime
    made_run: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far a notice has come. `due` is in schedule seconds, None unless pending."""

    notice: Notice
    state: DeliveryState
    attempts: int = 0
    due: float | None = None
    last_error: str | None = None
    last_status: int | None = None
    last_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Making:
    """What the store needs to write the notice of a change: its id, its time, and whether a webhook wants it.

    `body` makes the exact text from the changed order.
    """

    event_id: str
    at: datetime
    run: float
    due: float
    webhook: bool
    body: Callable[[NoticeType, Order], str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """The outcome of one try at a delivery. `due` is None unless `state` is pending."""

    id: int
    state: DeliveryState
    at: datetime
    due: float | None = None
    error: str | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is: of `pending` orders the gate was told of `undecided` that nothing is known yet.

    `undelivered` notices are to be sent, or sent again; `dead` ones were given up on. The oldest of the pending
    orders and of the undelivered notices are told in seconds of running time, None where there is none.
    """

    pending: int
    undecided: int
    undelivered: int
    dead: int
    oldest_opened_run: float | None
    oldest_made_run: float | None


class Store(Protocol):
    """The durable queue. Every `async` call below is one transaction; a cancelled caller changes nothing of it.

    "Durable" means on disk, through a power cut, before the call returns. Reads see everything that was
    written before them, `note` included; answers come in the order of the transactions. All raise
    StoreUnavailableError.
    """

    async def submit(self, orders: Sequence[NewOrder], at: datetime, run: float, due: float) -> list[Submitted]:
        """Take orders on, durable; one answer each, in order. A number known already is never taken on twice.

        Metadata is compared as JSON. The caller holds each accepted order.
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

    async def hold(self, key: OrderKey) -> Pending:
        """Give one order in whatever state it is, to ask about it now, and hold it if it is pending.

        The caller may hold it already. Raises UnknownOrderError.
        """

    def note(self, progress: Progress) -> None:
        """Write a query down, behind: soon, in batches, not durable. A crash may lose it. Never raises."""

    async def change(self, key: OrderKey, change: Callable[[Order], Change | None], making: Making) -> Order:
        """Load an order, apply a pure transition, and write the outcome with its notice, durable, in one go.

        What `change` raises passes through and nothing is written; None writes nothing. Returns the order
        as it stands afterwards. Raises UnknownOrderError.
        """

    async def undecided(self, opened_by: float, limit: int) -> list[OrderKey]:
        """Pending orders opened by that running time of which the gate has not been told, oldest first."""

    async def oldest_untold(self) -> float | None:
        """The smallest `opened_run` of the pending orders of which the gate has not been told."""

    async def unlogged(self, limit: int) -> list[Notice]:
        """Notices that may not have reached the log yet, oldest first."""

    def note_logged(self, ids: Sequence[int]) -> None:
        """Write behind, not durable, that notices have been logged."""

    async def claim_deliveries(self, by: float, limit: int, *, freshest: bool = False) -> list[Delivery]:
        """Hold at most `limit` pending deliveries due by `by` that nobody holds.

        Only the oldest pending notice of an order is eligible, and none while another of that order is held.
        The longest due come first or, with `freshest`, those that fell due last, of equals the newest.
        """

    async def bring_deliveries_forward(self, due: float, limit: int, before: int | None = None) -> int | None:
        """Make pending deliveries that nobody holds and that are due later due then; not durable.

        At most `limit`, the newest first, with ids below `before`. Returns the `before` to go on with, None
        at the end.
        """

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
