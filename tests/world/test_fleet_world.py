"""Histories of a fleet in the simulated world, proof that it catches what is broken, and that it is a world."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
import structlog

from tests.integration.postgres_server import shared_server
from tests.world.fleet import server as lockstep
from tests.world.fleet.history import FleetHistory, run_fleet
from tests.world.fleet.network import Network, Wire
from tests.world.fleet.plan import Blow, Fault, Place, draw_fleet
from tests.world.fleet.planted import FLEET_PLANTS
from tests.world.fleet.processes import FleetLoop, Process
from tests.world.fleet.promises import broken
from tests.world.fleet.server import Server

HISTORIES = 4
CAUGHT_WITHIN = 10  # from the seed where it is known to be caught
CAUGHT_AT = {
    "fence_left_out": 3,
    "lease_not_checked_before_a_send": 64,
    "holds_of_the_dead_not_freed": 6,
    "ended_by_whoever_wants": 3,
    "numbers_of_the_dead_forgotten": 3,
    "a_rate_for_each_daemon": 0,
}
MUCH_BEFALLS_IT = 93  # a crash that forgets, a cut, a stop
BUMP = "UPDATE sessions SET run = run + 1 WHERE id = 0"
RUN = "SELECT run FROM sessions"
LIFE = "SELECT stats_reset FROM pg_stat_bgwriter"
BEGIN_BEHIND = "BEGIN; SET LOCAL synchronous_commit = off"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server(shared_server().database_url)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _log_as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


@pytest.mark.parametrize("start", range(0, HISTORIES, 4))
def test_no_promise_is_broken_in_seeded_histories_of_a_fleet(server: Server, start: int) -> None:
    faults = {seed: found for seed in range(start, start + 4) if (found := broken(run_fleet(seed, server)))}
    assert faults == {}


def test_a_seed_of_a_fleet_replays_exactly_however_slow_postgresql_is(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_fleet(MUCH_BEFALLS_IT, server)
    monkeypatch.setattr(lockstep, "LOOK_S", 1e-5)
    second = run_fleet(MUCH_BEFALLS_IT, server)
    assert _lived(first) == _lived(second)
    assert not broken(second)


def _lived(history: FleetHistory) -> tuple[object, ...]:
    flights = [(flight.key, flight.by.name, flight.sent, flight.ended) for flight in history.flights]
    return history.record, history.final, history.ended_at, flights, [tuple(end) for end in history.ends]


@pytest.mark.parametrize("name", FLEET_PLANTS)
def test_a_fault_planted_in_a_fleet_is_caught(server: Server, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FLEET_PLANTS[name](monkeypatch)
    seeds = range(CAUGHT_AT[name], CAUGHT_AT[name] + CAUGHT_WITHIN)
    assert any(broken(run_fleet(seed, server)) for seed in seeds)


def test_who_was_paused_takes_no_lease_from_those_that_joined_meanwhile(server: Server) -> None:
    """It is ahead of all others then, and so is who hears of it: the others' leases are over, by that time."""
    seed = next(seed for seed in range(100) if draw_fleet(seed).world.calm and len(draw_fleet(seed).joins) == 3)
    pause = Fault(5.0, Place.ANYWHERE, 0, Blow.FREEZE, 0, 30.0)
    plan = replace(draw_fleet(seed), joins=[0.0, 20.0, 21.0], steady=False, faults=[pause])
    _, *joined = run_fleet(seed, server, plan).members
    assert [[len(process.sessions) for process in member.lives] for member in joined] == [[1], [1]]


# The world itself.

Scene = Callable[[Network], Awaitable[None]]


def play(server: Server, scene: Scene) -> None:
    """Run a scene in simulated time, over the empty store."""
    server.clean()
    loop = FleetLoop()
    asyncio.set_event_loop(loop)
    try:
        network = Network(loop, server, random.Random(0), 0.001, 0.0)
        loop.run_until_complete(scene(network))
        network.go_down()
        assert not loop.defects
    finally:
        loop.close()
        asyncio.set_event_loop(None)


async def inside(network: Network, process: Process, work: Coroutine[Any, Any, Any]) -> Any:
    """Have a process do something."""
    return await network.loop.create_task(work, context=process.context.copy())


async def wire(network: Network, process: Process) -> Wire:
    settings = {"lock_timeout": "4000", "idle_in_transaction_session_timeout": "5000"}
    connecting = network.connect("", timeout=5.0, command_timeout=9.0, server_settings=settings)
    connected: Wire = await inside(network, process, connecting)
    return connected


def test_a_frozen_process_goes_on_where_it_stopped(server: Server) -> None:
    async def scene(network: Network) -> None:
        process, turns = Process("a", 0.0), list[float]()

        async def turn() -> None:
            while len(turns) < 4:
                turns.append(network.loop.time())
                await asyncio.sleep(1.0)

        turning = asyncio.create_task(inside(network, process, turn()))
        await asyncio.sleep(2.5)
        process.frozen = True
        await asyncio.sleep(10.0)
        network.loop.thaw(process)
        await turning
        assert turns == pytest.approx([0.0, 1.0, 2.0, 12.5], abs=0.1)

    play(server, scene)


def test_a_statement_waits_for_a_lock_in_simulated_time(server: Server) -> None:
    """Until its own timeout, or until PostgreSQL ends the transaction of a daemon that says nothing in it."""

    async def scene(network: Network) -> None:
        holder, other = Process("holder", 0.0), Process("other", 0.0)
        holding, waiting = await wire(network, holder), await wire(network, other)
        await inside(network, holder, holding.execute("BEGIN"))
        await inside(network, holder, holding.execute(BUMP))
        since = network.loop.time()
        with pytest.raises(asyncpg.LockNotAvailableError):
            await inside(network, other, waiting.execute(BUMP))
        assert network.loop.time() - since == pytest.approx(4.0, abs=0.1)
        assert await inside(network, other, waiting.execute(BUMP)) == "UPDATE 1"
        assert network.loop.time() - since == pytest.approx(5.0, abs=0.1)
        await asyncio.sleep(0.1)
        with pytest.raises(asyncpg.InterfaceError):
            await inside(network, holder, holding.execute("COMMIT"))

    play(server, scene)


def test_over_a_cut_way_nothing_comes_until_it_is_mended(server: Server) -> None:
    """The daemon gives up after its own timeout, PostgreSQL once its peer is silent; then they start anew."""

    async def scene(network: Network) -> None:
        process = Process("a", 0.0)
        before = await wire(network, process)
        await inside(network, process, before.execute("BEGIN"))
        network.cut(process)
        since = network.loop.time()
        with pytest.raises(TimeoutError):
            await inside(network, process, before.execute(BUMP))
        with pytest.raises(TimeoutError):
            await wire(network, process)
        assert network.loop.time() - since == pytest.approx(9.0 + 5.0, abs=0.1)
        network.mend(process)
        after = await wire(network, process)
        assert await inside(network, process, after.fetchval(RUN)) == 0.0

    play(server, scene)


def test_a_crash_may_forget_the_last_of_what_did_not_wait_for_the_disk_and_nothing_else(server: Server) -> None:
    async def scene(network: Network) -> None:
        process, left, before = Process("a", 0.0), set[float](), 0.0
        for life in range(8):
            bumping = await wire(network, process)
            assert await inside(network, process, bumping.fetchval(LIFE)) == life
            for lasts in (False, True, False):
                await inside(network, process, bumping.execute("BEGIN" if lasts else BEGIN_BEHIND))
                await inside(network, process, bumping.execute(BUMP))
                await inside(network, process, bumping.execute("COMMIT"))
            network.crash()
            network.come_up()
            after = await inside(network, process, (await wire(network, process)).fetchval(RUN))
            left.add(after - before)
            before = after
        assert left == {2.0, 3.0}

    play(server, scene)


def test_an_end_in_the_name_of_a_dead_session_or_of_nobody_is_found(server: Server) -> None:
    history = run_fleet(1, server)
    assert history.ends
    number, writer, holder, _ = history.ends[0]
    assert not broken(history)
    history.ends = [
        (number, writer, holder, True),
        (number, writer, None, None),
        (number, "another", holder, False),
    ]
    assert len(broken(history)) == 3
