"""When the platform as a whole counts as down, and how it is asked then."""

import pytest

from poller.core.outage import CAP_S, FIRST_PAUSE_S, JITTER, OPENING_ANSWERS, YOUNG_CAP_S, Outage, PastOutage, Turn
from poller.core.replies import Cause, InProgress, Rejected, Reply, Result, Settled, Unavailable, Unclear

AWAY = Unavailable(Cause.UNREACHABLE, "no connection")
GARBAGE = Unclear("not JSON")
USABLE: list[Result] = [
    Settled(True, Reply("1001")),
    Settled(False, Reply("1001")),
    InProgress(Reply("1001")),
    Rejected(Reply("400")),
    Unclear("code 500", Reply("500")),
]


def observe(
    outage: Outage, *orders: int, result: Result = AWAY, now: float = 0.0, of: int = 100, canary: bool = False
) -> list[Turn]:
    return [outage.observe(order, result, now, orders=of, canary=canary, jitter=0.0) for order in orders]


def opened(now: float = 0.0, result: Result = AWAY) -> Outage:
    outage = Outage()
    observe(outage, 1, 2, 3, 4, 5, now=now, result=result)
    assert outage.is_open
    return outage


def test_the_fifth_unavailable_answer_in_a_row_opens_it_once() -> None:
    outage = Outage()
    assert observe(outage, 1, 2, 3, 1, now=4.0) == [Turn.NOTHING] * 4
    assert observe(outage, 2, now=5.0) == [Turn.OPENED]
    assert outage.is_open
    assert outage.since == 5.0
    assert outage.cause == "no connection"
    assert observe(outage, 3, 4) == [Turn.NOTHING] * 2


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_counts(cause: Cause) -> None:
    assert opened(result=Unavailable(cause, "away")).cause == "away"


def test_two_poisonous_orders_among_many_never_open_it() -> None:
    outage = Outage()
    assert set(observe(outage, *[1, 2] * 50)) == {Turn.NOTHING}


@pytest.mark.parametrize("of", [1, 2])
def test_fewer_orders_suffice_where_there_are_no_more(of: int) -> None:
    outage = Outage()
    numbers = [number % of for number in range(OPENING_ANSWERS)]
    assert observe(outage, *numbers, of=of)[-1] is Turn.OPENED


@pytest.mark.parametrize("result", USABLE)
def test_a_usable_reply_between_starts_the_count_anew(result: Result) -> None:
    outage = Outage()
    observe(outage, 1, 2, 3, 4)
    assert observe(outage, 5, result=result) == [Turn.NOTHING]
    assert observe(outage, 1, 2, 3, 4) == [Turn.NOTHING] * 4
    assert observe(outage, 5) == [Turn.OPENED]


def test_garbage_neither_counts_nor_starts_the_count_anew() -> None:
    outage = Outage()
    observe(outage, 1, 2, 3, 4)
    assert observe(outage, 6, 7, 8, result=GARBAGE) == [Turn.NOTHING] * 3
    assert not outage.is_open
    assert observe(outage, 5) == [Turn.OPENED]


@pytest.mark.parametrize("result", USABLE)
@pytest.mark.parametrize("canary", [True, False])
def test_any_usable_reply_closes_it_once_and_it_tells_how_long_it_lasted(result: Result, canary: bool) -> None:
    outage = opened(now=10.0)
    assert observe(outage, 9, result=result, now=70.0, canary=canary) == [Turn.CLOSED]
    assert not outage.is_open
    assert outage.lasted == 60.0
    assert observe(outage, 9, result=result, now=71.0) == [Turn.NOTHING]


def test_garbage_does_not_close_it() -> None:
    outage = opened()
    assert observe(outage, 1, result=GARBAGE, canary=True) == [Turn.NOTHING]
    assert outage.is_open


def pauses(outage: Outage, result: Result, count: int, young: bool = False) -> list[float]:
    found, now = [], 0.0
    for _ in range(count):
        at = outage.canary_at(young_waits=young)
        found.append(at - now)
        now = at
        observe(outage, 1, result=result, now=now, canary=True)
    return found


@pytest.mark.parametrize("result", [AWAY, GARBAGE])
def test_canaries_go_out_with_growing_pauses_up_to_a_minute(result: Result) -> None:
    assert pauses(opened(), result, 9) == [1, 2, 4, 8, 16, 32, CAP_S, CAP_S, CAP_S]


def test_while_a_driver_may_be_at_the_barrier_a_canary_goes_every_five_seconds_at_least() -> None:
    assert pauses(opened(), AWAY, 5, young=True) == [1, 2, 4, YOUNG_CAP_S, YOUNG_CAP_S]


def test_queries_that_were_in_the_air_when_it_opened_do_not_lengthen_the_pauses() -> None:
    outage = opened(now=10.0)
    observe(outage, *range(30), now=11.0)
    assert outage.canary_at(young_waits=False) == 10.0 + FIRST_PAUSE_S


@pytest.mark.parametrize(
    ("wish", "young", "pause"),
    [(30.0, False, 30.0), (9999.0, False, CAP_S), (30.0, True, YOUNG_CAP_S), (0.5, False, 1.0)],
)
def test_the_platforms_wish_is_honoured_within_the_bounds(wish: float, young: bool, pause: float) -> None:
    outage = opened(result=Unavailable(Cause.BUSY, "busy", retry_after=wish))
    assert outage.canary_at(young_waits=young) == pause


def test_jitter_takes_a_tenth_off_at_most_and_stays_as_it_was_rolled() -> None:
    outage = Outage()
    for order in range(OPENING_ANSWERS):
        outage.observe(order, AWAY, 0.0, orders=100, canary=False, jitter=0.999)
    at = outage.canary_at(young_waits=False)
    assert FIRST_PAUSE_S * (1 - JITTER) <= at < FIRST_PAUSE_S
    assert outage.canary_at(young_waits=False) == at


def test_a_second_outage_begins_with_short_pauses_again() -> None:
    outage = opened()
    pauses(outage, AWAY, 9)
    observe(outage, 1, result=USABLE[0], now=500.0, canary=True)
    assert observe(outage, 1, 2, 3, 4, 5, now=600.0)[-1] is Turn.OPENED
    assert outage.since == 600.0
    assert outage.canary_at(young_waits=False) == 600.0 + FIRST_PAUSE_S


def test_past_outages_are_remembered_with_what_they_were() -> None:
    outage = opened(now=10.0)
    observe(outage, 9, result=Unavailable(Cause.TLS, "the certificate has expired"), now=20.0, canary=True)
    assert list(outage.past) == []
    observe(outage, 9, result=USABLE[0], now=70.0, canary=True)
    assert list(outage.past) == [PastOutage(10.0, 70.0, Cause.TLS, "the certificate has expired")]


def test_who_is_told_of_an_outage_has_it_as_it_is_and_its_pauses_with_it() -> None:
    finder, told = opened(now=10.0), Outage()
    observe(finder, 6, 7, now=14.0, canary=True)
    assert told.follow(finder.told(15.0), 115.0, jitter=0.0) is Turn.OPENED
    assert (told.since, told.canaries, told.cause, told.kind) == (110.0, 2, finder.cause, finder.kind)
    assert told.canary_at(young_waits=False) == finder.canary_at(young_waits=False) + 100.0
    assert told.follow(finder.told(16.0), 116.0, jitter=0.0) is Turn.NOTHING


def test_an_outage_that_is_over_for_others_is_over_here_and_takes_as_much_to_open_again() -> None:
    outage = opened(now=10.0)
    assert outage.follow(None, 30.0, jitter=0.0) is Turn.CLOSED
    assert (outage.is_open, outage.lasted, len(outage.past)) == (False, 20.0, 1)
    assert outage.follow(None, 31.0, jitter=0.0) is Turn.NOTHING
    assert set(observe(outage, 1, 2, 3, 4, now=32.0)) == {Turn.NOTHING}


def test_there_is_nothing_to_tell_while_it_is_up() -> None:
    assert Outage().told(5.0) is None
