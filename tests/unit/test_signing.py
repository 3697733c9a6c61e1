"""`sign`, against what the platform published (its openapi/README)."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.signing import sign

PUBLISHED = [
    (
        "app_id=op009619634544&merchant=62626666666&pay_order=00202101010000060755912770312323",
        "6409292d66625a2a0912ac345345",
        "8FFDCC0A8C51BB92F183CAE2DD0C70D6",
    ),
    (
        "app_id=op6619067c70f1234213&merchant=626266016&obtain_order=123456789111",
        "d6d3ea8f910b9a3ff1234234",
        "CF56BA852C2F8DF9CD8D3DFB94C56DC0",
    ),
    (
        "app_id=op88641899bd20661&car_type=1&enter_time=1563242533431"
        "&park_uuid=40e06b24-7320-4a61-8d97-7ebccb364a87&plate=粤B660PP&sign_type=MD5&timestamp=1563242932357",
        "XXX",
        "c983693c5f603aef30514920fa3158ff",
    ),
]

params = st.lists(st.tuples(st.text("abc_", min_size=1), st.text(max_size=8)), max_size=6)


@pytest.mark.parametrize(("query", "secret", "expected"), PUBLISHED)
def test_the_published_vectors_come_out(query: str, secret: str, expected: str) -> None:
    pairs = [(name, value) for name, _, value in (part.partition("=") for part in query.split("&"))]
    assert sign(reversed(pairs), secret) == expected.upper()


def test_empty_values_and_sign_itself_are_left_out() -> None:
    assert sign([("b", "2"), ("a", ""), ("sign", "x")], "s") == sign([("b", "2")], "s")


def test_nothing_but_the_secret_is_signed_where_there_are_no_parameters() -> None:
    assert sign([], "s") == sign([("a", "")], "s")


def test_names_are_sorted_by_ascii_so_capitals_go_first() -> None:
    # MD5 of "Z=1&a=2&app_secret=s"
    assert sign([("a", "2"), ("Z", "1")], "s") == "4F7D0E47B8DFFCBF4F43477415A926E4"


def test_values_are_signed_raw_and_not_percent_encoded() -> None:
    assert sign([("a", "粤 B+&=%")], "s") != sign([("a", "%E7%B2%A4%20B%2B%26%3D%25")], "s")


@given(params, st.randoms())
def test_the_order_of_parameters_does_not_matter(pairs: list[tuple[str, str]], random: Random) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert sign(shuffled, "secret") == sign(pairs, "secret")


@given(params, st.text(min_size=1), st.text(min_size=1))
def test_another_secret_gives_another_sign(pairs: list[tuple[str, str]], one: str, other: str) -> None:
    assert (sign(pairs, one) == sign(pairs, other)) is (one == other)
