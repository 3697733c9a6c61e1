"""The daemon's own times, through restarts and a wall clock that lies."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.ports import Stamp
from poller.timeline import CATCH_UP_S, Timeline

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class SetClock:
    """A clock that stands where it is put."""

    mono: float = 1000.0
    now: datetime = field(default=NOON)

    def monotonic(self) -> float:
        return self.mono

    def wall(self) -> datetime:
        return self.now

    def jitter(self) -> float:
        return 0.0

    def new_event_id(self) -> str:
        return "evt"

    def pass_by(self, seconds: float) -> None:
        self.mono += seconds
        self.now += timedelta(seconds=seconds)


def restarted(last: Stamp, wall: datetime) -> Timeline:
    """A daemon that starts on a machine whose monotonic clock has begun anew."""
    return Timeline(SetClock(3.0, wall), last)


def test_both_times_start_at_nothing_with_a_new_store_and_pass_as_time_does() -> None:
    clock = SetClock()
    timeline = Timeline(clock, None)
    assert (timeline.run(), timeline.schedule()) == (0.0, 0.0)
    clock.pass_by(12.5)
    assert (timeline.run(), timeline.schedule()) == (12.5, 12.5)
    assert timeline.stamp() == Stamp(12.5, 12.5, clock.wall())


@pytest.mark.parametrize("step", [timedelta(days=1), timedelta(days=-1), EPOCH - NOON])
def test_a_wall_clock_that_is_set_moves_neither_time(step: timedelta) -> None:
    clock = SetClock()
    timeline = Timeline(clock, None)
    clock.pass_by(10.0)
    clock.now += step
    assert (timeline.run(), timeline.schedule()) == (10.0, 10.0)
    assert timeline.wall_at(15.0) == clock.wall() + timedelta(seconds=5)


def test_an_absence_ages_nothing_and_makes_due_what_fell_due_meanwhile() -> None:
    timeline = restarted(Stamp(500.0, 800.0, NOON), NOON + timedelta(seconds=60))
    assert timeline.run() == pytest.approx(500.0)
    assert timeline.schedule() == pytest.approx(860.0)


@pytest.mark.parametrize(
    "wall",
    [
        NOON - timedelta(seconds=1),
        NOON - timedelta(days=1),
        EPOCH,
        NOON + timedelta(days=31),
        NOON.replace(year=2099),
    ],
)
def test_a_step_back_or_a_long_absence_makes_everything_due_at_once_and_ages_nothing(wall: datetime) -> None:
    timeline = restarted(Stamp(500.0, 800.0, NOON), wall)
    assert timeline.run() == pytest.approx(500.0)
    assert timeline.schedule() == pytest.approx(800.0 + CATCH_UP_S)


def test_a_start_in_1970_that_is_corrected_later_costs_only_an_early_query() -> None:
    clock = SetClock(3.0, EPOCH)
    timeline = Timeline(clock, Stamp(500.0, 800.0, NOON))
    clock.pass_by(30.0)
    clock.now = NOON
    assert timeline.run() == pytest.approx(530.0)
    again = restarted(timeline.stamp(), NOON + timedelta(seconds=5))
    assert again.run() == pytest.approx(530.0)
    assert again.schedule() == pytest.approx(800.0 + CATCH_UP_S + 30.0 + 5.0)


def test_the_wall_time_and_the_wait_of_what_is_due_are_told_from_the_schedule() -> None:
    timeline = restarted(Stamp(500.0, 800.0, NOON), NOON + timedelta(seconds=60))
    wall = NOON + timedelta(seconds=60)
    assert timeline.wall_at(870.0) == wall + timedelta(seconds=10)
    assert timeline.wall_at(850.0) == wall - timedelta(seconds=10)
    assert timeline.until(870.0) == pytest.approx(10.0)
    assert timeline.until(850.0) == 0.0


def test_a_daemon_of_a_fleet_moves_forward_to_the_others_and_never_back() -> None:
    timeline = restarted(Stamp(500.0, 800.0, NOON), NOON)
    timeline.advance(510.0, 850.0)
    assert (timeline.run(), timeline.schedule()) == (510.0, 850.0)
    timeline.advance(400.0, 900.0)
    assert (timeline.run(), timeline.schedule()) == (510.0, 900.0)
    timeline.advance(520.0, 100.0)
    assert (timeline.run(), timeline.schedule()) == (520.0, 910.0)


@given(
    st.lists(
        st.tuples(st.floats(0, 1e5), st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC))),
        max_size=5,
    )
)
def test_however_the_wall_clock_lies_running_time_is_what_passed_and_the_schedule_never_falls_behind(
    lives: list[tuple[float, datetime, datetime]],
) -> None:
    last: Stamp | None = None
    total = 0.0
    for seconds, start, stop in lives:
        clock = SetClock(7.0, start)
        timeline = Timeline(clock, last)
        clock.mono += seconds
        clock.now = stop
        stamp = timeline.stamp()
        total += seconds
        before = last.schedule if last else 0.0
        assert stamp.run == pytest.approx(total, abs=1e-3)
        assert before + seconds - 1e-3 <= stamp.schedule <= before + seconds + CATCH_UP_S + 1e-3
        last = stamp
