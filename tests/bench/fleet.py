"""Daemons on one PostgreSQL, as fast as they go: what they and what PostgreSQL take, and a job queue beside them.

The course is that of `saturation`, and of the peers: orders of five queries each, all in the store when it begins,
measured until the last outcome is recorded. PostgreSQL syncs every commit.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tests.bench import scripted
from tests.bench.daemon import Daemon, FastPlatform, Settings, daemon, fast_platform
from tests.bench.figures import Figure, median
from tests.bench.peers import postgres
from tests.bench.peers.measure import measure
from tests.bench.peers.processes import cpu_s
from tests.bench.saturation import QUERIES
from tests.bench.usage import usage_of

CONNECTIONS = 100
PEER = "procrastinate"
PEER_ORDERS = 400
PER_1000 = "PostgreSQL, for 1,000 polls"


@dataclass(frozen=True, slots=True)
class Taken:
    """By one run: polls per second, and processor time for a poll, in microseconds, by who took it."""

    polls_per_s: float
    daemons: float
    database: float
    platform: float

    @property
    def cores(self) -> float:
        """How many were at work."""
        return self.polls_per_s * (self.daemons + self.database + self.platform) / 1e6


def taken_by(daemons: int, orders: int) -> Taken:
    """So many daemons over so many orders of `QUERIES` queries."""
    hand_in = 2.0 + orders / 1000  # by then all are on disk, and the first query is due
    with ExitStack() as stack:
        platform = stack.enter_context(fast_platform())
        database = stack.enter_context(postgres.database())
        settings = Settings(
            CONNECTIONS, initial_delay=hand_in, min_interval=0.001, age_fraction=0.0001, store=database.url
        )
        fleet = [stack.enter_context(daemon(platform.url, settings)) for _ in range(daemons)]
        for number, one in enumerate(fleet):
            one.submit([scripted.after(QUERIES, index) for index in range(number, orders, daemons)])
        assert platform.stats()["asked"] == 0
        before = _used(fleet, database.pid, platform)
        stats = _until_ended(fleet, platform, orders)
        used = [late - early for early, late in zip(before, _used(fleet, database.pid, platform), strict=True)]
    assert stats["asked"] == orders * QUERIES
    polls_per_s = stats["asked"] / (stats["last_at"] - stats["first_at"])
    return Taken(polls_per_s, *(1e6 * seconds / stats["asked"] for seconds in used))


def run(fleets: tuple[int, ...], orders: int, rounds: int) -> list[Figure]:
    """Medians of so many rounds for each size of a fleet, then the job queue, where it is installed."""
    figures = []
    for size in fleets:
        taken = [taken_by(size, orders) for _ in range(rounds)]
        figures += _figures(f"fleet, {size} daemon{'s' if size > 1 else ''}", taken)
    measured = measure([PEER], PEER_ORDERS, QUERIES, CONNECTIONS, PEER_ORDERS)
    for name, reason in measured["skipped"].items():
        print(f"{name} skipped, {reason}", file=sys.stderr)
    ours = median([figure.value for figure in figures if figure.name == PER_1000])
    return figures + [figure for peer in measured["peers"] for figure in _beside(peer, ours)]


def _figures(where: str, taken: list[Taken]) -> list[Figure]:
    found = [
        ("polls", median([one.polls_per_s for one in taken]), "a second"),
        ("daemons", median([one.daemons for one in taken]), "µs CPU a poll"),
        ("PostgreSQL", median([one.database for one in taken]), "µs CPU a poll"),
        ("platform", median([one.platform for one in taken]), "µs CPU a poll"),
        (f"cores at work, of {os.cpu_count()}", median([one.cores for one in taken]), ""),
        (PER_1000, median([one.database for one in taken]), "ms CPU"),
    ]
    return [Figure(where, name, value, unit) for name, value, unit in found]


def _beside(peer: dict[str, Any], ours: float) -> list[Figure]:
    where = f"fleet, beside {peer['name']} {peer['version']}"
    its = peer["cpu_us_per_poll_in_database"]
    return [
        Figure(where, "polls", peer["polls_per_s"], "a second"),
        Figure(where, "its worker", peer["cpu_us_per_poll"] - its, "µs CPU a poll"),
        Figure(where, PER_1000, its, "ms CPU"),
        Figure(where, "PostgreSQL for a poll of the fleet's, to that", ours / its),
    ]


def _used(fleet: list[Daemon], database: int, platform: FastPlatform) -> tuple[float, float, float]:
    """Seconds of processor time so far: the daemons, PostgreSQL with all its processes, the platform."""
    return sum(one.usage().cpu for one in fleet), cpu_s(database), usage_of(platform.pid).cpu


def _until_ended(fleet: list[Daemon], platform: FastPlatform, orders: int) -> dict[str, Any]:
    while sum(one.ended() for one in fleet) < orders:
        time.sleep(0.1)
    return platform.stats()
