"""The transitions of an order, from every state."""

from datetime import UTC, datetime

import pytest

from poller.core.orders import (
    REOPENABLE,
    Answer,
    NotAllowedError,
    NoticeType,
    Order,
    OrderKey,
    State,
    contradict,
    end,
    mark_undecided,
    reopen,
    request_cancel,
)
from poller.core.replies import Payment

AT = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)
LATER = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
PAYMENT = Payment("S1", "8", "微信")
PENDING = Order(
    id=1,
    key=OrderKey("lot", "111112"),
    state=State.PENDING,
    metadata={"lane": 3},
    accepted_at=AT,
    opened_run=5.0,
    due=6.0,
    polls=4,
    errors=2,
)
FINAL_STATES = [state for state in State if state is not State.PENDING]


def final(state: State) -> Order:
    return end(PENDING, state, AT, PAYMENT).order


@pytest.mark.parametrize("state", FINAL_STATES)
def test_a_pending_order_ends_once_with_the_notice_of_its_state(state: State) -> None:
    change = end(PENDING._replace(cancelling=True), state, LATER, PAYMENT)
    assert change.notice == NoticeType(f"payment.{state.value}")
    assert change.order == PENDING._replace(
        state=state, due=None, errors=0, cancelling=False, final_at=LATER, payment=PAYMENT
    )


@pytest.mark.parametrize("state", FINAL_STATES)
@pytest.mark.parametrize("again", State)
def test_a_final_order_ends_no_second_time(state: State, again: State) -> None:
    with pytest.raises(NotAllowedError, match=f"already {state.value}"):
        end(final(state), again, LATER)


def test_pending_is_no_end() -> None:
    with pytest.raises(NotAllowedError, match="not a final state"):
        end(PENDING, State.PENDING, LATER)


def test_a_cancellation_waits_for_the_query_in_the_air_and_tells_nobody_yet() -> None:
    change = request_cancel(PENDING)
    assert change.order == PENDING._replace(cancelling=True)
    assert change.notice is None


@pytest.mark.parametrize("state", FINAL_STATES)
def test_a_final_order_cannot_be_cancelled(state: State) -> None:
    with pytest.raises(NotAllowedError, match=f"already {state.value}"):
        request_cancel(final(state))


def test_the_gate_is_told_once_that_nothing_is_known_yet() -> None:
    change = mark_undecided(PENDING, LATER)
    assert change is not None
    assert change.order == PENDING._replace(undecided_at=LATER)
    assert change.notice is NoticeType.UNDECIDED
    assert mark_undecided(change.order, LATER) is None


@pytest.mark.parametrize("state", FINAL_STATES)
def test_a_final_order_is_never_undecided(state: State) -> None:
    assert mark_undecided(final(state), LATER) is None


@pytest.mark.parametrize("state", FINAL_STATES)
@pytest.mark.parametrize("paid", [True, False])
def test_a_contradiction_is_told_once_and_changes_nothing(state: State, paid: bool) -> None:
    order = final(state)
    change = contradict(order, paid, LATER)
    if paid is (state is State.PAID):
        assert change is None
        return
    assert change is not None
    assert change.order == order._replace(conflict_at=LATER)
    assert change.notice is NoticeType.CONFLICT
    assert contradict(change.order, paid, LATER) is None


def test_a_pending_order_cannot_be_contradicted() -> None:
    assert contradict(PENDING, True, LATER) is None


@pytest.mark.parametrize("state", sorted(REOPENABLE))
def test_rejected_expired_and_cancelled_orders_start_anew_when_reopened(state: State) -> None:
    told = mark_undecided(PENDING, AT)
    assert told is not None
    closed = end(told.order, state, AT).order._replace(conflict_at=LATER)
    change = reopen(closed, 77.0, 78.0)
    assert change.order == PENDING._replace(opened_run=77.0, due=78.0, errors=0)
    assert change.notice is None


@pytest.mark.parametrize("state", [State.PAID, State.FAILED])
def test_the_platforms_own_word_cannot_be_reopened(state: State) -> None:
    with pytest.raises(NotAllowedError, match="final"):
        reopen(final(state), 77.0, 78.0)


def test_a_pending_order_needs_no_reopening() -> None:
    with pytest.raises(NotAllowedError, match="pending"):
        reopen(PENDING, 77.0, 78.0)


def test_answers_that_differ_in_time_and_seqno_alone_are_the_same() -> None:
    one = Answer(AT, code="1001", status="0", seqno="a")
    assert one.same_as(Answer(LATER, code="1001", status="0", seqno="b"))


@pytest.mark.parametrize(
    "other",
    [
        Answer(AT, code="500", status="0"),
        Answer(AT, code="1001", status="1"),
        Answer(AT, code="1001", status="0", message="other"),
        Answer(AT, code="1001", status="0", hint="other"),
        Answer(AT, code="1001", status="0", error="other"),
    ],
)
def test_answers_that_differ_in_anything_else_are_not_the_same(other: Answer) -> None:
    assert not Answer(AT, code="1001", status="0").same_as(other)
