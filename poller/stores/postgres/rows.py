"""Between the domain's values and what a row holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from poller.core.delivery import DeliveryState
from poller.core.orders import Answer, NoticeType, Order, OrderKey, Prompt, State
from poller.core.replies import Payment
from poller.ports import Delivery, HistoryEntry, Notice, Pending

Row = Sequence[Any]

NO_ID = 2**63 - 1  # above every id

ANSWER = "h.last_at, h.code, h.message, h.hint, h.seqno, h.status, h.error, h.prompt"
ENTRY = f"h.count, h.first_at, {ANSWER}"
ORDER = (
    "o.id, o.park_uuid, o.pay_partner, o.state, o.metadata, o.accepted_at, o.undecided_at, o.final_at, "
    "o.conflict_at, o.opened_run, o.polls, o.pay_serial, o.pay_origin, o.pay_origin_desc, "
    f"s.due, s.polls, s.errors, s.cancelling, {ANSWER}"
)
ORDER_WIDTH = 26
PENDING = "o.park_uuid, o.pay_partner, s.order_id, s.opened_run, s.due, s.errors, s.cancelling"
NOTICE = "d.id, d.event_id, d.type, o.park_uuid, o.pay_partner, d.body, d.made_at, d.made_run"
DELIVERY = f"{NOTICE}, d.state, d.attempts, d.due, d.last_error, d.last_status, d.last_at"


def cut(at: datetime) -> datetime:
    """To whole milliseconds, as they are kept."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def maybe_cut(at: datetime | None) -> datetime | None:
    """As `cut`; None stays None."""
    return None if at is None else cut(at)


def storable(text: str | None) -> str | None:
    """As PostgreSQL can keep it: it has no NUL and no half of a surrogate pair."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")


def kept_answer(answer: Answer) -> Answer:
    """An answer as it will be read back."""
    return answer._replace(
        at=cut(answer.at),
        code=storable(answer.code),
        message=storable(answer.message),
        hint=storable(answer.hint),
        seqno=storable(answer.seqno),
        status=storable(answer.status),
        error=storable(answer.error),
    )


def columns(rows: Iterable[Sequence[object]], width: int) -> list[list[object]]:
    """Rows as the arrays that `unnest` takes."""
    arrays: list[list[object]] = [list(column) for column in zip(*rows, strict=True)]
    return arrays or [[] for _ in range(width)]


def answer_of(row: Row) -> Answer:
    """From the columns `ANSWER`."""
    at, code, message, hint, seqno, status, error, prompt = row
    return Answer(at, code, message, hint, seqno, status, error, Prompt(prompt))


def entry_of(row: Row) -> HistoryEntry:
    """From the columns `ENTRY`."""
    return HistoryEntry(row[0], row[1], answer_of(row[2:]))


def order_of(row: Row) -> Order:
    """From the columns `ORDER`; those of the schedule are null for a final order."""
    pending = row[14] is not None
    return Order(
        id=row[0],
        key=OrderKey(row[1], row[2]),
        state=State(row[3]),
        metadata=json.loads(row[4]),
        accepted_at=row[5],
        opened_run=row[9],
        due=row[14],
        polls=row[15] if pending else row[10],
        errors=row[16] if pending else 0,
        cancelling=bool(row[17]),
        last_answer=None if row[18] is None else answer_of(row[18:ORDER_WIDTH]),
        undecided_at=row[6],
        final_at=row[7],
        conflict_at=row[8],
        payment=Payment(row[11], row[12], row[13]),
    )


def kept_order(order: Order) -> Order:
    """An order as it will be read back."""
    pending = order.state is State.PENDING
    payment = order.payment
    return order._replace(
        due=order.due if pending else None,
        errors=order.errors if pending else 0,
        cancelling=order.cancelling and pending,
        last_answer=None if order.last_answer is None else kept_answer(order.last_answer),
        undecided_at=maybe_cut(order.undecided_at),
        final_at=maybe_cut(order.final_at),
        conflict_at=maybe_cut(order.conflict_at),
        payment=Payment(storable(payment.serial), storable(payment.origin), storable(payment.origin_desc)),
    )


def pending_of(row: Row) -> Pending:
    """From the columns `PENDING`."""
    return Pending(row[2], OrderKey(row[0], row[1]), row[3], row[4], row[5], cancelling=row[6])


def notice_of(row: Row) -> Notice:
    """From the columns `NOTICE`."""
    return Notice(row[0], row[1], NoticeType(row[2]), OrderKey(row[3], row[4]), row[5], row[6], row[7])


def delivery_of(row: Row) -> Delivery:
    """From the columns `DELIVERY`."""
    return Delivery(notice_of(row[:8]), DeliveryState(row[8]), *row[9:])
