"""Chaos in short on the real daemon. `python -m tests.chaos` is the long form."""

from __future__ import annotations

import pytest

from tests.chaos.ground import prepared
from tests.chaos.plan import ALL, Kind, Plan
from tests.chaos.run import play

pytestmark = pytest.mark.timeout(150)


@pytest.mark.parametrize(
    "plan",
    [
        Plan(seed=849, count=6, kinds=frozenset({Kind.KILL, Kind.STOP}), orders_per_second=8.0),
        Plan(seed=3, count=5, kinds=ALL, orders_per_second=3.0, calm=(0.5, 1.5)),
    ],
    ids=["kills and stops", "all faults"],
)
async def test_no_promise_is_broken_by_chaos(plan: Plan) -> None:
    said: list[str] = []
    with prepared(plan) as ground:
        if ground.skipped:
            pytest.skip("; ".join(ground.skipped.values()))
        run, verdict = await play(plan, ground, said.append)
    assert {name: found for name, found in verdict.broken.items() if found} == {}, said
    assert run.gate.acknowledged() == run.told() > 0
    assert run.lives.kills() == plan.count
