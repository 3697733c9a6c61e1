"""`python -m tests.bench.plans`: how every query of the store in PostgreSQL does as the tables grow.

It fills a store with each number of rows, has the store's own code ask everything that it asks, and shows
for each statement its plan and the buffers that it touches: of tables just vacuumed, and of worn ones, with as
many dead rows as autovacuum lets be. It fails if one reads a large table from end to end, or if from the second
largest store to the largest its buffers grow faster than the logarithm of the rows. At last a day's orders are
let go, and what others wait for that is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from poller.stores.postgres import PostgresStore, lines
from poller.stores.postgres.connection import Connection
from tests.bench.plans.asking import ASKED, Asking
from tests.bench.plans.filling import Size, fill, rows
from tests.bench.plans.measuring import Measured, Taken
from tests.bench.plans.pruning import Pruned, prune_a_day
from tests.bench.plans.wearing import vacuum, wear
from tests.integration.postgres_server import beside, own_server

SLACK = 30  # buffers: a page that was not full, another level of an index
LOADING = "SET synchronous_commit = off; SET maintenance_work_mem = '2GB'; SET statement_timeout = 0"
Answers = dict[str, list[Taken]]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was asked of a store just vacuumed, and of one with as many dead rows as autovacuum lets be."""

    size: Size
    fresh: Answers
    worn: Answers
    pruned: Pruned
    vacuumed: dict[str, float]  # seconds, after that


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.plans", description=__doc__)
    parser.add_argument(
        "--rows", type=float, nargs="+", default=[1.0, 10.0], metavar="MILLIONS", help="of each store"
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where there is room")
    words = parser.parse_args()
    sizes = [Size(int(millions * 1e6)) for millions in sorted(words.rows)]
    found: list[Measurement] = []
    try:
        for size in sizes:
            found.append(asyncio.run(measure(size, words.folder)))
    except KeyboardInterrupt:
        if not found:
            raise
        print("ended early: this is what was found until then", file=sys.stderr)
    faults = [fault for name in ASKED for fault in faults_of(name, found)]
    console = Console(width=170)
    console.print(_table(found))
    console.print(_waits(found))
    for one in found:
        seconds = ", ".join(f"{table} {seconds:.1f} s" for table, seconds in one.vacuumed.items())
        print(f"{one.size.rows / 1e6:g} M rows, vacuumed after that: {seconds}")
    for fault in faults:
        print(fault)
    print(f"{len(faults)} faults")
    return 1 if faults else 0


async def measure(size: Size, folder: Path) -> Measurement:
    """Everything that is asked, at a store of that size, which is removed afterwards."""
    server = own_server(
        "-c shared_buffers=1GB -c max_wal_size=8GB -c wal_level=minimal -c max_wal_senders=0 -c autovacuum=off",
        folder=folder,
    )
    try:
        url = server.url("years")
        await (await PostgresStore.open(url)).close()
        began = time.monotonic()
        async with beside(url) as connection:
            await connection.execute(LOADING)
            await fill(connection, size)
            counted = await rows(connection)
            taken = await connection.fetchval("SELECT pg_database_size(current_database()) / 1e9")
        total = sum(counted.values())
        seconds = time.monotonic() - began
        print(f"{total:,} rows {counted}, {taken:.1f} GB, in {seconds:.0f} s", file=sys.stderr, flush=True)
        async with beside(url) as connection:
            fresh = await ask(connection, size)
            worn = await wear(connection, size)
            print(f"dead rows before autovacuum comes: {worn}", file=sys.stderr, flush=True)
            again = await ask(connection, size)
        pruned = await prune_a_day(url, size)
        async with beside(url) as connection:
            return Measurement(size, fresh, again, pruned, await vacuum(connection))
    finally:
        server.remove()


async def ask(connection: Connection, size: Size) -> Answers:
    """Ask everything, each in a transaction of its own that is undone."""
    settings = [f"SET {name} = {value}" for name, value in lines.SETTINGS.items() if name.startswith("enable_")]
    await connection.execute("; ".join([*settings, "SET plan_cache_mode = force_generic_plan; SET jit = off"]))
    answers: Answers = {}
    for name, asked in ASKED.items():
        for _ in range(2):  # the second time what it needs is in memory
            measured = Measured(connection)
            await connection.execute("BEGIN")
            await asked(Asking.at(measured, size))
            await connection.execute("ROLLBACK")
        answers[name] = measured.taken
    return answers


def faults_of(name: str, found: Sequence[Measurement]) -> list[str]:
    """What is wrong with one thing that is asked, by stores of growing size."""
    faults = []
    before, last = found[max(len(found) - 2, 0)], found[-1]
    growth = 1 + math.log10(last.size.rows / before.size.rows)
    for least, most in ((before.fresh[name], last.fresh[name]), (before.worn[name], last.worn[name])):
        faults += [f"{name}: reads all of {', '.join(one.scans)}" for one in (*least, *most) if one.scans]
        if len(least) != len(most):
            faults.append(f"{name}: is asked in {len(least)} statements, then in {len(most)}")
        for one, other in zip(least, most, strict=False):
            if other.buffers > one.buffers * growth + SLACK:
                faults.append(f"{name}: {one.buffers} buffers became {other.buffers}: {_short(other.sql)}")
    return list(dict.fromkeys(faults))


def _table(found: Sequence[Measurement]) -> Table:
    table = Table("asked", "by")
    for one in found:
        for what in (f"{one.size.rows / 1e6:g} M rows:\nbuffers", "ms", "worn:\nbuffers", "ms"):
            table.add_column(what, justify="right")
    for name in ASKED:
        columns = [taken[name] for one in found for taken in (one.fresh, one.worn)]
        for index, statements in enumerate(zip(*columns, strict=False)):
            figures = [text for taken in statements for text in (f"{taken.buffers:,}", f"{taken.ms:.2f}")]
            table.add_row("" if index else name, ", ".join(statements[-1].nodes), *figures)
        table.add_section()
    return table


def _waits(found: Sequence[Measurement]) -> Table:
    table = Table("letting go", "step, first and last tenth, ms", "meanwhile", "ms, median, p99", "without, ms")
    for one in found:
        pruned, size = one.pruned, f"of {one.size.rows / 1e6:g} M rows: {one.pruned.orders:,} orders"
        steps = f"{pruned.step_first:.1f}, {pruned.step_last:.1f}"
        for what, (alone, alone_99, busy, busy_99) in pruned.waits.items():
            table.add_row(size, steps, what, f"{busy:.1f}, {busy_99:.1f}", f"{alone:.1f}, {alone_99:.1f}")
            size = steps = ""
        table.add_section()
    return table


def _short(sql: str) -> str:
    return re.sub(r"\s+", " ", sql)[:160]


if __name__ == "__main__":
    sys.exit(main())
