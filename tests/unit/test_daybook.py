"""The last day in hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from poller.core.orders import State
from poller.daybook import HOURS, PAGE, PAGES, Daybook
from poller.ports import Clock, Stamp
from poller.ports.records import Ended, Ending, Overview, Settlement, Since
from poller.timeline import Timeline

NOW = datetime(2026, 11, 2, 9, 42, tzinfo=UTC)
RUN = 1_000_000.0


class StandingClock:
    def __init__(self) -> None:
        self.now = NOW

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> datetime:
        return self.now

    def jitter(self) -> float:
        return 0.0

    def new_event_id(self) -> str:
        return "evt"


class Records:
    """Orders that have ended, and which pages of them were asked for."""

    def __init__(self) -> None:
        self.all: list[Ended] = []
        self.asked: list[Ending] = []

    def end(self, ago: float, seconds: float = 5.0, state: State = State.PAID) -> None:
        ending = Ending(RUN - ago, len(self.all) + 1)
        self.all.append(Ended(ending, state, NOW - timedelta(seconds=ago), seconds))

    async def ended(self, after: Ending, limit: int) -> list[Ended]:
        self.asked.append(after)
        return [one for one in self.all if one.ending > after][:limit]

    async def overview(self, since: Since, limit: int) -> Overview:
        raise NotImplementedError

    async def settlements(self, limit: int) -> list[Settlement]:
        raise NotImplementedError


@pytest.fixture
def records() -> Records:
    return Records()


def daybook(records: Records, clock: Clock | None = None) -> Daybook:
    clock = clock or StandingClock()
    return Daybook(records, clock, Timeline(clock, Stamp(RUN, RUN, NOW)))


async def test_a_day_has_24_hours_and_the_last_of_them_runs(records: Records) -> None:
    book = daybook(records)
    assert await book.catch_up()
    hours = book.hours()
    assert len(hours) == HOURS
    assert hours[-1].start == NOW.replace(minute=0)
    assert hours[0].start == NOW.replace(minute=0) - timedelta(hours=23)
    assert {hour.mean for hour in hours} == {None}


async def test_orders_are_counted_in_the_hour_in_which_they_ended(records: Records) -> None:
    for ago, state in ((3 * 3600, State.REJECTED), (2 * 3600, State.FAILED), (60, State.PAID), (30, State.PAID)):
        records.end(ago, state=state)
    book = daybook(records)
    await book.catch_up()
    counted = {hour.start.hour: hour.outcomes for hour in book.hours() if hour.outcomes}
    assert counted == {6: {State.REJECTED: 1}, 7: {State.FAILED: 1}, 9: {State.PAID: 2}}


async def test_times_are_told_within_a_tenth_of_what_the_platform_settled(records: Records) -> None:
    for number in range(1, 101):
        records.end(60, seconds=float(number), state=State.PAID if number % 2 else State.FAILED)
    records.end(60, seconds=9e9, state=State.CANCELLED)
    records.end(60, seconds=9e9, state=State.EXPIRED)
    book = daybook(records)
    await book.catch_up()
    hour = book.hours()[-1]
    assert hour.mean == pytest.approx(50.5)
    assert hour.half == pytest.approx(50.0, rel=0.1)
    assert hour.most == pytest.approx(95.0, rel=0.1)


async def test_what_was_read_is_not_read_again(records: Records) -> None:
    records.end(60)
    book = daybook(records)
    await book.catch_up()
    records.end(30)
    await book.catch_up()
    assert book.hours()[-1].outcomes == {State.PAID: 2}
    assert records.asked == [Ending(RUN - 86_400.0, 0), records.all[0].ending]


async def test_one_who_asks_waits_for_a_bounded_number_of_orders(records: Records) -> None:
    for number in range(PAGE * PAGES + 1):
        records.end(3600 - number * 0.01)
    book = daybook(records)
    assert not await book.catch_up()
    assert len(records.asked) == PAGES
    assert await book.catch_up()
    assert sum(hour.outcomes.get(State.PAID, 0) for hour in book.hours()) == PAGE * PAGES + 1


async def test_a_clock_that_jumps_to_and_fro_takes_no_hour_away_and_no_memory(records: Records) -> None:
    records.end(60)
    clock = StandingClock()
    book = daybook(records, clock)
    await book.catch_up()
    clock.now = datetime(1970, 1, 1, tzinfo=UTC)
    assert not any(hour.outcomes for hour in book.hours())
    clock.now = NOW
    assert book.hours()[-1].outcomes == {State.PAID: 1}
    for number in range(500):
        ending = Ending(RUN + number, number)
        records.all.append(Ended(ending, State.PAID, datetime.fromtimestamp(number * 3600, UTC), 1.0))
    await book.catch_up()
    assert len(book._tallies) < 100
