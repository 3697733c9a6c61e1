"""Orders and notices as the JSON documents that the daemon's users read (README, "An order")."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from poller.core.orders import Answer, NoticeType, Order

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def timestamp(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return f"{at.isoformat(timespec='milliseconds')[:-6]}Z"


def answer_document(answer: Answer) -> dict[str, object]:
    """An answer with every key; `error` is null where there was a usable reply."""
    return {
        "at": timestamp(answer.at),
        "code": answer.code,
        "message": answer.message,
        "hint": answer.hint,
        "seqno": answer.seqno,
        "status": answer.status,
        "error": answer.error,
    }


def order_document(order: Order, next_poll_at: datetime | None) -> dict[str, object]:
    """An order with every key; what has nothing to say is null. `next_poll_at` is for a pending order."""
    return {
        "park_uuid": order.key.park_uuid,
        "pay_partner": order.key.pay_partner,
        "state": order.state.value,
        "metadata": dict(order.metadata),
        "accepted_at": timestamp(order.accepted_at),
        "polls": order.polls,
        "next_poll_at": timestamp(next_poll_at) if next_poll_at else None,
        "last_reply": answer_document(order.last_answer) if order.last_answer else None,
        "undecided_at": timestamp(order.undecided_at) if order.undecided_at else None,
        "final_at": timestamp(order.final_at) if order.final_at else None,
        "pay_serial": order.payment.serial,
        "pay_origin": order.payment.origin,
        "pay_origin_desc": order.payment.origin_desc,
    }


def notice_body(kind: NoticeType, order: Order, at: datetime, next_poll_at: datetime | None) -> str:
    """The exact text of a notice. `late` says that `payment.undecided` went before."""
    late = order.undecided_at is not None and kind is not NoticeType.UNDECIDED
    data = {**order_document(order, next_poll_at), "late": late}
    return compact_json({"type": kind.value, "timestamp": timestamp(at), "data": data})


def compact_json(document: Mapping[str, object]) -> str:
    """JSON without white space, not escaped beyond need: its UTF-8 length is what limits are stated in."""
    return _encode(document)


def same_json(one: object, other: object) -> bool:
    """Equality as JSON has it: key order does not matter, 1 equals 1.0, and true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    return one == other
