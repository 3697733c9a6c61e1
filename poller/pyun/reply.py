"""What a reply of the platform says, and how much of it is believed.

Facts are from the platform's payment-status page; its tables give every field as a string, samples of a
sister endpoint (openapi/api/trade-query) carry numbers, so both are taken. Fields not named here are ignored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from poller.core.replies import (
    Cause,
    InProgress,
    Payment,
    Rejected,
    Reply,
    Result,
    Settled,
    Unavailable,
    Unclear,
)
from poller.outgoing import http_date, retry_after_seconds

TEXT_CAP = 200  # characters kept of any text
BUSY_CODES = frozenset({"503", "429"})
BUSY_HTTP = frozenset({429, 502, 503, 504})
LONGEST_INTEGER = 20  # digits; longer ones stay text, since nothing here counts that far
SHORTEST_HIDDEN = 8  # characters; a secret as short as a word would blot out what a reply says
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def parse(
    http_status: int,
    body: bytes,
    retry_after: str | None,
    date: str | None = None,
    *,
    hidden: Sequence[str] = (),
) -> Result:
    """Read one response. Never raises, whatever the bytes.

    `hidden` is what no text of the result may repeat: the platform may echo the query with its `sign`.
    `retry_after` and `date` are the response headers of those names. The body goes before the HTTP status,
    since nowhere is said that the status line repeats `code`; but paid, failed and in progress are believed
    with HTTP 200 alone.
    """
    try:
        document = _one_object(body)
        reply = _reply(document, hidden)
    except (ValueError, RecursionError):
        return without_reply(http_status, "not one JSON object with a code", retry_after, date)
    code = str(document["code"])
    if code == "400":
        return Rejected(reply)
    if code in BUSY_CODES or (http_status in BUSY_HTTP and code != "500"):
        said = f"code {code}" if code in BUSY_CODES else f"HTTP status {http_status}"
        hint = f", {reply.hint}" if reply.hint else ""
        return Unavailable(Cause.BUSY, f"{said}{hint}", reply, _seconds(retry_after, date))
    if code == "1001":
        return _standing(http_status, document, reply, hidden)
    if code == "500":
        return Unclear("code 500: the platform could not process the query", reply)
    return Unclear(f"code {reply.code} is unknown", reply)


def without_reply(http_status: int, why: str, retry_after: str | None, date: str | None = None) -> Result:
    """The result of a response whose body is no reply: the HTTP status is all there is."""
    if http_status in BUSY_HTTP:
        seconds = _seconds(retry_after, date)
        return Unavailable(Cause.BUSY, f"HTTP status {http_status}", retry_after=seconds)
    if 300 <= http_status < 400:
        return Unclear(f"HTTP status {http_status}: redirects are not followed")
    return Unclear(f"HTTP status {http_status}, {why}")


def _standing(http_status: int, document: dict[str, object], reply: Reply, hidden: Sequence[str]) -> Result:
    """How the payment stands by a reply with code 1001."""
    if http_status != 200:
        return Unclear(f"HTTP status {http_status} with a body that says 1001 is not believed", reply)
    status = document.get("status")
    match str(status) if _is_text_or_integer(status) else None:
        case "1":
            return Settled(paid=True, reply=reply, payment=_payment(document, hidden))
        case "-1":
            return Settled(paid=False, reply=reply, payment=_payment(document, hidden))
        case "0":
            return InProgress(reply)
        case _:
            return Unclear("code 1001 without a usable status", reply)


def _one_object(body: bytes) -> dict[str, object]:
    """Strict JSON, where equal keys or a NaN anywhere spoil the whole. Raises ValueError, RecursionError."""
    document = _DECODER.decode(body.decode())
    if not isinstance(document, dict):
        raise ValueError("not an object")  # noqa: TRY004 - to the caller it is one more way of being no reply
    return document


def _reply(document: dict[str, object], hidden: Sequence[str]) -> Reply:
    code = document.get("code")
    if not _is_text_or_integer(code):
        raise ValueError("no code")
    return Reply(
        code=_text(code, hidden) or "",
        message=_text(document.get("message"), hidden),
        hint=_text(document.get("hint"), hidden),
        seqno=_text(document.get("seqno"), hidden),
        status=_text(document.get("status"), hidden),
    )


def _payment(document: dict[str, object], hidden: Sequence[str]) -> Payment:
    return Payment(
        serial=_text(document.get("pay_serial"), hidden),
        origin=_text(document.get("pay_origin"), hidden),
        origin_desc=_text(document.get("pay_origin_desc"), hidden),
    )


def _is_text_or_integer(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def _text(value: object, hidden: Sequence[str]) -> str | None:
    """Any value as a text for people: capped, on one line, fit for UTF-8. None where it says nothing."""
    if value is None or value == "":
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) >= SHORTEST_HIDDEN:
        for secret in hidden:
            text = _without(secret, text)
    text = text[:TEXT_CAP]
    return text if text.isprintable() else UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _without(secret: str, text: str) -> str:
    if len(text) < len(secret) or len(secret) < SHORTEST_HIDDEN or secret.lower() not in text.lower():
        return text
    return re.sub(re.escape(secret), "***", text, flags=re.IGNORECASE)


def _seconds(retry_after: str | None, date: str | None) -> float | None:
    return retry_after_seconds(retry_after, http_date(date))


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key is there twice")
    return document


def _integer(text: str) -> int | str:
    return int(text) if len(text) <= LONGEST_INTEGER else text


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_int=_integer, parse_constant=_no_constant)
