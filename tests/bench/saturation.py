"""As fast as it goes: orders of five queries each, the store and the log on, beside the bare loop."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from tests.bench import scripted
from tests.bench.daemon import Settings, daemon, fast_platform
from tests.bench.figures import Figure, median

QUERIES = 5
MANY_QUERIES = 30  # of fewer orders: what is left is the price of a poll, apart from that of an end


@dataclass(frozen=True, slots=True)
class Taken:
    """By one run: polls per second, processor time for a poll in microseconds, memory in bytes."""

    polls_per_s: float
    cpu_us: float
    rss: float = 0.0


def bare(connections: int, orders: int, queries: int) -> Taken:
    """The bare loop."""
    with fast_platform() as platform:
        command = [sys.executable, "-m", "tests.bench.bare", f"{platform.url}/x"]
        done = subprocess.run(
            [*command, str(connections), str(orders), str(queries)], stdout=subprocess.PIPE, check=True
        )
    taken = json.loads(done.stdout)
    return Taken(taken["polls"] / taken["seconds"], 1e6 * taken["cpu"] / taken["polls"])


def ours(connections: int, orders: int, queries: int) -> Taken:
    """The daemon, from the first query to the last order's line in the log."""
    hand_in = 2.0 + orders / 1000  # by then all are on disk, and the first query is due
    settings = Settings(connections, initial_delay=hand_in, min_interval=0.001, age_fraction=0.0001)
    with fast_platform() as platform, daemon(platform.url, settings) as running:
        running.submit([scripted.after(queries, index) for index in range(orders)])
        assert platform.stats()["asked"] == 0
        before = running.usage()
        stats: dict[str, Any] = platform.stats()
        while stats["settled"] < orders:
            time.sleep(0.1)
            stats = platform.stats()
        while running.ended() < orders:
            time.sleep(0.05)
        used = running.usage().since(before)
    seconds = stats["last_at"] - stats["first_at"]
    assert stats["asked"] == orders * queries
    return Taken(stats["asked"] / seconds, 1e6 * used.cpu / stats["asked"], used.rss)


def run(orders: int, connections: tuple[int, ...], rounds: int) -> list[Figure]:
    """Medians of so many rounds, the bare loop and the daemon by turns."""
    figures = []
    for places in connections:
        pairs = [(bare(places, orders, QUERIES), ours(places, orders, QUERIES)) for _ in range(rounds)]
        where = f"saturation, {places} connections"
        figures += [
            Figure(where, "bare loop", median([one.polls_per_s for one, _ in pairs]), "polls/s"),
            Figure(where, "bare loop", median([one.cpu_us for one, _ in pairs]), "µs CPU a poll"),
            Figure(
                where,
                "polls/s to the bare loop's",
                median([mine.polls_per_s / one.polls_per_s for one, mine in pairs]),
                target=("≥", 0.9),
            ),
            Figure(
                where,
                "CPU a poll to the bare loop's",
                median([mine.cpu_us / one.cpu_us for one, mine in pairs]),
                target=("≤", 1.15),
            ),
            Figure(where, "memory", max(mine.rss for _, mine in pairs) / 1e6, "MB"),
        ]
    return [*figures, *_apart(orders, connections[0])]


def _apart(orders: int, connections: int) -> list[Figure]:
    """The price of a poll and that of an order's end, in polls of the bare loop: two runs, two unknowns."""
    few = orders * QUERIES // MANY_QUERIES
    one = bare(connections, orders, QUERIES).cpu_us
    short, long = ours(connections, orders, QUERIES).cpu_us, ours(connections, few, MANY_QUERIES).cpu_us
    end = (short - long) / (1 / QUERIES - 1 / MANY_QUERIES)
    where = "saturation, apart"
    return [
        Figure(where, "a poll that ends nothing, to the bare loop's", (long - end / MANY_QUERIES) / one),
        Figure(where, "an order's end, in polls of the bare loop", end / one),
    ]
