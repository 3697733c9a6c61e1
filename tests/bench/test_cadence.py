"""The yardstick is checked against brute force, the replay against what is counted by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from poller.core.cadence import Cadence
from tests.bench.cadence import comparison, pictures, print_table, run, schedules, trial
from tests.bench.cadence.optimum import Bounds, Optimum
from tests.bench.cadence.replay import replay
from tests.bench.cadence.worlds import World, worlds


def small(*times: float) -> World:
    return World("small", "for a test", np.array(sorted(times)))


def test_a_query_sees_what_settled_up_to_its_own_age() -> None:
    found = replay(small(0.5, 1.0, 1.5, 4.0), [np.array([1.0, 3.0, 6.0])])
    assert found.delays.tolist() == [[0.5, 0.0, 1.5, 2.0]]
    assert found.asked.tolist() == [[1.0, 1.0, 2.0, 3.0]]
    assert (found.queries, found.mean, found.p99) == (1.75, 1.0, 2.0)


def test_an_order_that_outlives_its_schedule_is_lost_and_has_used_all_queries() -> None:
    found = replay(small(1.0, 70.0, 100.0), [np.array([2.0, 80.0])])
    assert found.lost == pytest.approx(1 / 3)
    assert found.queries == pytest.approx(5 / 3)
    assert found.mean == pytest.approx(5.5)
    assert found.waiting == pytest.approx(1.0)
    assert found.p99 == np.inf


def test_paths_count_by_their_weights() -> None:
    found = replay(small(1.0), [np.array([1.0]), np.array([0.5, 3.0])], [0.25, 0.75])
    assert (found.queries, found.mean) == (1.75, 1.5)


def test_the_schedules_of_others_are_asked_at_the_ages_that_they_say() -> None:
    world = small(700.0)
    assert schedules.roncoo_pay()[0].tolist() == [2, 5, 10, 20, 40, 70]
    assert schedules.hyperswitch()[0].tolist() == [60, 360, 660, 960, 1260, 1560]
    assert schedules.grid(world, 350.0)[0].tolist() == [350, 700]
    assert schedules.doubling(small(14.0), 1.0)[0].tolist() == [1, 3, 7, 15]
    paths = schedules.jeepay(world)
    assert all(path[:6].tolist() == [5, 10, 15, 20, 25, 30] for path in paths)
    assert all(600 <= path[6] < 660 and path[7] == path[6] + 60 for path in paths)


def test_our_own_rule_is_replayed_as_the_daemon_has_it() -> None:
    path = schedules.proportional(small(40.0), Cadence(), seed=3, paths=1)[0]
    gaps = np.diff(path)
    assert path[0] == 0.5
    assert (gaps[path[:-1] <= 10.0] == 1.0).all()
    assert (gaps <= np.maximum(path[:-1] * 0.1, 1.0) + 1e-9).all()
    assert (gaps >= np.maximum(path[:-1] * 0.09, 1.0) - 1e-9).all()


@pytest.mark.parametrize("waiting_only", [False, True])
@pytest.mark.parametrize("price", [0.01, 0.1, 0.4, 1.0, 3.0])
def test_no_schedule_beats_the_optimum(price: float, waiting_only: bool) -> None:
    """Every schedule on a small grid is tried, one by one."""
    world = small(0.3, 0.7, 1.2, 2.1, 2.2, 2.9, 3.6, 4.4, 61.0)
    if not waiting_only:
        world = small(*world.times[:-1])
    grid = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 59.5, 61.0])
    bounds = Bounds(initial_delay=0.5, min_interval=1.0, max_interval=57.0)

    def cost(path: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        found = replay(world, [path])
        counted = world.times <= (60.0 if waiting_only else np.inf)
        return float(found.delays[0, counted].sum() / len(world.times) + price * found.queries)

    def allowed(path: tuple[float, ...]) -> bool:
        gaps = np.diff(path)
        return bool(path[-1] >= world.times[-1] and (gaps >= 1.0).all() and (gaps <= 57.0).all())

    every = (path for size in range(1, 10) for path in itertools.combinations(grid[1:].tolist(), size))
    least = min(cost(np.array(path)) for path in every if allowed(path))
    best = Optimum(world, bounds, waiting_only=waiting_only, grid=grid).schedule(price)
    assert allowed(tuple(best))
    assert cost(best) == pytest.approx(least)


def test_the_optimum_keeps_the_bounds_and_the_budget() -> None:
    for world in worlds():
        optimum = Optimum(world, Bounds())
        path = optimum.schedule(0.5)
        assert path[0] >= 0.5
        assert (np.diff(path) >= 1.0 - 1e-9).all()
        assert (np.diff(path) <= 900.0 + 1e-9).all()
        assert optimum.at(2.5).queries == pytest.approx(2.5, abs=0.01)


def test_no_schedule_that_keeps_the_bounds_is_below_the_frontier() -> None:
    for world in worlds():
        optimum = Optimum(world, Bounds())
        for paths in (
            schedules.proportional(world, Cadence(), seed=0, paths=4),
            schedules.doubling(world, 1.0),
            schedules.grid(world, 5.0),
        ):
            found = replay(world, paths)
            # the grid of ages may cost it a part in a thousand
            assert optimum.at(found.queries).mean <= found.mean * 1.001


def test_the_optimum_says_where_a_bound_stands_in_the_way_of_a_budget() -> None:
    optimum = Optimum(worlds()[2], Bounds())
    assert optimum.at(1.2).queries > 2.0  # stuck orders must be asked every 900 s
    assert optimum.at(500.0).queries < 30.0  # no order is asked within a second


def test_the_same_figures_make_the_same_table_and_pictures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trial, "HISTORIES", 1)
    monkeypatch.setattr(comparison, "PRICES", np.geomspace(1e-3, 300.0, 6))
    monkeypatch.setattr(comparison, "SETTINGS", ((0.5, 1.0, 0.1), (0.5, 1.0, 0.05)))
    results = run(seed=1)
    print_table(results)
    printed = capsys.readouterr().out
    assert all(target["target"] in printed for target in results["targets"])
    first, second = (pictures.draw(results, tmp_path / name) for name in ("first", "second"))
    assert [path.name for path in first] == ["cadence-fast.svg", "cadence-scan.svg", "cadence-mixed.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
