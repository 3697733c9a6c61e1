"""What a run does, all of it drawn from one seed: which faults, how many, and the orders meanwhile."""

from __future__ import annotations

import enum
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass

RATE = 60  # queries a second that the daemon may send
QUERY_TIMEOUT_S = 3.0


class Kind(enum.StrEnum):
    KILL = "kill"
    STOP = "stop"  # SIGSTOP and SIGCONT, SIGTERM
    NETWORK = "network"
    DISK = "disk"


ALL = frozenset(Kind)
WEATHER = frozenset({Kind.NETWORK, Kind.DISK})  # what befalls the machine, whichever process lives on it


@dataclass(frozen=True, slots=True)
class Plan:
    """`count` is the number of kills or, where `kinds` has none, of faults of those kinds.

    `calm` are the shortest and the longest time between two network or disk faults, in seconds.
    """

    seed: int
    count: int
    kinds: frozenset[Kind] = ALL
    orders_per_second: float = 5.0
    calm: tuple[float, float] = (4.0, 12.0)


@dataclass(frozen=True, slots=True)
class Act:
    """A signal to the daemon, `after` seconds from the act before or from the beginning of its life."""

    after: float
    signal: signal.Signals


Fate = tuple[Act, ...]
"""What one life is going to meet, in order. It ends with SIGKILL or SIGTERM; an empty one is left alone."""


def fates(plan: Plan) -> Iterator[Fate]:
    """The lives to be led until the last kill; none where the plan has no fault that concerns a process."""
    rng = random.Random(f"{plan.seed}:fates")
    kills, stops = Kind.KILL in plan.kinds, Kind.STOP in plan.kinds
    if not (kills or stops):
        return
    left = plan.count
    while left > 0:
        stopped = stops and (not kills or rng.random() < 0.08)
        fate = _stopped(rng, kills=kills) if stopped else (Act(_lifetime(rng), signal.SIGKILL),)
        left -= not kills or fate[-1].signal is signal.SIGKILL
        yield fate


def _lifetime(rng: random.Random) -> float:
    """Mostly short, so that many die while they start; now and then long enough for a steady state."""
    return rng.uniform(0.0, 1.5) if rng.random() < 0.95 else rng.uniform(1.5, 5.0)


def _stopped(rng: random.Random, *, kills: bool) -> Fate:
    if rng.random() < 0.4:
        drain = (Act(rng.uniform(0.3, 2.5), signal.SIGTERM),)
        return (*drain, Act(rng.uniform(0.0, 0.2), signal.SIGTERM)) if rng.random() < 0.2 else drain
    frozen = (Act(rng.uniform(0.0, 2.0), signal.SIGSTOP),)
    end = signal.SIGKILL if kills else signal.SIGTERM
    if kills and rng.random() < 0.3:
        return (*frozen, Act(rng.uniform(0.2, 2.0), end))  # it never wakes
    return (*frozen, Act(rng.uniform(0.5, 4.0), signal.SIGCONT), Act(rng.uniform(0.3, 2.0), end))


_FORMS = (
    (30, "settle-{s:.2f}s"),
    (6, "fail-{s:.2f}s"),
    (8, "paid-after-{n}-queries"),
    (4, "failed-after-{n}-queries"),
    (4, "reject"),
    (5, "error500-{n}-{o}"),
    (3, "error500-{s:.2f}s-{o}"),
    (2, "busy503-{n}-{o}"),
    (4, "nostatus-{n}-{o}"),
    (6, "hangup-{n}-{o}"),
    (9, "garbage-{n}-{o}"),
    (1, "garbage-huge-{n}-{o}"),
    (1, "garbage-drip-1-{o}"),
    (8, "slow-{q:.2f}s-x{n}-{o}"),
    (1, "slow-4s-x1-{o}"),  # later than the daemon waits
    (5, "contradict-{q:.2f}s"),
)


def number(rng: random.Random, count: int) -> str:
    """The number of the order that comes as number `count`: what it begins with says what it does."""
    [form] = rng.choices([form for _, form in _FORMS], [weight for weight, _ in _FORMS])
    words = form.format(
        s=rng.uniform(0.1, 6.0),
        q=rng.uniform(0.2, 2.5),
        n=rng.randint(1, 3),
        o="paid" if rng.random() < 0.6 else "failed",
    )
    return f"{words}-{count:07}"
