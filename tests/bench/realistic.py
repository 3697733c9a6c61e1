"""A busy lot's day in short: 1,000 orders over 20 s, settled after 4 s in the median, told over the webhook."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from poller.core.cadence import Cadence
from tests.bench import scripted
from tests.bench.bare import poll
from tests.bench.daemon import FastPlatform, Settings, daemon, fast_platform, listening
from tests.bench.figures import Figure, median, percentile
from tests.bench.usage import Usage, usage_of

OVER_S = 20.0
MEDIAN_S, SIGMA = 4.0, 0.8  # of the log-normal time to settle
NEVER_S = 3600.0  # to the first query: not within the run
AHEAD_S = 2.0  # from drawing the orders up to the first of them


def orders_of(count: int, seed: int) -> list[tuple[float, str]]:
    """When each is handed in, by `time.monotonic()`, and its number, which says when it settles."""
    dice = random.Random(seed)
    start = time.monotonic() + AHEAD_S
    times = sorted(start + OVER_S * dice.random() for _ in range(count))
    return [
        (at, scripted.at(at + MEDIAN_S * dice.lognormvariate(0.0, SIGMA), index)) for index, at in enumerate(times)
    ]


async def follow(url: str, orders: Sequence[tuple[float, str]]) -> int:
    """What the daemon does of the asking, by a bare loop of one task an order; the number of queries."""
    cadence, asked = Cadence(), 0

    async def one(session: aiohttp.ClientSession, at: float, number: str) -> None:
        nonlocal asked
        await asyncio.sleep(max(at + cadence.initial_delay - time.monotonic(), 0))
        while True:
            asked += 1
            if await poll(session, url, number) != "0":
                return
            await asyncio.sleep(cadence.gap(time.monotonic() - at, random.random()))

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:
        await asyncio.gather(*(one(session, at, number) for at, number in orders))
    return asked


def bare(count: int, seed: int) -> float:
    """Processor time for a poll, in microseconds, of the bare loop."""
    with fast_platform() as platform:
        command = [sys.executable, "-m", "tests.bench.realistic", f"{platform.url}/x", str(count), str(seed)]
        taken = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return 1e6 * float(taken["cpu"]) / float(taken["polls"])


async def hand_in(url: str, orders: Sequence[tuple[float, str]]) -> None:
    """Each by a request of its own when its time has come."""
    async with aiohttp.ClientSession() as session:

        async def one(at: float, number: str) -> None:
            await asyncio.sleep(max(at - time.monotonic(), 0))
            async with session.post(f"{url}/v1/orders", json={"pay_partner": number}) as response:
                assert response.status == 201

        await asyncio.gather(*(one(at, number) for at, number in orders))


def until_told(platform: FastPlatform, count: int) -> dict[str, Any]:
    """What the platform saw, once so many notices have come to the webhook."""
    stats = platform.stats()
    while stats["notices"] < count:
        time.sleep(0.2)
        stats = platform.stats()
    return stats


@dataclass(frozen=True, slots=True)
class Followed:
    """One daemon's work: processor time in seconds, what the platform saw, and `/metrics` in the end."""

    usage: Usage
    stats: dict[str, Any]
    metrics: dict[str, float]

    @property
    def cpu_us(self) -> float:
        """Processor time for a poll, all else included."""
        return 1e6 * self.usage.cpu / float(self.stats["asked"])

    @property
    def on_time_percent(self) -> float:
        """Of the polls, those at most 20 ms late."""
        lateness = "poller_poll_lateness_seconds"
        return 100 * self.metrics[f'{lateness}_bucket{{le="0.02"}}'] / self.metrics[f"{lateness}_count"]


def by_bare_parts(count: int, seed: int) -> float:
    """Processor time for a poll, in microseconds, of the same job by bare parts."""
    with (
        fast_platform() as platform,
        TemporaryDirectory(prefix="poller-bench-") as folder,
        listening("-m", "tests.bench.bare_parts", folder, platform.url) as (port, pid),
    ):
        orders = orders_of(count, seed)
        before = usage_of(pid)
        asyncio.run(hand_in(f"http://127.0.0.1:{port}", orders))
        stats = until_told(platform, count)
        return 1e6 * usage_of(pid).since(before).cpu / float(stats["asked"])


def ours(count: int, seed: int) -> Followed:
    """Take the orders on, ask, and tell of their ends."""
    with fast_platform() as platform, daemon(platform.url, Settings(rate=1000, webhook=True)) as running:
        orders = orders_of(count, seed)
        before = running.usage()
        asyncio.run(hand_in(running.url, orders))
        until_told(platform, count)
        while running.ended() < count:
            time.sleep(0.2)
        return Followed(running.usage().since(before), platform.stats(), running.metrics())


def taking_on(count: int, seed: int) -> float:
    """Processor time in seconds for taking the same orders on at the same pace, and no more."""
    with fast_platform() as platform, daemon(platform.url, Settings(initial_delay=NEVER_S)) as running:
        orders = orders_of(count, seed)
        before = running.usage()
        asyncio.run(hand_in(running.url, orders))
        return running.usage().since(before).cpu


def run(count: int, rounds: int) -> list[Figure]:
    """Medians of so many rounds, the bare loop, the daemon and the bare parts by turns."""
    taken = [(bare(count, seed), ours(count, seed), by_bare_parts(count, seed)) for seed in range(1, rounds + 1)]
    followed = [mine for _, mine, _ in taken]
    intake = median([taking_on(count, seed) for seed in range(1, rounds + 1)])
    reference = median([one for one, _, _ in taken])
    polls = median([mine.stats["asked"] for mine in followed])
    where = f"realistic, {count} orders"
    return [
        Figure(where, "queries an order", polls / count),
        Figure(where, "bare loop", reference, "µs CPU a poll"),
        Figure(
            where,
            "CPU a poll, all of the daemon's, to the bare loop's",
            median([mine.cpu_us / one for one, mine, _ in taken]),
            target=("≤", 1.3),
        ),
        Figure(where, "of it: taking on, one by one", 1e6 * intake / polls / reference),
        Figure(
            where,
            "the same job by bare parts, to the bare loop's",
            median([parts / one for one, _, parts in taken]),
        ),
        Figure(
            where,
            "polls at most 20 ms late",
            median([mine.on_time_percent for mine in followed]),
            "%",
            ("≥", 99.0),
        ),
        Figure(
            where,
            "settled reply to notice, p99",
            median([1000 * percentile(mine.stats["settled_to_notice_s"], 0.99) for mine in followed]),
            "ms",
            ("≤", 20.0),
        ),
        Figure(
            where,
            "settled to the query that sees it, mean",
            median([1000 * _mean(mine.stats["settled_to_asked_s"]) for mine in followed]),
            "ms",
        ),
        Figure(where, "memory", median([mine.usage.rss for mine in followed]) / 1e6, "MB"),
    ]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    drawn = orders_of(int(sys.argv[2]), int(sys.argv[3]))
    started = time.process_time()
    polls = asyncio.run(follow(sys.argv[1], drawn))
    print(json.dumps({"polls": polls, "cpu": time.process_time() - started}))
