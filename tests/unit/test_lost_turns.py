"""What becomes of turns when the lease under which the orders were held is lost."""

from __future__ import annotations

from datetime import UTC, datetime

from poller.core.orders import OrderKey, State
from poller.polling.turns import Flight, Turns
from poller.ports import Pending
from poller.timeline import Timeline


class StillClock:
    def monotonic(self) -> float:
        return 100.0

    def wall(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC)

    def jitter(self) -> float:
        return 0.0

    def new_event_id(self) -> str:
        return "evt"


def turns_of(*pending: Pending) -> Turns:
    clock = StillClock()
    turns = Turns(clock, Timeline(clock, None), 10)
    for one in pending:
        turns.put(one)
    return turns


def order(number: int, due: float = 0.0, state: State = State.PENDING) -> Pending:
    return Pending(number, OrderKey("lot", f"{number}"), 0.0, due, state=state)


def take(turns: Turns) -> Flight:
    flight = turns.take()
    assert flight is not None
    return flight


def test_all_that_waits_is_forgotten_and_what_is_in_the_air_counts_no_more() -> None:
    turns = turns_of(order(1), order(2))
    flight = take(turns)
    turns.forget_all()
    assert len(turns) == turns.in_flight() == 1
    assert turns.take() is None
    assert not flight.counts()
    turns.land(flight)
    assert len(turns) == 0


def test_an_answer_of_a_final_order_counts_whoever_holds_what() -> None:
    turns = turns_of(order(1, state=State.PAID))
    flight = take(turns)
    turns.forget_all()
    assert flight.counts()


def test_an_order_held_anew_has_its_turn_once_the_lost_query_has_ended() -> None:
    turns = turns_of(order(1))
    flight = take(turns)
    turns.forget_all()
    again = flight.successor = order(1)
    assert turns.take() is None
    turns.land(flight)
    assert take(turns).pending is again
