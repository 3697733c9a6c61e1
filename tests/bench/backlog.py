"""Many orders in flight, each asked about once a minute or more rarely: what they cost, and what a start takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from poller.core.orders import NewOrder, OrderKey
from poller.stores.sqlite import SqliteStore
from tests.bench import scripted
from tests.bench.daemon import Daemon, FastPlatform, Settings, daemon, fast_platform
from tests.bench.figures import Figure

POLLS_PER_S = 1667.0  # 100,000 once a minute, a million every ten minutes: the same work at ten times the orders
WARM_UP_S = 5.0
CHUNK = 1000


async def fill(path: Path, orders: int, interval: float) -> None:
    """A store with so many pending orders, due evenly over the first interval."""
    store = await SqliteStore.open(path)
    at = datetime.now(UTC)
    for start in range(0, orders, CHUNK):
        new = [
            NewOrder(OrderKey(scripted.PARK, scripted.never(index)), {}) for index in range(start, start + CHUNK)
        ]
        await store.submit(new, at, run=0.0, due=interval * start / orders)
    await store.close()


def watch(running: Daemon, platform: FastPlatform, seconds: float) -> dict[str, float]:
    """From its being ready on."""
    ready = time.monotonic()
    _until(lambda: platform.stats()["asked"] > 0)
    first = platform.stats()["first_at"] - ready
    time.sleep(WARM_UP_S)
    before, asked, began = running.usage(), platform.stats()["asked"], time.monotonic()
    time.sleep(seconds)
    used, polls = running.usage().since(before), platform.stats()["asked"] - asked
    return {
        "first_s": first,
        "cpu_us": 1e6 * used.cpu / polls,
        "kept_up": polls / (time.monotonic() - began) / POLLS_PER_S,
        "rss_mb": used.rss_peak / 1e6,
        "written": used.written / polls,
    }


def run(sizes: tuple[int, ...], seconds: float) -> list[Figure]:
    figures: list[Figure] = []
    costs: list[float] = []
    for orders in sizes:
        interval = orders / POLLS_PER_S
        settings = Settings(100, min_interval=interval, max_interval=interval)
        with TemporaryDirectory(prefix="poller-bench-") as name, fast_platform() as platform:
            asyncio.run(fill(Path(name) / "poller.db", orders, interval))
            with daemon(platform.url, settings, Path(name)) as running:
                seen = watch(running, platform, seconds)
                ready = running.ready_s
        where = f"backlog, {orders:,} in flight"
        costs.append(seen["cpu_us"])
        figures += [
            Figure(where, "ready after", ready, "s", ("≤", 2.0)),
            Figure(where, "first query after ready", seen["first_s"], "s", ("≤", 1.0)),
            Figure(where, "kept up", seen["kept_up"], "", ("≥", 0.98)),
            Figure(where, "CPU a poll", seen["cpu_us"], "µs"),
            Figure(where, "written a poll", seen["written"], "bytes"),
            Figure(where, "memory at most", seen["rss_mb"], "MB", ("≤", 150.0)),
        ]
    if len(costs) > 1:
        figures.append(
            Figure("backlog", f"CPU a poll with {sizes[-1]:,} in flight, to {sizes[0]:,}'s", costs[-1] / costs[0])
        )
    return figures


def _until(holds: Callable[[], bool], patience: float = 30.0) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
