"""An order, its states, and the only transitions there are.

Every transition is a pure function from an order to a `Change`: the order as it is afterwards and the
notice that goes with it. A store applies a `Change` in one transaction, so that an outcome and its notice
exist together or not at all.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from poller.core.replies import Payment


class State(enum.StrEnum):
    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


REOPENABLE = frozenset({State.REJECTED, State.EXPIRED, State.CANCELLED})


class NoticeType(enum.StrEnum):
    PAID = "payment.paid"
    FAILED = "payment.failed"
    REJECTED = "payment.rejected"
    EXPIRED = "payment.expired"
    CANCELLED = "payment.cancelled"
    UNDECIDED = "payment.undecided"
    CONFLICT = "payment.conflict"


class OrderKey(NamedTuple):
    """`pay_partner` is unique within its lot for ever (the platform's payment-status page)."""

    park_uuid: str
    pay_partner: str


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order as the lot hands it in. `metadata` is a JSON object, handed back in every notice."""

    key: OrderKey
    metadata: Mapping[str, object] = field(default_factory=dict)


class Prompt(enum.StrEnum):
    """What made a query go out when it did."""

    SCHEDULE = "schedule"  # the cadence
    REQUEST = "request"  # a person or the lot's software wanted to know
    CALLBACK = "callback"  # the platform's own callback came first, as the lot forwarded it


class Answer(NamedTuple):
    """One query's answer as it is kept: the reply's fields, or `error` where there was no usable one."""

    at: datetime
    code: str | None = None
    message: str | None = None
    hint: str | None = None
    seqno: str | None = None
    status: str | None = None
    error: str | None = None
    prompt: Prompt = Prompt.SCHEDULE

    def same_as(self, other: Answer) -> bool:
        """Equal but for time and `seqno`: such answers in a row are one entry of the history."""
        return (self.prompt, self.code, self.status, self.error, self.message, self.hint) == (
            other.prompt,
            other.code,
            other.status,
            other.error,
            other.message,
            other.hint,
        )


class Order(NamedTuple):
    """One debit order.

    `*_at` are aware wall-clock datetimes, for people. Rules use two other times, both in seconds and both
    immune to the wall clock (see `timeline`): `opened_run`, the daemon's running time when the order was
    taken on or reopened, and `due`, the schedule's time of the next query (None when final).
    `errors` counts answers in a row that said nothing of the payment.
    `cancelling` marks an order whose cancellation waits for a query in the air.
    """

    id: int
    key: OrderKey
    state: State
    metadata: Mapping[str, object]
    accepted_at: datetime
    opened_run: float
    due: float | None = None
    polls: int = 0
    errors: int = 0
    cancelling: bool = False
    last_answer: Answer | None = None
    undecided_at: datetime | None = None
    final_at: datetime | None = None
    conflict_at: datetime | None = None
    payment: Payment = Payment()


@dataclass(frozen=True, slots=True)
class Change:
    """What a transition makes of an order. `notice` is None where nobody needs to be told."""

    order: Order
    notice: NoticeType | None


class NotAllowedError(Exception):
    """The transition does not exist from the order's state. The message says why, for people."""


def end(order: Order, state: State, at: datetime, payment: Payment | None = None) -> Change:
    """Give a pending order its one final state. Raises NotAllowedError where it already has one."""
    if order.state is not State.PENDING:
        raise NotAllowedError(f"the order is already {order.state}")
    if state is State.PENDING:
        raise NotAllowedError("pending is not a final state")
    ended = order._replace(
        state=state,
        due=None,
        errors=0,
        cancelling=False,
        final_at=at,
        payment=payment or Payment(),
    )
    return Change(ended, NoticeType(f"payment.{state}"))


def request_cancel(order: Order) -> Change:
    """Note that a pending order is to be cancelled as soon as its query in the air has ended."""
    if order.state is not State.PENDING:
        raise NotAllowedError(f"the order is already {order.state}")
    return Change(order._replace(cancelling=True), None)


def mark_undecided(order: Order, at: datetime) -> Change | None:
    """Tell the gate, once, that nothing is known yet. None where it was told or the order has ended."""
    if order.state is not State.PENDING or order.undecided_at is not None:
        return None
    return Change(order._replace(undecided_at=at), NoticeType.UNDECIDED)


def contradict(order: Order, paid: bool, at: datetime) -> Change | None:
    """Note that the platform, asked after the end, says paid of an order that is not, or the reverse.

    The state stays as it is. None where there is no contradiction or it was told already.
    """
    if order.state is State.PENDING or (order.state is State.PAID) is paid or order.conflict_at is not None:
        return None
    return Change(order._replace(conflict_at=at), NoticeType.CONFLICT)


def reopen(order: Order, run: float, due: float) -> Change:
    """Ask again after `rejected`, `expired` or `cancelled`; both deadlines start anew at `run`."""
    if order.state is State.PENDING:
        raise NotAllowedError("the order is pending: it is being asked about already")
    if order.state not in REOPENABLE:
        raise NotAllowedError(f"the order is {order.state}, which is the platform's own word and final")
    reopened = order._replace(
        state=State.PENDING,
        opened_run=run,
        due=due,
        undecided_at=None,
        final_at=None,
        conflict_at=None,
        payment=Payment(),
    )
    return Change(reopened, None)
