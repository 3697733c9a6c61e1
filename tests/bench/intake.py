"""Taking orders on, durable: one by one, in batches, and beside polling at the full rate."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from tests.bench import raw, scripted
from tests.bench.daemon import Settings, daemon, fast_platform, listening
from tests.bench.figures import Figure, median
from tests.bench.limits import limit
from tests.bench.load import post
from tests.bench.usage import usage_of

CONNECTIONS = 32
LATER_S = 3600.0  # to the first query: none disturbs
FULL_RATE = 500  # queries per second
STARTS = 3  # of the servers: what a process takes differs from one start to the next


def run(singles: int, batches: int, rounds: int) -> list[Figure]:
    """Orders one by one, so many in each of so many rounds a start; batches of a thousand; some beside polling."""
    reference = raw.orders_per_s(batches)
    return [
        *_one_by_one(singles, rounds),
        Figure("intake", "raw SQLite, a sync for 1,000", reference, "orders/s"),
        Figure("intake", "in batches of 1,000, to that", _in_batches(batches) / reference, "", ("≥", 0.5)),
        Figure("intake", "that and a line of the log for each, to that", limit("raw_and_lines") / reference),
        *_beside_polling(),
    ]


def _one_by_one(singles: int, rounds: int) -> list[Figure]:
    """Medians of the rounds, in each of which all have their turn: a slow moment of the machine is everybody's."""
    taken: dict[str, list[tuple[float, float]]] = {"storeless": [], "durable": [], "bare": [], "parts": []}
    for _ in range(STARTS):
        with _servers() as servers:
            for start in range(0, (rounds + 1) * singles, singles):  # the first is to warm up
                bodies = [{"pay_partner": scripted.never(index)} for index in range(start, start + singles)]
                for name, (port, pid) in servers.items():
                    before = usage_of(pid)
                    rate = post(port, bodies, CONNECTIONS).requests_per_s
                    if start:
                        taken[name].append((rate, usage_of(pid).since(before).cpu))
    storeless, durable, bare, parts = taken.values()
    return [
        Figure(
            "intake", "without a store, over 32 connections", median([rate for rate, _ in storeless]), "orders/s"
        ),
        Figure(
            "intake",
            "durable, one by one over 32 connections, to that",
            median([mine / one for (mine, _), (one, _) in zip(durable, storeless, strict=True)]),
            "",
            ("≥", 0.7),
        ),
        Figure(
            "intake",
            "CPU an order, to that without a store",
            median([mine / one for (_, mine), (_, one) in zip(durable, storeless, strict=True)]),
        ),
        Figure(
            "intake",
            "bare parts, durable, to the same without a store",
            median([mine / one for (mine, _), (one, _) in zip(parts, bare, strict=True)]),
        ),
    ]


@contextmanager
def _servers() -> Iterator[dict[str, tuple[int, int]]]:
    """Their ports and pids: the intake without a store and the daemon, and the same by bare parts."""
    with (
        TemporaryDirectory(prefix="poller-bench-") as folder,
        fast_platform() as platform,
        listening("-m", "tests.bench.storeless") as storeless,
        daemon(platform.url, Settings(initial_delay=LATER_S)) as ours,
        listening("-m", "tests.bench.bare_parts", "-", "-") as bare,
        listening("-m", "tests.bench.bare_parts", folder, "-") as parts,
    ):
        yield {"storeless": storeless, "durable": (ours.port, ours.pid), "bare": bare, "parts": parts}


def _in_batches(batches: int) -> float:
    """Orders a second."""
    bodies = [
        [{"pay_partner": scripted.never(start * raw.BATCH + index)} for index in range(raw.BATCH)]
        for start in range(batches)
    ]
    with fast_platform() as platform, daemon(platform.url, Settings(initial_delay=LATER_S)) as running:
        return post(running.port, bodies, 4).requests_per_s * raw.BATCH


def _beside_polling() -> list[Figure]:
    """A hundred orders a second, while the platform is asked as often as the rate allows."""
    settings = Settings(CONNECTIONS, rate=FULL_RATE, initial_delay=0.0)
    with fast_platform() as platform, daemon(platform.url, settings) as running:
        running.submit([scripted.never(20_000_000 + index) for index in range(2 * FULL_RATE)])
        time.sleep(2.0)
        asked, began = platform.stats()["asked"], time.monotonic()
        answered = post(
            running.port, [{"pay_partner": scripted.never(index)} for index in range(1000)], 10, every=0.1
        )
        rate = (platform.stats()["asked"] - asked) / (time.monotonic() - began)
    where = f"intake beside {FULL_RATE} polls/s"
    return [
        Figure(where, "polls/s meanwhile", rate),
        Figure(where, "time to an answer, p99", answered.p99_ms, "ms", ("≤", 20.0)),
    ]
