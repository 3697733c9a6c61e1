"""What a result means for its order, exhaustively."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.cadence import BACKOFF_CAP_S, Cadence
from poller.core.decision import AskAgain, Decision, End, decide
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
)

CADENCE = Cadence(give_up_after=1000.0)
REPLY = Reply("1001")
PAYMENT = Payment("20260101", "4", "支付宝")

FINAL: list[tuple[Result, End]] = [
    (Settled(True, REPLY, PAYMENT), End(State.PAID, PAYMENT)),
    (Settled(True, REPLY), End(State.PAID)),
    (Settled(False, REPLY, PAYMENT), End(State.FAILED, PAYMENT)),
    (Rejected(Reply("400")), End(State.REJECTED)),
]
USABLE: list[Result] = [InProgress(REPLY), Unclear("code 500", Reply("500"))]
UNUSABLE: list[Result] = [
    Unclear("not JSON"),
    *(Unavailable(cause, "away") for cause in Cause),
    Unavailable(Cause.BUSY, "code 503", Reply("503"), 30.0),
]
NOT_FINAL = USABLE + UNUSABLE

results = st.sampled_from([result for result, _ in FINAL] + NOT_FINAL)
ages = st.floats(0, 1e7)
jitters = st.floats(0, 1, exclude_max=True)


def decided(result: Result, age: float = 0.0, errors: int = 0, jitter: float = 0.0) -> Decision:
    return decide(result, age=age, errors=errors, jitter=jitter, cadence=CADENCE)


@pytest.mark.parametrize(("result", "end"), FINAL)
@pytest.mark.parametrize("age", [0.0, 999.0, 1000.0, 1e7])
@pytest.mark.parametrize("errors", [0, 7])
def test_the_platforms_word_is_final_at_any_age(result: Result, end: End, age: float, errors: int) -> None:
    assert decided(result, age, errors) == end


@pytest.mark.parametrize("result", NOT_FINAL)
def test_everything_else_is_asked_again_while_the_order_is_young(result: Result) -> None:
    assert isinstance(decided(result), AskAgain)


@pytest.mark.parametrize("result", USABLE)
def test_a_usable_reply_to_the_last_query_expires_an_order_past_its_time(result: Result) -> None:
    assert decided(result, 1000.0) == End(State.EXPIRED)


@pytest.mark.parametrize("result", UNUSABLE)
def test_without_a_usable_reply_no_order_expires_and_it_is_asked_again_after_a_pause(result: Result) -> None:
    decision = decided(result, 1e6)
    assert isinstance(decision, AskAgain)
    assert decision.pause >= CADENCE.min_interval


def test_in_progress_follows_the_cadence_and_clears_the_count_of_errors() -> None:
    assert decided(InProgress(REPLY), 100.0, 9) == AskAgain(CADENCE.gap(100.0, 0.0), 0)


@pytest.mark.parametrize("result", [Unclear("code 500", Reply("500")), *UNUSABLE[:-1]])
@pytest.mark.parametrize("errors", [0, 1, 4])
def test_errors_are_counted_and_back_off_on_that_count(result: Result, errors: int) -> None:
    assert decided(result, 10.0, errors) == AskAgain(CADENCE.backoff(errors + 1, 10.0, 0.0), errors + 1)


@pytest.mark.parametrize(("wish", "pause"), [(None, 1.0), (0.0, 1.0), (30.0, 30.0), (1e9, BACKOFF_CAP_S)])
def test_the_platforms_wish_for_a_pause_is_honoured_up_to_a_minute(wish: float | None, pause: float) -> None:
    assert decided(Unavailable(Cause.BUSY, "busy", retry_after=wish)) == AskAgain(pause, 1)


def test_the_last_query_before_giving_up_is_on_time() -> None:
    assert decided(InProgress(REPLY), 950.0) == AskAgain(50.0, 0)


@given(results, ages, st.integers(0, 1000), jitters)
def test_an_order_ends_only_as_the_result_says_or_expires_past_its_time_on_a_usable_reply(
    result: Result, age: float, errors: int, jitter: float
) -> None:
    match decided(result, age, errors, jitter):
        case End(state=State.PAID):
            assert isinstance(result, Settled)
            assert result.paid
        case End(state=State.FAILED):
            assert isinstance(result, Settled)
            assert not result.paid
        case End(state=State.REJECTED):
            assert isinstance(result, Rejected)
        case End(state=state):
            assert state is State.EXPIRED
            assert age >= CADENCE.give_up_after
            assert result in USABLE
        case AskAgain():
            assert result in NOT_FINAL


@given(st.sampled_from(NOT_FINAL), ages, st.integers(0, 1000), jitters)
def test_a_pause_ends_by_the_deadline_and_is_otherwise_never_below_the_shortest_gap(
    result: Result, age: float, errors: int, jitter: float
) -> None:
    decision = decided(result, age, errors, jitter)
    if isinstance(decision, AskAgain):
        left = CADENCE.give_up_after - age
        assert decision.pause >= (CADENCE.min_interval if left <= 0 else min(CADENCE.min_interval, left))
        assert left <= 0 or decision.pause <= left


@given(st.sampled_from(NOT_FINAL), ages, st.integers(0, 1000), jitters)
def test_only_a_reply_in_progress_keeps_the_count_of_errors_from_growing(
    result: Result, age: float, errors: int, jitter: float
) -> None:
    decision = decided(result, age, errors, jitter)
    if isinstance(decision, AskAgain):
        assert decision.errors == (0 if isinstance(result, InProgress) else errors + 1)
