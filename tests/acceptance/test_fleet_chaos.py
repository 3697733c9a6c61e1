"""A fleet through a kill, a stop and a failover, in short. `python -m tests.fleet` is the long form."""

from __future__ import annotations

import pytest

from tests.fleet.plan import Plan
from tests.fleet.run import play

pytestmark = pytest.mark.timeout(90)

PLAN = Plan(seed=7, daemons=3, orders=400, rate=200, trickle=10.0, lease=6.0)


async def test_no_promise_is_broken_by_a_kill_a_stop_and_a_failover_of_the_database() -> None:
    """And what died and hung is asked about by the others, within a lease and a heartbeat."""
    said: list[str] = []
    run, verdict = await play(PLAN, said.append)
    assert {name: found for name, found in verdict.broken.items() if found} == {}, said
    assert run.gate.acknowledged() == run.told() > PLAN.orders
    assert len(run.happened.killed) == len(run.happened.stopped) == 1
    assert run.happened.failover is not None
    assert verdict.longest_silence < 1.5 * PLAN.interval + 1.5 * PLAN.lease + 2.0
