"""What goes into a store and comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from poller.core.delivery import DeliveryState
from poller.core.orders import Answer, NoticeType, Order, OrderKey, Prompt, State


@dataclass(frozen=True, slots=True)
class Stamp:
    """The daemon's times as last written down: see `timeline`."""

    run: float
    schedule: float
    wall: datetime


@dataclass(slots=True)
class Pending:
    """What asking about an order takes, and no more: one of these is in memory for each order due soon.

    It is held by whoever got it from the store, until given back by `give_back` or `note(..., keep=False)`, or
    by a change that ends the order. `opened_run` and `due` are in seconds, as in `Order`. For an order that is
    final already, and is asked once on request, `state` says so.
    """

    id: int
    key: OrderKey
    opened_run: float
    due: float
    errors: int = 0
    state: State = State.PENDING
    cancelling: bool = False
    prompt: Prompt = Prompt.SCHEDULE  # of the next query; not stored
    timed_out: bool = False  # the last query timed out; not stored
    unclear: bool = False  # the last query's answer said nothing of the payment; not stored
    unsettled_until: float | None = None  # its age at the last answer in progress, None if unknown; not stored


class Progress(NamedTuple):
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

    `body` makes the exact text from the changed order. With `tell` the caller wants to log the notice itself at
    once, with `send` to send it, too: see `Recorded`.
    """

    event_id: str
    at: datetime
    run: float
    due: float
    webhook: bool
    body: Callable[[NoticeType, Order], str] = field(repr=False)
    tell: bool = False
    send: bool = False


class Recorded(NamedTuple):
    """The order as a change left it, and what the store hands over of the notice, which it need not.

    `notice` counts as given by `unlogged`: the caller logs it and notes that. `delivery` counts as given by
    `claim_deliveries`. A caller that was cancelled has got neither.
    """

    order: Order
    notice: Notice | None = None
    delivery: Delivery | None = None


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
