"""`python -m tests.world`: as many histories as it is told, on all cores, with progress."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.integration.postgres_server import own_server
from tests.world.fleet.history import run_fleet
from tests.world.fleet.planted import FLEET_PLANTS
from tests.world.fleet.promises import broken as broken_by_fleet
from tests.world.fleet.server import Server
from tests.world.history import run
from tests.world.planted import PLANTS, Plant
from tests.world.promises import broken

CHUNK = 100
FLEET_CHUNK = 4

_lives: Callable[[int], list[str]] = lambda seed: broken(run(seed))  # noqa: E731 - a process has its own


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=__doc__)
    parser.add_argument("--histories", type=int, default=10_000, help="how many to live through")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--fleet", action="store_true", help="several daemons on one PostgreSQL")
    parser.add_argument(
        "--plant", choices=(*PLANTS, *FLEET_PLANTS), help="break a promise by hand, to see it caught"
    )
    words = parser.parse_args()
    plants = FLEET_PLANTS if words.fleet else PLANTS
    if words.plant and words.plant not in plants:
        parser.error(f"--plant {words.plant} is {'not for' if words.fleet else 'for'} a --fleet")
    started, done, bad = time.monotonic(), 0, 0
    chunk = FLEET_CHUNK if words.fleet else CHUNK
    with ExitStack() as ending:
        urls: multiprocessing.Queue[str] = multiprocessing.Queue()
        for _ in range(words.processes if words.fleet else 0):
            server = own_server()
            ending.callback(server.remove)
            urls.put(server.database_url)
        plant = plants[words.plant] if words.plant else None
        pool = ending.enter_context(multiprocessing.Pool(words.processes, _begin, (plant, urls, words.fleet)))
        for count, faults in pool.imap_unordered(_live, _chunks(words.first, words.histories, chunk)):
            done += count
            for seed, found in faults:
                bad += 1
                print(f"seed {seed}: {'; '.join(found)}", flush=True)
                if words.plant:
                    print(f"caught within {done} histories")
                    return 0
            if sys.stderr.isatty() or done % (100 * chunk) == 0:
                print(f"\r{done} of {words.histories}, {bad} broken", end="", file=sys.stderr, flush=True)
    seconds = time.monotonic() - started
    print(f"\n{done} histories from seed {words.first}: {bad} with a broken promise ({seconds:.0f} s)")
    return 1 if bad or words.plant else 0


def _chunks(first: int, count: int, size: int) -> Iterator[range]:
    for start in range(first, first + count, size):
        yield range(start, min(start + size, first + count))


def _begin(plant: Plant | None, urls: multiprocessing.Queue[str], fleet: bool) -> None:
    global _lives  # noqa: PLW0603
    if plant is not None:
        plant(pytest.MonkeyPatch())
    if fleet:
        server = Server(urls.get())
        _lives = lambda seed: broken_by_fleet(run_fleet(seed, server))  # noqa: E731


def _live(seeds: range) -> tuple[int, list[tuple[int, list[str]]]]:
    faults = []
    for seed in seeds:
        try:
            found = _lives(seed)
        except Exception:
            found = [traceback.format_exc()]
        if found:
            faults.append((seed, found))
    return len(seeds), faults


if __name__ == "__main__":
    sys.exit(main())
