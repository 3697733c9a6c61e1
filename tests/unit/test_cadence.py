"""When to ask again: bounds that hold for every setting, age and jitter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.cadence import BACKOFF_CAP_S, JITTER, Cadence

ages = st.floats(0, 1e7)
jitters = st.floats(0, 1, exclude_max=True)
errors = st.integers(1, 10_000)
cadences = st.builds(
    lambda low, factor, fraction: Cadence(min_interval=low, max_interval=low * factor, age_fraction=fraction),
    st.floats(0.01, 100),
    st.floats(1, 1000),
    st.floats(0.001, 2),
)


@pytest.mark.parametrize(
    ("age", "gap"), [(0, 1.0), (9, 1.0), (10, 1.0), (60, 6.0), (3600, 360.0), (9000, 900.0), (1e6, 900.0)]
)
def test_the_gap_is_a_tenth_of_the_age_between_a_second_and_a_quarter_of_an_hour(age: float, gap: float) -> None:
    assert Cadence().gap(age, 0.0) == pytest.approx(gap)


@pytest.mark.parametrize(("count", "pause"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (5000, 60)])
def test_errors_double_the_pause_up_to_a_minute(count: int, pause: float) -> None:
    assert Cadence().backoff(count, 0.0, 0.0) == pytest.approx(pause)


def test_an_old_order_that_errs_is_asked_no_more_often_than_one_in_progress() -> None:
    assert Cadence().backoff(1, 6000.0, 0.0) == Cadence().gap(6000.0, 0.0) == pytest.approx(600.0)


@given(cadences, ages, jitters)
def test_a_gap_stays_within_its_bounds(cadence: Cadence, age: float, jitter: float) -> None:
    assert cadence.min_interval <= cadence.gap(age, jitter) <= cadence.max_interval


@given(cadences, ages, jitters)
def test_jitter_only_shortens_and_by_a_tenth_at_most(cadence: Cadence, age: float, jitter: float) -> None:
    full = cadence.gap(age, 0.0)
    assert full * (1 - JITTER) - 1e-9 <= cadence.gap(age, jitter) <= full


@given(cadences, ages, ages, jitters)
def test_gaps_never_shrink_as_an_order_grows_older(
    cadence: Cadence, one: float, other: float, jitter: float
) -> None:
    younger, older = sorted((one, other))
    assert cadence.gap(younger, jitter) <= cadence.gap(older, jitter)


@given(cadences, ages, jitters)
def test_news_is_late_by_at_most_the_configured_part_of_the_age_above_the_shortest_gap(
    cadence: Cadence, age: float, jitter: float
) -> None:
    assert cadence.gap(age, jitter) <= max(age * cadence.age_fraction, cadence.min_interval)


@given(cadences, errors, ages, jitters)
def test_a_backoff_stays_between_the_shortest_gap_and_its_cap(
    cadence: Cadence, count: int, age: float, jitter: float
) -> None:
    pause = cadence.backoff(count, age, jitter)
    cap = min(max(age * cadence.age_fraction, BACKOFF_CAP_S), cadence.max_interval)
    assert cadence.min_interval <= pause <= max(cap, cadence.min_interval)


@given(cadences, errors, ages)
def test_a_backoff_never_shrinks_with_one_more_error(cadence: Cadence, count: int, age: float) -> None:
    assert cadence.backoff(count, age, 0.0) <= cadence.backoff(count + 1, age, 0.0)


@given(cadences, errors, ages, jitters)
def test_an_order_that_errs_is_never_asked_more_often_than_its_age_calls_for(
    cadence: Cadence, count: int, age: float, jitter: float
) -> None:
    assert cadence.backoff(count, age, jitter) >= cadence.gap(age, jitter) * (1 - 1e-9)
