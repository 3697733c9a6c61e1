"""Histories of the simulated world, and proof that it catches what is broken."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.world.history import run
from tests.world.planted import PLANTS, Plant
from tests.world.promises import broken
from tests.world.truth import draw

HISTORIES = 1000
CAUGHT_WITHIN = 10_000

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("start", range(0, HISTORIES, 250))
def test_no_promise_is_broken_in_seeded_histories(start: int) -> None:
    faults = {seed: found for seed in range(start, start + 250) if (found := broken(run(seed)))}
    assert faults == {}


@pytest.mark.parametrize("learns", [False, True])
def test_a_seed_replays_exactly(learns: bool) -> None:
    seed = next(seed for seed in range(11, 100) if (draw(seed).queries_per_order is not None) is learns)
    first, second = run(seed), run(seed)
    assert first.record == second.record
    assert first.final == second.final


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS.keys())
def test_a_planted_fault_is_caught(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert _first_caught() is not None


def _first_caught() -> int | None:
    for seed in range(CAUGHT_WITHIN):
        try:
            if broken(run(seed)):
                return seed
        except ExceptionGroup:
            return seed  # a loop of the daemon died of it
    return None
