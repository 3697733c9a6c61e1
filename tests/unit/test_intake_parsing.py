"""What the intake takes, field by field."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.delivery import DeliveryState
from poller.core.orders import NewOrder, OrderKey, State
from poller.intake.parsing import (
    order_key,
    parse_callback,
    parse_cursor,
    parse_json,
    parse_limit,
    parse_order,
    parse_state,
    parse_text,
    parse_wait,
)
from poller.intake.problems import Problem

ONE = ["lot-1"]


def refused(document: object, parks: list[str] | None = None) -> Problem:
    with pytest.raises(Problem) as caught:
        parse_order(document, ONE if parks is None else parks)
    assert caught.value.status == 422
    return caught.value


def nested(levels: int) -> dict[str, object]:
    document: dict[str, object] = {}
    for _ in range(levels - 1):
        document = {"a": document}
    return document


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"{", "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a": "\xff"}', "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"pay_partner": "1", "pay_partner": "2"}', "'pay_partner' twice"),
        (b'[{"metadata": {"lane": 1, "lane": 1}}]', "'lane' twice"),
        (b'{"\\ud800": 1, "\\ud800": 2}', "\\ud800"),
        (b"[" * 100_000, "nested too deep"),
        (b"1" * 5000, "not JSON"),
        (b'{"a": "\x01"}', "not JSON"),
    ],
)
def test_what_is_not_json_is_malformed(body: bytes, says: str) -> None:
    with pytest.raises(Problem) as caught:
        parse_json(body)
    assert caught.value.status == 400
    assert says in caught.value.detail


def test_duplicate_names_are_found_in_a_big_object_without_long_counting() -> None:
    names = ",".join(f'"{number}":0' for number in range(200_000))
    with pytest.raises(Problem, match="'199999' twice"):
        parse_json(f'{{{names},"199999":0}}'.encode())


def test_an_order_of_the_only_lot_needs_a_number_alone() -> None:
    assert parse_order({"pay_partner": "111112"}, ONE) == NewOrder(OrderKey("lot-1", "111112"), {})


def test_null_metadata_is_an_empty_object() -> None:
    assert parse_order({"pay_partner": "1", "metadata": None}, ONE).metadata == {}


def test_the_lot_must_be_named_where_there_are_several() -> None:
    parks = ["lot-1", "lot-2"]
    assert parse_order({"pay_partner": "1", "park_uuid": "lot-2"}, parks).key == OrderKey("lot-2", "1")
    assert "park_uuid is missing" in refused({"pay_partner": "1"}, parks).detail


@pytest.mark.parametrize("lot", ["lot-9", "", "LOT-1", 7, None, ["lot-1"], {}])
def test_a_lot_that_is_not_configured_is_refused(lot: object) -> None:
    problem = refused({"pay_partner": "1", "park_uuid": lot})
    assert [error.pointer for error in problem.errors] == ["#/park_uuid"]


@pytest.mark.parametrize("number", ["1", "x" * 128, "京A·12345", "a/b", "a b", "%2F", "...", "😀" * 128, "\u2028"])
def test_any_text_of_1_to_128_characters_is_a_number(number: str) -> None:
    assert parse_order({"pay_partner": number}, ONE).key.pay_partner == number


@pytest.mark.parametrize(
    "number",
    ["", "x" * 129, ".", "..", "a\x00", "\n", "\x7f", "\x85", "\ud800", "😀\udfff", 1, 1.5, True, None, [], {}],
)
def test_other_numbers_are_refused(number: object) -> None:
    problem = refused({"pay_partner": number})
    assert [error.pointer for error in problem.errors] == ["#/pay_partner"]
    assert problem.detail.startswith("pay_partner ")


def test_unknown_keys_are_refused_by_name() -> None:
    assert "'plate'" in refused({"pay_partner": "1", "plate": "粤B660PP"}).detail


def test_every_wrong_field_is_named_at_once() -> None:
    problem = refused({"pay_partner": 1, "park_uuid": "x", "metadata": [], "lane": 2})
    pointers = [error.pointer for error in problem.errors]
    assert pointers == ["#/lane", "#/metadata", "#/park_uuid", "#/pay_partner"]


def test_an_answer_does_not_grow_with_the_number_of_wrong_keys() -> None:
    problem = refused({f"key-{number}" * 50: 1 for number in range(5000)})
    assert len(problem.body()) < 10_000


@pytest.mark.parametrize("document", [None, 1, "1", [], True])
def test_what_is_no_object_is_no_order(document: object) -> None:
    assert "JSON object" in refused(document).detail


def test_metadata_of_2048_bytes_is_taken_and_one_more_is_not() -> None:
    overhead = len('{"plate":""}')
    fits = {"plate": "京" * ((2048 - overhead) // 3) + "x" * ((2048 - overhead) % 3)}
    assert parse_order({"pay_partner": "1", "metadata": fits}, ONE).metadata == fits
    problem = refused({"pay_partner": "1", "metadata": {"plate": fits["plate"] + "x"}})
    assert "2049 bytes" in problem.detail


def test_metadata_of_32_levels_is_taken_and_one_more_is_not() -> None:
    assert parse_order({"pay_partner": "1", "metadata": nested(32)}, ONE).metadata == nested(32)
    assert "32 levels" in refused({"pay_partner": "1", "metadata": nested(33)}).detail
    assert (
        "32 levels" in refused({"pay_partner": "1", "metadata": {"a": json.loads("[" * 900 + "]" * 900)}}).detail
    )


@pytest.mark.parametrize("metadata", [[], "x", 1, False, {"a": float("inf")}, {"a": "\ud800"}, {"\udc00": 1}])
def test_other_metadata_is_refused(metadata: object) -> None:
    assert [e.pointer for e in refused({"pay_partner": "1", "metadata": metadata}).errors] == ["#/metadata"]


def test_a_number_that_overflows_a_float_is_not_finite() -> None:
    document = parse_json(b'{"pay_partner": "1", "metadata": {"a": 1e999}}')
    assert [error.pointer for error in refused(document).errors] == ["#/metadata"]


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/v1/orders/lot-1/a%2Fb", "a/b"),
        ("/v1/orders/lot-1/a%2fb/poll", "a/b"),
        ("/v1/orders/lot-1/a+b", "a+b"),
        ("/v1/orders/lot-1/100%25/history", "100%"),
        ("/v1/orders/lot-1/%252F", "%2F"),
        ("/v1/orders/lot-1/a%20b", "a b"),
        ("/v1/orders/lot-1/%E4%BA%ACA", "京A"),
        ("/v1/orders/lot-1/京A", "京A"),
        ("/v1/orders/lot-1/...", "..."),
        ("/v1/orders/lot-1/{x}", "{x}"),
    ],
)
def test_a_path_holds_a_number_as_one_segment(path: str, number: str) -> None:
    assert order_key(path) == OrderKey("lot-1", number)


@pytest.mark.parametrize(
    ("segment", "status"),
    [("%FF", 400), ("\udcff", 400), ("..", 404), ("%2e", 404), ("%00", 404), ("x" * 129, 404)],
)
def test_a_path_that_no_order_can_have_is_an_error(segment: str, status: int) -> None:
    with pytest.raises(Problem) as caught:
        order_key(f"/v1/orders/lot-1/{segment}")
    assert caught.value.status == status


def test_query_parameters_that_are_absent_or_empty_take_their_defaults() -> None:
    for query in ({}, {"state": "", "limit": "", "after": "", "wait": "", "park_uuid": ""}):
        assert parse_state(query, State) is None
        assert parse_limit(query) == 100
        assert parse_cursor(query) is None
        assert parse_wait(query) == 0.0
        assert parse_text(query, "park_uuid") is None


def test_query_parameters_are_read() -> None:
    query = {"state": "dead", "limit": "1000", "after": "42", "wait": "2.5", "park_uuid": "lot-1"}
    assert parse_state(query, DeliveryState) is DeliveryState.DEAD
    assert parse_limit(query) == 1000
    assert parse_cursor(query) == 42
    assert parse_wait(query) == 2.5
    assert parse_text(query, "park_uuid") == "lot-1"


def test_a_longer_wait_than_a_minute_is_a_minute() -> None:
    assert [parse_wait({"wait": text}) for text in ("3600", "1e3", "1e999")] == [60.0] * 3
    assert parse_wait({"wait": "5e-1"}) == 0.5


def test_wrong_query_parameters_are_refused_by_name() -> None:
    reads: list[tuple[str, str, Callable[[dict[str, str]], object]]] = [
        ("state", "unpaid", lambda query: parse_state(query, State)),
        *[("limit", text, parse_limit) for text in ("0", "1001", "-1", "x", "1.5", "１", "9" * 5000)],
        *[("after", text, parse_cursor) for text in ("-", "--1", "1-", "x", "9" * 5000)],
        *[("wait", text, parse_wait) for text in ("-1", "nan", "inf", "1e", "x", "1_0")],
        ("park_uuid", "a\x00", lambda query: parse_text(query, "park_uuid")),
    ]
    for name, text, read in reads:
        with pytest.raises(Problem, match=name) as caught:
            read({name: text})
        assert caught.value.status == 422


def test_a_callback_names_its_order_and_perhaps_its_lot() -> None:
    assert parse_callback({"parking_order": "1", "status": "1", "park_uuid": "lot-1"}) == ("lot-1", "1")
    assert parse_callback({"parking_order": 77, "park_uuid": None}) == (None, "77")


@pytest.mark.parametrize("document", [[], {}, {"parking_order": ".."}, {"parking_order": "1", "park_uuid": 1}])
def test_a_callback_without_an_order_is_refused(document: object) -> None:
    with pytest.raises(Problem) as caught:
        parse_callback(document)
    assert caught.value.status == 422


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)


def problem_of(read: Callable[[], object]) -> Problem | None:
    try:
        read()
    except Problem as problem:
        return problem
    return None


@given(JSON, JSON, JSON)
def test_whatever_comes_in_is_an_order_or_a_problem_that_can_be_sent(a: object, b: object, c: object) -> None:
    for document in (a, {"pay_partner": a, "park_uuid": b, "metadata": c}, {"pay_partner": "1", "metadata": a}):
        problem = problem_of(partial(parse_order, document, ONE))
        assert problem is None or json.loads(problem.body())["status"] == 422


@given(st.binary())
def test_whatever_bytes_come_in_are_json_or_malformed(body: bytes) -> None:
    problem = problem_of(partial(parse_json, body))
    assert problem is None or json.loads(problem.body())["status"] == 400
