"""Nothing to do: what the daemon takes while no car waits."""

from __future__ import annotations

import time

from tests.bench.daemon import Settings, daemon, fast_platform
from tests.bench.figures import Figure
from tests.bench.limits import limit

SETTLE_S = 3.0


def run(seconds: float) -> list[Figure]:
    with fast_platform() as platform, daemon(platform.url, Settings(webhook=True)):
        pass  # the first start of all compiles
    with fast_platform() as platform, daemon(platform.url, Settings(webhook=True)) as running:
        time.sleep(SETTLE_S)
        before = running.usage()
        time.sleep(seconds)
        used = running.usage().since(before)
    imported = limit("imports")
    return [
        Figure("idle", "memory", used.rss / 1e6, "MB", ("≤", 45.0)),
        Figure("idle", "memory of a process that only imports the libraries it uses", imported / 1e6, "MB"),
        Figure("idle", "wake-ups, all threads", used.switches / seconds, "a second", ("≤", 2.0)),
        Figure("idle", "written to the disk", used.written, "bytes", ("≤", 0.0)),
        Figure("idle", "CPU", 100 * used.cpu / seconds, "%"),
    ]
