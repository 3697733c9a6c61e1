"""A platform that echoes what it was sent: neither `sign` nor the secret gets into a result."""

from __future__ import annotations

import json

import pytest

from poller.core.replies import Result, Settled
from poller.pyun.reply import TEXT_CAP, parse

SIGN = "8FFDCC0A8C51BB92F183CAE2DD0C70D6"
SECRET = "the app_secret of (a) lot"


def reply_of(**fields: object) -> Result:
    body = json.dumps({"code": "500", **fields}, ensure_ascii=False).encode()
    return parse(200, body, None, hidden=(SIGN, SECRET))


@pytest.mark.parametrize("echo", [SIGN, SIGN.lower(), f"/payment?park_uuid=x&sign={SIGN}&pay_partner=1", SECRET])
@pytest.mark.parametrize("name", ["message", "hint", "seqno", "status", "code"])
def test_no_text_of_a_reply_repeats_what_is_hidden(name: str, echo: str) -> None:
    text = repr(reply_of(**{name: f"got {echo}!"}))
    assert "***" in text
    assert SIGN.lower() not in text.lower()
    assert SECRET not in text


def test_it_is_hidden_inside_of_other_values_and_at_the_edge_of_the_cap_too() -> None:
    assert SIGN not in repr(reply_of(hint={"url": [f"sign={SIGN}"]}))
    assert SIGN[:4] not in repr(reply_of(hint="x" * (TEXT_CAP - 10) + SIGN))


def test_a_payments_texts_hide_it_and_the_rest_of_them_stands() -> None:
    result = reply_of(code="1001", status="1", pay_serial=f"77{SIGN}", pay_origin="4", pay_origin_desc=SIGN)
    assert isinstance(result, Settled)
    assert (result.payment.serial, result.payment.origin, result.payment.origin_desc) == ("77***", "4", "***")


def test_a_code_or_status_is_judged_by_what_was_sent() -> None:
    body = json.dumps({"code": "1001", "status": "1", "message": "1001 and 1"}).encode()
    result = parse(200, body, None, hidden=("1001", "1"))
    assert isinstance(result, Settled)
    assert result.reply.message == "1001 and 1"  # too short to be a secret
