"""The benchmark suite in short: each scenario runs, small, and counts what it says it counts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.bench import backlog, fleet, pictures, raw, realistic, saturation, scripted
from tests.bench.daemon import Settings, daemon, fast_platform
from tests.bench.figures import Figure, percentile
from tests.bench.load import post


def found(figures: list[Figure], name: str) -> float:
    (value,) = (figure.value for figure in figures if figure.name == name)
    return value


def test_a_figure_meets_its_target_or_does_not() -> None:
    assert Figure("s", "n", 1.0, target=("≤", 1.0)).is_met is True
    assert Figure("s", "n", 1.1, target=("≤", 1.0)).is_met is False
    assert Figure("s", "n", 0.9, target=("≥", 0.9)).is_met is True
    assert Figure("s", "n", 0.8, target=("≥", 0.9)).is_met is False
    assert Figure("s", "n", 0.8).is_met is None


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([1.0, 2.0, 3.0], 0.99) == 3.0
    assert percentile([float(value) for value in range(1000)], 0.99) == 990.0


@pytest.mark.parametrize(
    ("value", "target", "used"),
    [(2.0, ("≤", 4.0), 0.5), (2.0, ("≥", 4.0), 2.0), (0.0, ("≤", 0.0), 0.0), (1.0, ("≤", 0.0), float("inf"))],
)
def test_a_bar_says_how_much_of_its_target_a_figure_takes(
    value: float, target: tuple[str, float], used: float
) -> None:
    assert pictures.used_of(Figure("s", "n", value, target=target)) == used


def test_the_same_figures_make_the_same_picture(tmp_path: Path) -> None:
    figures = [Figure("s", "met", 0.5, target=("≤", 1.0)), Figure("s", "missed", 5.0, target=("≤", 1.0))]
    first = pictures.draw(figures, tmp_path).read_bytes()
    assert first == pictures.draw(figures, tmp_path).read_bytes()
    assert b"missed" in first


def test_the_bare_loop_and_the_daemon_do_the_same_work() -> None:
    assert saturation.bare(4, orders=20, queries=3).polls_per_s > 0
    assert saturation.ours(4, orders=20, queries=3).cpu_us > 0  # it asserts that each was asked as often


def test_a_fleet_does_the_work_of_one_and_what_its_database_takes_is_counted() -> None:
    taken = fleet.taken_by(2, orders=40)  # it asserts that each was asked as often
    assert taken.polls_per_s > 0
    assert taken.daemons > taken.platform > 0
    assert taken.cores > 0


def test_a_realistic_minute_is_followed_to_its_last_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realistic, "OVER_S", 0.5)
    monkeypatch.setattr(realistic, "MEDIAN_S", 0.2)
    with fast_platform() as platform, daemon(platform.url, Settings(webhook=True)) as running:
        orders = realistic.orders_of(5, seed=1)
        asyncio.run(realistic.hand_in(running.url, orders))
        stats = realistic.until_told(platform, len(orders))
    assert (stats["settled"], stats["notices"]) == (5, 5)
    assert stats["asked"] >= 5


def test_a_backlog_is_asked_about_at_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "POLLS_PER_S", 500.0)
    monkeypatch.setattr(backlog, "WARM_UP_S", 0.5)
    figures = backlog.run((2000,), seconds=2.0)
    assert found(figures, "kept up") == pytest.approx(1.0, abs=0.3)
    assert found(figures, "ready after") > 0


def test_orders_are_taken_on_one_by_one_and_in_batches() -> None:
    with fast_platform() as platform, daemon(platform.url, Settings(initial_delay=60.0)) as running:
        singly = post(running.port, [{"pay_partner": scripted.never(index)} for index in range(20)], 4)
        batch = post(running.port, [[{"pay_partner": scripted.never(100 + index)} for index in range(50)]], 1)
        pending = running.metrics()["poller_orders_pending"]
    assert (len(singly.times), len(batch.times), pending) == (20, 1, 70)
    assert raw.orders_per_s(1) > 0
