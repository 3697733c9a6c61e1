"""`python -m tests.world`: as many histories as it is told, on all cores, with progress."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator

import pytest

from tests.world.history import run
from tests.world.planted import PLANTS
from tests.world.promises import broken

CHUNK = 100


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.world", description=__doc__)
    parser.add_argument("--histories", type=int, default=10_000, help="how many to live through")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--plant", choices=PLANTS, help="break a promise by hand, to see it caught")
    words = parser.parse_args()
    started, done, bad = time.monotonic(), 0, 0
    with multiprocessing.Pool(words.processes, _plant, (words.plant,)) as pool:
        for faults in pool.imap_unordered(_live, _chunks(words.first, words.histories)):
            done += min(CHUNK, words.histories - done)
            for seed, found in faults:
                bad += 1
                print(f"seed {seed}: {'; '.join(found)}", flush=True)
                if words.plant:
                    print(f"caught within {done} histories")
                    return 0
            if sys.stderr.isatty() or done % (100 * CHUNK) == 0:
                print(f"\r{done} of {words.histories}, {bad} broken", end="", file=sys.stderr, flush=True)
    seconds = time.monotonic() - started
    print(f"\n{done} histories from seed {words.first}: {bad} with a broken promise ({seconds:.0f} s)")
    return 1 if bad or words.plant else 0


def _chunks(first: int, count: int) -> Iterator[range]:
    for start in range(first, first + count, CHUNK):
        yield range(start, min(start + CHUNK, first + count))


def _plant(name: str | None) -> None:
    if name is not None:
        PLANTS[name](pytest.MonkeyPatch())


def _live(seeds: range) -> list[tuple[int, list[str]]]:
    faults = []
    for seed in seeds:
        try:
            found = broken(run(seed))
        except Exception:
            found = [traceback.format_exc()]
        if found:
            faults.append((seed, found))
    return faults


if __name__ == "__main__":
    sys.exit(main())
