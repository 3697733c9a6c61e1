"""What an answer of the receiver means for a notice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.delivery import (
    JITTER,
    Dead,
    Delivered,
    DeliveryDecision,
    Gone,
    NotReceived,
    Received,
    ReceiverAnswer,
    TryAgain,
    decide_delivery,
)

WEEK = 604_800.0
failures = st.builds(NotReceived, st.just("HTTP status 500"), st.just(500), st.none() | st.floats(0, 1e6))


def decide(answer: ReceiverAnswer, attempts: int = 1, age: float = 0.0, jitter: float = 0.0) -> DeliveryDecision:
    return decide_delivery(answer, attempts=attempts, age=age, jitter=jitter, give_up_after=WEEK)


def pause(answer: NotReceived, attempts: int, age: float, jitter: float = 0.0) -> float:
    decision = decide(answer, attempts, age, jitter)
    assert isinstance(decision, TryAgain)
    return decision.pause


@pytest.mark.parametrize("age", [0.0, WEEK, 10 * WEEK])
def test_a_2xx_is_delivered_however_old_the_notice(age: float) -> None:
    assert decide(Received(204), 50, age) == Delivered()


@pytest.mark.parametrize("age", [0.0, WEEK])
def test_410_makes_a_notice_dead_at_once(age: float) -> None:
    decision = decide(Gone(), 1, age)
    assert isinstance(decision, Dead)
    assert "410" in decision.why


@pytest.mark.parametrize(
    ("attempts", "expected"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60), (9999, 60)]
)
def test_in_the_first_hour_pauses_double_from_a_second_to_a_minute(attempts: int, expected: float) -> None:
    assert pause(NotReceived("refused"), attempts, 3599.0) == expected


@pytest.mark.parametrize(("attempts", "expected"), [(1, 1), (10, 512), (11, 600), (9999, 600)])
def test_after_the_first_hour_a_notice_is_tried_every_ten_minutes_at_least(attempts: int, expected: float) -> None:
    assert pause(NotReceived("refused"), attempts, 3600.0) == expected


@pytest.mark.parametrize(
    ("wish", "age", "expected"),
    [(30.0, 0.0, 30.0), (0.0, 0.0, 1.0), (9999.0, 0.0, 60.0), (300.0, 3600.0, 300.0), (9999.0, 3600.0, 600.0)],
)
def test_retry_after_is_honoured_within_the_bounds_of_the_notices_age(
    wish: float, age: float, expected: float
) -> None:
    assert pause(NotReceived("busy", 503, wish), 1, age) == expected


def test_a_notice_is_given_up_only_once_it_is_too_old_and_says_what_went_wrong_last() -> None:
    assert isinstance(decide(NotReceived("HTTP status 500", 500), 900, WEEK - 0.001), TryAgain)
    decision = decide(NotReceived("HTTP status 500", 500), 900, WEEK)
    assert isinstance(decision, Dead)
    assert "HTTP status 500" in decision.why


@given(failures, st.integers(1, 10_000), st.floats(0, WEEK, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_every_pause_is_positive_and_within_the_cap_of_the_notices_age(
    answer: NotReceived, attempts: int, age: float, jitter: float
) -> None:
    assert 1.0 - JITTER <= pause(answer, attempts, age, jitter) <= (60.0 if age < 3600.0 else 600.0)


@given(failures, st.integers(1, 10_000), st.floats(0, WEEK, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_jitter_only_shortens_and_by_a_tenth_at_most(
    answer: NotReceived, attempts: int, age: float, jitter: float
) -> None:
    full = pause(answer, attempts, age)
    assert full * (1 - JITTER) <= pause(answer, attempts, age, jitter) <= full
