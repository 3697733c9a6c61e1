"""What a fleet's world decides by its seed: one daemon's plan, and what befalls the daemons and the database."""

from __future__ import annotations

import enum
import random
from dataclasses import dataclass, replace

from tests.world.truth import Plan, draw


class Blow(enum.StrEnum):
    """What befalls a daemon, or the database that all share, for some seconds."""

    KILL = "kill"  # -9, and it is started again
    FREEZE = "freeze"  # SIGSTOP, and it goes on
    CUT = "cut"  # off from the database
    LEAVE = "leave"  # drained, and it joins again
    STOP_DATABASE = "stop the database"
    CRASH_DATABASE = "crash the database"  # what was not on disk yet is gone


class Place(enum.StrEnum):
    """Where a daemon is hit."""

    ANYWHERE = "anywhere"  # it sends or gets something
    QUERY = "query"  # one has just gone out, or its answer has come
    COMMIT = "commit"  # it is about to go out, or has been executed
    RATE = "rate"  # the same, of a reservation of moments for queries


@dataclass(frozen=True, slots=True)
class Fault:
    """`steps` is how many such places the daemon passes from `at` (world seconds) on before it is hit."""

    at: float
    place: Place
    steps: int
    blow: Blow
    daemon: int
    seconds: float


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """`joins` is when each daemon starts. With `steady`, nothing befalls daemon 0 and the database."""

    world: Plan
    joins: list[float]
    steady: bool
    faults: list[Fault]
    boots: list[float]
    patience: float  # for so many seconds at most everything may take to end
    latency: float  # to the database, there or back, in seconds
    loses_hints: float
    wall_steps: list[list[tuple[float, float]]]


SECONDS = {
    Blow.KILL: (0.5, 5.0, 30.0),
    Blow.FREEZE: (1.0, 8.0, 16.0, 20.0, 30.0, 60.0),
    Blow.CUT: (1.0, 8.0, 14.0, 20.0, 40.0),
    Blow.LEAVE: (1.0, 20.0),
    Blow.STOP_DATABASE: (0.5, 5.0, 15.0),
    Blow.CRASH_DATABASE: (0.5, 5.0, 15.0),
}
OF_THE_DATABASE = (Blow.STOP_DATABASE, Blow.CRASH_DATABASE)


def draw_fleet(seed: int) -> FleetPlan:
    """The plan of a seed, always the same."""
    world = draw(seed)
    dice = random.Random(-1 - seed)
    calm, steady = world.calm, world.calm or dice.random() < 0.5
    lasts = min(world.lasts, 60.0)
    daemons = dice.choice([2, 2, 2, 3, 3, 4])
    blows = [Blow.KILL, Blow.FREEZE, Blow.FREEZE, Blow.CUT, Blow.CUT, Blow.LEAVE, *OF_THE_DATABASE]
    faults: list[Fault] = []
    for _ in range(0 if calm else dice.choice([1, 2, 3, 5])):
        blow, daemon = dice.choice(blows), dice.randrange(1 if steady else 0, daemons)
        if blow in OF_THE_DATABASE and steady:
            blow = Blow.FREEZE
        place = dice.choice([*Place])
        steps = int(dice.expovariate(1 / 20.0 if place is Place.ANYWHERE else 1 / 2.0))
        faults.append(Fault(dice.uniform(1.0, lasts), place, steps, blow, daemon, dice.choice(SECONDS[blow])))
    faults.sort(key=lambda fault: fault.at)
    fates = {key: replace(fate, settles_at=min(fate.settles_at, lasts)) for key, fate in world.fates.items()}
    return FleetPlan(
        world=replace(
            world,
            lasts=lasts,
            arrivals={key: min(at, 0.5 * lasts) for key, at in world.arrivals.items()},
            fates=fates,
            crashes=[],
            stops=[],
            latency=world.latency if calm else dice.choice([world.latency, 3.0]),
            full_disk=[(fault.at, fault.at + fault.seconds + 30.0) for fault in faults],
        ),
        joins=[
            0.0 if number == 0 or dice.random() < 0.7 else dice.uniform(0.0, lasts) for number in range(daemons)
        ],
        steady=steady,
        faults=faults,
        boots=[dice.choice([0.0, dice.uniform(-1e6, 0.0)]) for _ in range(daemons)],
        patience=dice.choice([60.0, 60.0, 60.0, 60.0, 60.0, 240.0]),
        latency=dice.choice([0.0005, 0.002, 0.02]),
        loses_hints=dice.choice([0.0, 0.0, 0.5]),
        wall_steps=[world.wall_steps if dice.random() < 0.5 else [] for _ in range(daemons)],
    )
