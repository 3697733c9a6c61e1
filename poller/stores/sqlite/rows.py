"""Between the domain's values and what a row holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from poller.core.delivery import DeliveryState
from poller.core.orders import Answer, NoticeType, Order, OrderKey, Prompt, State
from poller.core.replies import Payment
from poller.ports import Delivery, HistoryEntry, Notice, Pending

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)

Row = tuple[Any, ...]

ANSWER = "h.last_at, h.code, h.message, h.hint, h.seqno, h.status, h.error, h.prompt"
ORDER = (
    "o.id, o.park_uuid, o.pay_partner, o.state, o.metadata, o.accepted_at, o.undecided_at, o.final_at, "
    "o.conflict_at, o.opened_run, o.polls, o.pay_serial, o.pay_origin, o.pay_origin_desc, "
    f"s.due, s.polls, s.errors, s.cancelling, {ANSWER}"
)
PENDING = "s.order_id, o.park_uuid, o.pay_partner, s.opened_run, s.due, s.errors, s.cancelling"
NOTICE = "d.id, d.event_id, d.type, o.park_uuid, o.pay_partner, d.body, d.made_at, d.made_run"
DELIVERY = f"{NOTICE}, d.state, d.attempts, d.due, d.last_error, d.last_status, d.last_at"


def to_ms(at: datetime) -> int:
    """Whole milliseconds since 1970, cut off."""
    return (at - EPOCH) // MILLISECOND


def from_ms(ms: int) -> datetime:
    """Aware, in UTC."""
    return EPOCH + ms * MILLISECOND


def whole_ms(at: datetime) -> datetime:
    """The time as it is kept."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def maybe_ms(at: datetime | None) -> int | None:
    """As `to_ms`; None stays None."""
    return None if at is None else to_ms(at)


def maybe_from_ms(ms: int | None) -> datetime | None:
    """As `from_ms`; None stays None."""
    return None if ms is None else from_ms(ms)


def answer_of(row: Row) -> Answer:
    """From the columns `ANSWER`."""
    at, code, message, hint, seqno, status, error, prompt = row
    return Answer(from_ms(at), code, message, hint, seqno, status, error, Prompt(prompt))


def order_of(row: Row) -> Order:
    """From the columns `ORDER`; those of the schedule are null for a final order."""
    pending = row[14] is not None
    return Order(
        id=row[0],
        key=OrderKey(row[1], row[2]),
        state=State(row[3]),
        metadata=json.loads(row[4]),
        accepted_at=from_ms(row[5]),
        opened_run=row[9],
        due=row[14],
        polls=row[15] if pending else row[10],
        errors=row[16] if pending else 0,
        cancelling=bool(row[17]),
        last_answer=None if row[18] is None else answer_of(row[18:]),
        undecided_at=maybe_from_ms(row[6]),
        final_at=maybe_from_ms(row[7]),
        conflict_at=maybe_from_ms(row[8]),
        payment=Payment(row[11], row[12], row[13]),
    )


def pending_of(row: Row) -> Pending:
    """From the columns `PENDING`."""
    return Pending(row[0], OrderKey(row[1], row[2]), row[3], row[4], row[5], cancelling=bool(row[6]))


def entry_of(row: Row) -> HistoryEntry:
    """From `h.count, h.first_at` and the columns `ANSWER`."""
    return HistoryEntry(row[0], from_ms(row[1]), answer_of(row[2:]))


def notice_of(row: Row) -> Notice:
    """From the columns `NOTICE`."""
    return Notice(row[0], row[1], NoticeType(row[2]), OrderKey(row[3], row[4]), row[5], from_ms(row[6]), row[7])


def delivery_of(row: Row) -> Delivery:
    """From the columns `DELIVERY`."""
    return Delivery(
        notice_of(row),
        DeliveryState(row[8]),
        attempts=row[9],
        due=row[10],
        last_error=row[11],
        last_status=row[12],
        last_at=maybe_from_ms(row[13]),
    )
