"""Orders and notices as their readers see them."""

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.documents import compact_json, notice_body, order_document, same_json, timestamp
from poller.core.orders import Answer, NoticeType, Order, OrderKey, State
from poller.core.replies import Payment

AT = datetime(2026, 11, 24, 8, 0, 0, 123_456, tzinfo=UTC)
LATER = AT + timedelta(seconds=1)
ORDER = Order(
    id=1,
    key=OrderKey("lot", "粤B/1"),
    state=State.PENDING,
    metadata={"plate": "粤B660PP"},
    accepted_at=AT,
    opened_run=0.0,
)
KEYS = [
    *("park_uuid", "pay_partner", "state", "metadata", "accepted_at", "polls", "next_poll_at", "last_reply"),
    *("undecided_at", "final_at", "pay_serial", "pay_origin", "pay_origin_desc"),
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def test_times_are_utc_with_milliseconds() -> None:
    assert timestamp(AT) == "2026-11-24T08:00:00.123Z"
    assert timestamp(AT.astimezone(timezone(timedelta(hours=8)))) == "2026-11-24T08:00:00.123Z"
    assert timestamp(datetime(1970, 1, 1, tzinfo=UTC)) == "1970-01-01T00:00:00.000Z"


def test_a_new_order_has_every_key_and_null_where_there_is_nothing_to_say() -> None:
    document = order_document(ORDER, None)
    assert list(document) == KEYS
    assert {key for key, value in document.items() if value is None} == {
        *("next_poll_at", "last_reply", "undecided_at", "final_at", "pay_serial", "pay_origin", "pay_origin_desc"),
    }


def test_a_paid_order_says_how_it_was_paid_and_what_the_platform_said_last() -> None:
    answer = Answer(AT, code="1001", message="ok", hint="h", seqno="s", status="1")
    order = ORDER._replace(
        state=State.PAID,
        polls=3,
        last_answer=answer,
        undecided_at=AT,
        final_at=LATER,
        payment=Payment("P1", "4", "支付宝"),
    )
    assert order_document(order, None) == {
        "park_uuid": "lot",
        "pay_partner": "粤B/1",
        "state": "paid",
        "metadata": {"plate": "粤B660PP"},
        "accepted_at": "2026-11-24T08:00:00.123Z",
        "polls": 3,
        "next_poll_at": None,
        "last_reply": {
            "at": "2026-11-24T08:00:00.123Z",
            "code": "1001",
            "message": "ok",
            "hint": "h",
            "seqno": "s",
            "status": "1",
            "error": None,
        },
        "undecided_at": "2026-11-24T08:00:00.123Z",
        "final_at": "2026-11-24T08:00:01.123Z",
        "pay_serial": "P1",
        "pay_origin": "4",
        "pay_origin_desc": "支付宝",
    }


@pytest.mark.parametrize(
    ("kind", "undecided_at", "late"),
    [
        (NoticeType.PAID, None, False),
        (NoticeType.PAID, AT, True),
        (NoticeType.CONFLICT, AT, True),
        (NoticeType.UNDECIDED, AT, False),
    ],
)
def test_a_notice_is_late_where_undecided_went_before(
    kind: NoticeType, undecided_at: datetime | None, late: bool
) -> None:
    order = ORDER._replace(undecided_at=undecided_at)
    assert json.loads(notice_body(kind, order, LATER, AT)) == {
        "type": kind.value,
        "timestamp": "2026-11-24T08:00:01.123Z",
        "data": {**order_document(order, AT), "late": late},
    }


def test_a_notice_is_compact_and_leaves_chinese_as_it_is() -> None:
    body = notice_body(NoticeType.PAID, ORDER, AT, None)
    assert body.startswith(
        '{"type":"payment.paid","timestamp":"2026-11-24T08:00:00.123Z","data":{"park_uuid":"lot"'
    )
    assert '"plate":"粤B660PP"' in body


def test_a_number_that_json_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        compact_json({"n": float("nan")})


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"a": 1, "b": [2]}, {"b": [2.0], "a": 1.0}, True),
        ({"a": True}, {"a": 1}, False),
        ({"a": False}, {"a": 0}, False),
        ({"a": None}, {}, False),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": [1]}, {"a": [1, 1]}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": {}}, {"a": []}, False),
    ],
)
def test_metadata_is_compared_as_json(one: object, other: object, same: bool) -> None:
    assert same_json(one, other) is same is same_json(other, one)


@given(json_values)
def test_a_value_is_the_same_after_a_round_trip(value: object) -> None:
    assert same_json(value, json.loads(json.dumps(value)))


@given(json_values, json_values)
def test_comparing_is_symmetric_and_never_looser_than_python(one: object, other: object) -> None:
    assert same_json(one, other) is same_json(other, one)
    assert one == other or not same_json(one, other)
