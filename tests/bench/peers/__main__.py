"""`python -m tests.bench.peers [NAME…]`: job queues that do the same, beside the bare loop.

A table on stderr, one JSON on stdout. Those of which a package is missing are skipped: `requirements-peers.txt`.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.bench.peers.measure import NAMES, SLOW_ORDERS, measure


def table(measured: dict[str, Any]) -> Table:
    """What `measure` found, to be read."""
    title = f"{measured['queries']} queries an order, {measured['connections']} connections; CPU in µs a poll"
    drawn = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    drawn.add_column("queue", no_wrap=True)
    drawn.add_column("store", no_wrap=True)
    for heading in ("orders", "polls/s", "to bare", "CPU", "of it DB", "to bare"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for one in measured["peers"]:
        drawn.add_row(
            one["name"],
            one["store"],
            f"{one['orders']}",
            f"{one['polls_per_s']:.0f}",
            f"{one['polls_per_s_to_bare']:.3f}",
            f"{one['cpu_us_per_poll']:.0f}",
            f"{one['cpu_us_per_poll_in_database']:.0f}" if one["store"] == "PostgreSQL" else "",
            f"{one['cpu_to_bare']:.1f}",
        )
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    parser.add_argument("--orders", type=int, default=2000)
    parser.add_argument("--queries", type=int, default=5, help="of each order")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--slow-orders", type=int, default=SLOW_ORDERS, help="at most, for the slow ones")
    given = parser.parse_args()
    try:
        measured = measure(given.names, given.orders, given.queries, given.connections, given.slow_orders)
    except ValueError as error:
        parser.error(str(error))
    console = Console(stderr=True)
    if measured["peers"]:
        console.print(table(measured))
    for name, reason in measured["skipped"].items():
        console.print(f"{name} skipped, {reason}", highlight=False)
    json.dump(measured, sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
