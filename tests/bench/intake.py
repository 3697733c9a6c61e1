"""Taking orders on, durable: one by one, in batches, and beside polling at the full rate."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory

from poller.stores.sqlite import schema
from poller.stores.sqlite.opening import connect
from tests.bench import scripted
from tests.bench.daemon import Settings, daemon, fast_platform, listening
from tests.bench.figures import Figure, median
from tests.bench.limits import limit
from tests.bench.load import post
from tests.bench.usage import usage_of

CONNECTIONS = 32
BATCH = 1000
LATER_S = 3600.0  # to the first query: none disturbs
FULL_RATE = 500  # queries per second


def run(singles: int, batches: int, rounds: int) -> list[Figure]:
    """Orders one by one, so many in each of so many rounds; batches of a thousand; some beside polling."""
    raw = raw_group_commit(batches)
    return [
        *_one_by_one(singles, rounds),
        Figure("intake", "raw SQLite, a sync for 1,000", raw, "orders/s"),
        Figure("intake", "in batches of 1,000, to that", _in_batches(batches) / raw, "", ("≥", 0.5)),
        Figure("intake", "a line of the log for each and nothing else, to that", limit("lines") / raw),
        *_beside_polling(),
    ]


def _one_by_one(singles: int, rounds: int) -> list[Figure]:
    """Medians of the rounds, in each of which all have their turn: a slow moment of the machine is everybody's."""
    with ExitStack() as running:
        taken: dict[str, list[tuple[float, float]]] = {"storeless": [], "durable": [], "bare": [], "parts": []}
        folder = running.enter_context(TemporaryDirectory(prefix="poller-bench-"))
        platform = running.enter_context(fast_platform())
        ours = running.enter_context(daemon(platform.url, Settings(initial_delay=LATER_S)))
        servers = {
            "storeless": running.enter_context(listening("-m", "tests.bench.storeless")),
            "durable": (ours.port, ours.pid),
            "bare": running.enter_context(listening("-m", "tests.bench.bare_parts", "-", "-")),
            "parts": running.enter_context(listening("-m", "tests.bench.bare_parts", folder, "-")),
        }
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


def _in_batches(batches: int) -> float:
    """Orders a second."""
    bodies = [
        [{"pay_partner": scripted.never(start * BATCH + index)} for index in range(BATCH)]
        for start in range(batches)
    ]
    with fast_platform() as platform, daemon(platform.url, Settings(initial_delay=LATER_S)) as running:
        return post(running.port, bodies, 4).requests_per_s * BATCH


def raw_group_commit(batches: int) -> float:
    """Orders a second into the same tables, by the bare statements."""
    with TemporaryDirectory(prefix="poller-bench-") as name, closing(connect(Path(name) / "raw.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        schema.migrate(connection, Path(name))
        started = time.monotonic()
        for batch in range(batches):
            _insert(connection, range(batch * BATCH + 1, (batch + 1) * BATCH + 1))
        return batches * BATCH / (time.monotonic() - started)


def _insert(connection: sqlite3.Connection, numbers: range) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO orders (id, park_uuid, pay_partner, state, metadata, accepted_at, opened_run) "
        "VALUES (?, ?, ?, 'pending', '{}', 0, 0)",
        [(number, scripted.PARK, scripted.never(number)) for number in numbers],
    )
    connection.executemany(
        "INSERT INTO schedule (order_id, due, opened_run) VALUES (?, 0, 0)", [(number,) for number in numbers]
    )
    connection.execute("COMMIT")


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
