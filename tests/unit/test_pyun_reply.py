"""What is believed of a reply: the seed's samples to the letter, and an oracle for everything else."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poller.core.cadence import Cadence
from poller.core.decision import End, decide
from poller.core.orders import State
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
    is_usable,
)
from poller.pyun import parse

NORMAL = """{
    "code": "1001",
    "seqno": "4b1889bde31f0561",
    "data_node": "CN-South/HS3-3",
    "time_cost": 8
}"""
WRONG_PARAMETER = """{
    "code": "400",
    "message": "请求参数错误",
    "hint": "检查请求参数`enter_time`!",
    "seqno": "aef8bf7fe6664254",
    "data_node": "DEV/DEV-1",
    "path": "GET /gate/1.0/parking/internal/payment"
}"""
SERVER_ERROR = """{
    "code": "500",
    "message": "服务器内部错误",
    "seqno": "48bf04ea4caa479c",
    "data_node": "CN-South/HS3-2",
    "path": "GET /gate/1.0/parking/internal/payment"
}"""
OUT_OF_SERVICE = """{
    "code": "503",
    "message": "服务暂不可用",
    "hint": "NO HEALTH SERVICE(ParkingSyncer)!",
    "seqno": "7fb563f1fc2ca1f",
    "data_node": "DEV/DEV-1",
    "path": "GET /gate/1.0/parking/internal/payment"
}"""


def read(text: str, http_status: int = 200) -> Result:
    return parse(http_status, text.encode(), None)


def reply(http_status: int = 200, **fields: object) -> Result:
    return read(json.dumps(fields), http_status)


# The seed's samples.


def test_the_normal_sample_has_no_status_and_says_nothing_of_the_payment() -> None:
    assert read(NORMAL) == Unclear("code 1001 without a usable status", Reply("1001", seqno="4b1889bde31f0561"))


def test_the_sample_of_a_wrong_parameter_is_rejected() -> None:
    assert read(WRONG_PARAMETER) == Rejected(
        Reply("400", "请求参数错误", "检查请求参数`enter_time`!", "aef8bf7fe6664254")
    )


def test_the_sample_of_a_server_error_is_not_known_yet() -> None:
    expected = Reply("500", "服务器内部错误", seqno="48bf04ea4caa479c")
    assert read(SERVER_ERROR) == Unclear("code 500: the platform could not process the query", expected)


def test_the_sample_of_a_service_that_is_down_is_the_whole_platform() -> None:
    expected = Reply("503", "服务暂不可用", "NO HEALTH SERVICE(ParkingSyncer)!", "7fb563f1fc2ca1f")
    assert read(OUT_OF_SERVICE) == Unavailable(Cause.BUSY, "code 503, NO HEALTH SERVICE(ParkingSyncer)!", expected)


# What is believed.


@pytest.mark.parametrize("code", ["1001", 1001])
@pytest.mark.parametrize("status", ["1", 1, "-1", -1])
def test_a_payment_is_settled_by_text_or_number(code: object, status: object) -> None:
    result = reply(code=code, status=status, pay_serial="S1", pay_origin=8, pay_origin_desc="微信", new={"a": [1]})
    assert result == Settled(str(status) == "1", Reply("1001", status=str(status)), Payment("S1", "8", "微信"))


@pytest.mark.parametrize("status", ["0", 0])
def test_status_0_is_in_progress(status: object) -> None:
    assert reply(code="1001", status=status) == InProgress(Reply("1001", status="0"))


@pytest.mark.parametrize(
    "status", ["", " 1", "1 ", "01", "+1", "1.0", "１", "paid", "2", 2, 1.0, True, False, None, [], [1], {"1": 1}]
)
def test_any_other_status_says_nothing(status: object) -> None:
    result = reply(code="1001", status=status)
    assert isinstance(result, Unclear)
    assert result.error == "code 1001 without a usable status"
    assert result.reply is not None


@pytest.mark.parametrize("code", [1001.0, True, None, [], {}, ["1001"]])
def test_without_a_code_that_is_text_or_a_whole_number_it_is_no_reply(code: object) -> None:
    assert reply(code=code, status="1") == Unclear("HTTP status 200, not one JSON object with a code")


@pytest.mark.parametrize("code", ["1001 ", "01001", "1000", "0", "", 1, 10010, 10**40])
def test_an_unknown_code_says_nothing_of_the_payment(code: object) -> None:
    result = reply(code=code, status="1")
    assert isinstance(result, Unclear)
    assert result.reply is not None


@pytest.mark.parametrize("http_status", [201, 204, 206, 301, 302, 400, 401, 404, 500, 505])
@pytest.mark.parametrize("status", ["1", "-1", "0"])
def test_a_payments_standing_is_believed_with_http_200_alone(http_status: int, status: str) -> None:
    result = reply(http_status, code="1001", status=status)
    assert isinstance(result, Unclear)
    assert result.error == f"HTTP status {http_status} with a body that says 1001 is not believed"
    assert is_usable(result)


@pytest.mark.parametrize("http_status", [200, 302, 400, 404, 500, 503])
@pytest.mark.parametrize("code", ["400", 400])
def test_a_body_with_code_400_rejects_whatever_the_http_status(http_status: int, code: object) -> None:
    assert reply(http_status, code=code) == Rejected(Reply("400"))


@pytest.mark.parametrize("body", ["", "Bad Request", "{}", '{"code": 400.0}', '{"status": 400}'])
def test_http_400_without_such_a_body_rejects_nothing(body: str) -> None:
    assert read(body, 400) == Unclear("HTTP status 400, not one JSON object with a code")


@pytest.mark.parametrize("http_status", [200, 429, 500, 503])
@pytest.mark.parametrize("code", ["503", 503, "429"])
def test_a_busy_code_is_the_platforms_state_whatever_the_http_status(http_status: int, code: object) -> None:
    assert reply(http_status, code=code) == Unavailable(Cause.BUSY, f"code {code}", Reply(str(code)))


@pytest.mark.parametrize("http_status", [429, 502, 503, 504])
@pytest.mark.parametrize("body", ["", "<html>Bad Gateway</html>", '{"status": 503}', "[1]"])
def test_a_gateway_that_speaks_for_the_platform_makes_it_unavailable(http_status: int, body: str) -> None:
    assert read(body, http_status) == Unavailable(Cause.BUSY, f"HTTP status {http_status}")


def test_http_503_with_a_body_that_says_paid_keeps_the_reply_and_is_not_believed() -> None:
    result = reply(503, code="1001", status="1")
    assert result == Unavailable(Cause.BUSY, "HTTP status 503", Reply("1001", status="1"))


def test_http_503_with_code_500_is_the_orders_answer_since_the_body_goes_first() -> None:
    assert isinstance(reply(503, code="500"), Unclear)


@pytest.mark.parametrize(
    ("header", "date", "seconds"),
    [
        ("30", None, 30.0),
        (" 0 ", None, 0.0),
        ("99999999999", None, 3600.0),
        ("9" * 5000, None, 3600.0),
        ("Tue, 24 Nov 2026 08:00:30 GMT", "Tue, 24 Nov 2026 08:00:00 GMT", 30.0),
        ("Tue, 24 Nov 2026 07:00:00 GMT", "Tue, 24 Nov 2026 08:00:00 GMT", 0.0),
        ("Tue, 24 Nov 2099 07:00:00 GMT", "Tue, 24 Nov 2026 08:00:00 GMT", 3600.0),
        ("Tue, 24 Nov 2026 08:00:30 GMT", None, None),
        *((odd, None, None) for odd in ("-5", "1.5", "soon", "", "３０", "nan", "inf")),
    ],
)
def test_retry_after_is_read_as_seconds_or_against_the_servers_own_date(
    header: str, date: str | None, seconds: float | None
) -> None:
    for body in (OUT_OF_SERVICE, "busy"):
        result = parse(503, body.encode(), header, date)
        assert isinstance(result, Unavailable)
        assert result.retry_after == seconds


@pytest.mark.parametrize("http_status", [301, 302, 307, 308])
def test_a_redirect_is_named_so(http_status: int) -> None:
    assert read("<a>Moved</a>", http_status) == Unclear(f"HTTP status {http_status}: redirects are not followed")


PAID = b'{"code":"1001","status":"1"}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"code":"1001","status":"0","status":"1"}',
        b'{"code":"1001","status":"1","status":"1"}',
        b'{"code":"1001","st\\u0061tus":"1","status":"1"}',
        b'{"code":"400","code":"1001","status":"1"}',
        b'{"code":"1001","status":"1","data":{"a":1,"a":2}}',
        b'{"code":"1001","status":"1","data":[{"a":{"b":1,"b":1}}]}',
        b'{"code":"1001","status":"1","x":NaN}',
        b'{"code":"1001","status":"1","x":-Infinity}',
        b"\xef\xbb\xbf" + PAID,
        PAID + PAID,
        PAID + b"x",
        PAID[:-1],
        b"[" + PAID + b"]",
        b'"' + PAID.replace(b'"', b'\\"') + b'"',
        PAID.decode().encode("utf-16"),
        b'{"code":"1001","status":"1","x":"\xff"}',
        b'{"code":"1001","status":"1","x":"\x01"}',
        b'{"code":"1001","status":"1","x":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b"[" * 60_000,
        b'{"x":' * 10_000,
        b"callback(" + PAID + b")",
        b"<html>paid</html>",
        b"null",
        b"",
    ],
)
def test_what_is_not_one_strict_json_object_is_no_reply(body: bytes) -> None:
    assert parse(200, PAID, None) == Settled(True, Reply("1001", status="1"))
    assert parse(200, body, None) == Unclear("HTTP status 200, not one JSON object with a code")


@pytest.mark.parametrize("odd", ["[]", "{}", "1e999", "1" * 5000, "-1.5", "true", "null", '"\\ud800"', '""'])
@pytest.mark.parametrize("name", ["message", "hint", "seqno", "pay_serial", "pay_origin", "time_cost", "next"])
def test_an_odd_value_in_an_unimportant_field_spoils_nothing(name: str, odd: str) -> None:
    result = read(f'{{"code":"1001","status":"1","{name}":{odd}}}')
    assert isinstance(result, Settled)
    assert result.paid


def test_texts_are_capped_and_fit_for_a_line_of_a_log() -> None:
    result = reply(
        code="x\n" * 200, message="a" * 10_000, hint="a\x1b[2J\nb\u202e\ud800\u2028c", seqno="", status=[1]
    )
    assert result.reply == Reply(
        code="x\ufffd" * 100, message="a" * 200, hint="a\ufffd[2J\ufffdb\ufffd\ufffd\ufffdc", status="[1]"
    )


# The oracle: the rule of "What is believed", written anew on what the body holds, pair by pair.


class Pairs(list[tuple[str, Any]]):
    """A JSON object as it stands in the text."""


def refuse(constant: str) -> object:
    raise ValueError(constant)


def strict(value: object) -> bool:
    if isinstance(value, Pairs):
        return len({key for key, _ in value}) == len(value) and all(strict(inner) for _, inner in value)
    return all(map(strict, value)) if isinstance(value, list) else True


def may_be(body: bytes, http_status: int) -> State | None:
    """The one outcome that the rule allows, if any."""
    try:
        value = json.loads(body.decode("utf-8", "strict"), object_pairs_hook=Pairs, parse_constant=refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, Pairs) or not strict(value):
        return None
    fields = dict(value)
    shape = [(type(fields.get(name)), fields.get(name)) for name in ("code", "status")]
    if shape[0] in [(str, "400"), (int, 400)]:
        return State.REJECTED
    if http_status != 200 or shape[0] not in [(str, "1001"), (int, 1001)]:
        return None
    if shape[1] in [(str, "1"), (int, 1)]:
        return State.PAID
    return State.FAILED if shape[1] in [(str, "-1"), (int, -1)] else None


near = st.sampled_from(
    [
        *('"1001"', "1001", "1001.0", '"400"', "400", "4e2", '"500"', '"503"', '"1"', "1", "1.0", '"-1"', "-1"),
        *('"0"', "0", "-0", "true", "null", '""', '" 1"', "[1]", '{"status":"1"}', '{"a":1,"a":1}', "NaN"),
        '"\\u0031"',
    ]
)
names = st.sampled_from(['"code"', '"status"', '"c\\u006fde"', '"Status"', '"x"', '"pay_serial"'])
bodies = st.lists(st.tuples(names, near), max_size=5).map(
    lambda pairs: ("{" + ",".join(f"{name}:{value}" for name, value in pairs) + "}").encode()
)
likely = st.builds(
    lambda code, status, rest: b'{"code":%b,"status":%b%b' % (code.encode(), status.encode(), rest),
    st.sampled_from(['"1001"', "1001", '"400"', "400"]) | near,
    st.sampled_from(['"1"', "1", '"-1"', "-1"]) | near,
    st.sampled_from([b"}", b"}", b',"x":{"y":[1]}}', b',"code":"1001"}', b"", b"}}", b',"x":"\xff"}', b"}\n"]),
)
statuses = st.sampled_from([200, 200, 200, 201, 302, 400, 404, 429, 500, 502, 503]) | st.integers(100, 599)
anything = bodies | likely | st.binary(max_size=200) | st.text(max_size=100).map(str.encode)
headers = st.none() | st.text(max_size=40)


@settings(max_examples=500)
@given(anything, statuses, st.sampled_from([0.0, 1000.0]), headers)
def test_an_order_ends_only_as_the_written_rule_allows_and_does_where_it_does(
    body: bytes, http_status: int, age: float, header: str | None
) -> None:
    result = parse(http_status, body, header, header)
    cadence = Cadence(give_up_after=1000.0)
    decision = decide(result, age=age, errors=0, jitter=0.0, cadence=cadence)
    state = decision.state if isinstance(decision, End) else None
    if state is State.EXPIRED:
        assert age >= cadence.give_up_after
        assert is_usable(result)
        state = None
    assert state is may_be(body, http_status)


@given(anything, statuses, st.text() | st.none(), st.text() | st.none())
def test_no_bytes_and_no_headers_raise_and_every_text_is_short_and_fit_for_utf_8(
    body: bytes, http_status: int, retry_after: str | None, date: str | None
) -> None:
    result = parse(http_status, body, retry_after, date)
    said = result.reply
    texts = [said.code, said.message, said.hint, said.seqno, said.status] if said else []
    for text in texts:
        assert text is None or (len(text) <= 200 and text.encode().decode() == text)
    if isinstance(result, Unavailable):
        assert 0.0 <= (result.retry_after or 0.0) <= 3600.0
