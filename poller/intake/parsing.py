"""What comes in, read and checked: bodies, paths and query strings. Pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from poller.core.documents import compact_json
from poller.core.orders import NewOrder, OrderKey
from poller.intake.problems import FieldError, Problem, shown, unknown_order, wrong_fields

PAY_PARTNER_CHARS = 128
METADATA_BYTES = 2048
METADATA_DEPTH = 32
BATCH_ORDERS = 1000
PAGE_DEFAULT = 100
PAGE_MOST = 1000
WAIT_MOST_S = 60.0

_ORDER_KEYS = frozenset({"pay_partner", "park_uuid", "metadata"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # Unicode category Cc
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_SECONDS = re.compile(r"[0-9]{1,400}(?:\.[0-9]{0,400})?(?:[eE][+-]?[0-9]{1,9})?", re.ASCII)
_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)
_CURSOR = re.compile(r"-?[0-9]{1,18}", re.ASCII)  # below 0 are those that were moved in from another store

E = TypeVar("E", bound=StrEnum)


def parse_json(body: bytes) -> object:
    """A JSON text as RFC 8259 has it, in UTF-8, without duplicate names. Raises Problem 400."""
    try:
        return _decoder.decode(body.decode())
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not UTF-8 (byte {error.start}); send JSON in UTF-8") from None
    except RecursionError:
        raise Problem(400, "the JSON is nested too deep to be read") from None
    except ValueError as error:  # also a whole number of thousands of digits
        where = "" if body.strip() else " (it is empty)"
        raise Problem(400, f"the body is not JSON{where}: {shown(str(error))}") from None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise Problem(400, f"the JSON has {shown(twice)!r} twice in one object; send it once")
    return found


def _no_constant(name: str) -> object:
    raise Problem(400, f"{name} is not JSON; send a number or null")


_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def parse_order(document: object, park_uuids: Sequence[str]) -> NewOrder:
    """One order as it is handed in. Raises Problem 422, which names every field that is wrong."""
    if not isinstance(document, dict):
        raise Problem(422, 'an order is a JSON object, as in {"pay_partner": "…"}')
    errors: list[FieldError] = []
    for name in document.keys() - _ORDER_KEYS:
        text = f"{shown(name)!r} is not a key of an order; leave it out, or put it into metadata"
        errors.append(FieldError(_pointer(name), text))
    pay_partner = document.get("pay_partner")
    wrong = pay_partner_fault(pay_partner)
    if wrong:
        errors.append(FieldError("#/pay_partner", f"pay_partner {wrong}"))
    park_uuid = _park_uuid(document, park_uuids, errors)
    metadata = document.get("metadata")
    if metadata is None:
        metadata = {}
    wrong = _metadata_fault(metadata)
    if wrong:
        errors.append(FieldError("#/metadata", f"metadata {wrong}"))
    if errors or not isinstance(pay_partner, str):
        raise wrong_fields(errors)
    return NewOrder(OrderKey(park_uuid, pay_partner), metadata)


def pay_partner_fault(value: object) -> str | None:
    """What is wrong with an order's number, in words that follow its name."""
    if not isinstance(value, str):
        return "is missing; it is the lot's number of the order" if value is None else "must be a string"
    if not 1 <= len(value) <= PAY_PARTNER_CHARS:
        return f"has {len(value)} characters; it must have 1 to {PAY_PARTNER_CHARS}"
    if not value.isprintable():  # what is has neither, and is told sooner
        if _SURROGATE.search(value):
            return "is not valid Unicode: half of a surrogate pair stands alone"
        if _CONTROL.search(value):
            return "must not have control characters"
    if value in {".", ".."}:
        return "must not be . or .., which no path can hold"
    return None


def _park_uuid(document: Mapping[str, object], park_uuids: Sequence[str], errors: list[FieldError]) -> str:
    if "park_uuid" not in document:
        if len(park_uuids) == 1:
            return park_uuids[0]
        errors.append(
            FieldError("#/park_uuid", "park_uuid is missing; it may be left out where one lot is set up")
        )
        return ""
    value = document["park_uuid"]
    if not isinstance(value, str):
        errors.append(FieldError("#/park_uuid", "park_uuid must be a string"))
        return ""
    if value not in park_uuids:
        text = f"park_uuid {shown(value)!r} is not a lot of this daemon; add it under [[parks]]"
        errors.append(FieldError("#/park_uuid", text))
    return value


def _metadata_fault(value: object) -> str | None:
    if not isinstance(value, dict):
        return "must be a JSON object"
    if not value:
        return None
    if _too_deep(value):
        return f"is nested deeper than {METADATA_DEPTH} levels"
    try:
        size = len(compact_json(value).encode())
    except UnicodeEncodeError:
        return "is not valid Unicode: half of a surrogate pair stands alone"
    except ValueError:
        return "has a number beyond what a computer holds"
    if size > METADATA_BYTES:
        return f"takes {size} bytes as compact JSON; at most {METADATA_BYTES} are kept"
    return None


def _too_deep(value: object) -> bool:
    level = [value]
    for _ in range(METADATA_DEPTH):
        level = [child for one in level for child in _children(one)]
        if not level:
            return False
    return any(isinstance(one, dict | list) for one in level)


def _children(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _pointer(name: str) -> str:
    return "#/" + shown(name).replace("~", "~0").replace("/", "~1")


def order_key(raw_path: str) -> OrderKey:
    """The order of `/v1/orders/{park_uuid}/{pay_partner}…`, each one percent-encoded segment.

    Raises Problem 400 where a segment is not UTF-8, 404 where no order can have such a number.
    """
    park_uuid, pay_partner = (_unquoted(segment) for segment in raw_path.split("/")[3:5])
    if _CONTROL.search(park_uuid) or pay_partner_fault(pay_partner):
        raise unknown_order()
    return OrderKey(park_uuid, pay_partner)


def _unquoted(segment: str) -> str:
    try:
        return unquote_to_bytes(segment.encode("utf-8", "surrogateescape")).decode()
    except UnicodeDecodeError:
        raise Problem(400, "the path is not percent-encoded UTF-8") from None


def parse_state(query: Mapping[str, str], states: type[E]) -> E | None:
    """`state=`; absent or empty means any."""
    text = query.get("state")
    if not text:
        return None
    try:
        return states(text)
    except ValueError:
        known = ", ".join(states)
        raise _wrong_query("state", f"must be one of {known}") from None


def parse_text(query: Mapping[str, str], name: str) -> str | None:
    """A text to filter by; absent or empty means any."""
    text = query.get(name)
    if text and (_CONTROL.search(text) or _SURROGATE.search(text)):
        raise _wrong_query(name, "must be text without control characters")
    return text or None


def parse_limit(query: Mapping[str, str]) -> int:
    """`limit=`: how many on a page."""
    text = query.get("limit")
    if not text:
        return PAGE_DEFAULT
    limit = int(text) if _WHOLE.fullmatch(text) else 0
    if not 1 <= limit <= PAGE_MOST:
        raise _wrong_query("limit", f"must be a whole number from 1 to {PAGE_MOST}")
    return limit


def parse_cursor(query: Mapping[str, str]) -> int | None:
    """`after=`: where the page before ended."""
    text = query.get("after")
    if not text:
        return None
    if not _CURSOR.fullmatch(text):
        raise _wrong_query("after", 'must be the "next" of the page before')
    return int(text)


def parse_wait(query: Mapping[str, str]) -> float:
    """`wait=`: seconds; more than 60 counts as 60, absent as 0."""
    text = query.get("wait")
    if not text:
        return 0.0
    if not _SECONDS.fullmatch(text):
        raise _wrong_query("wait", f"must be a number of seconds from 0 to {WAIT_MOST_S:g}")
    return min(float(text), WAIT_MOST_S)


def _wrong_query(name: str, what: str) -> Problem:
    return Problem(422, f"the query parameter {name} {what}")


def parse_callback(document: object) -> tuple[str | None, str]:
    """The lot (None where it is not named) and the order's number of a payment-result callback.

    `parking_order` equals `pay_partner` (parking/api/payment-notify); all else in it is left alone.
    """
    if not isinstance(document, dict):
        raise Problem(422, "send the callback as the lot received it, a JSON object")
    number = document.get("parking_order")
    if isinstance(number, int) and not isinstance(number, bool):
        number = str(number)  # the platform's samples have numbers where its tables say string
    wrong = pay_partner_fault(number)
    if wrong or not isinstance(number, str):
        raise wrong_fields([FieldError("#/parking_order", f"parking_order {wrong}")])
    park_uuid = document.get("park_uuid")
    if park_uuid is not None and (not isinstance(park_uuid, str) or _SURROGATE.search(park_uuid)):
        raise wrong_fields([FieldError("#/park_uuid", "park_uuid must be a string of valid Unicode")])
    return park_uuid or None, number
