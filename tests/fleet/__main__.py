"""`python -m tests.fleet`: daemons on one PostgreSQL, a kill, a stop and a failover, then a table.

Exits 0 only if nothing has happened that must not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import random
import signal
import sys
from pathlib import Path

import uvloop
from rich.console import Console

from tests.fleet.plan import LEASE_S, Fault, Plan
from tests.fleet.report import figures, print_report
from tests.fleet.run import play


def main() -> int:
    words = _words()
    plan = Plan(
        seed=random.randrange(1_000_000) if words.seed is None else words.seed,
        daemons=words.daemons,
        orders=words.orders,
        rate=words.rate,
        faults=tuple(words.only or Fault),
        lease=words.lease,
    )
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    err.print(f"seed {plan.seed}")
    gc.set_threshold(100_000, 50, 50)  # what the witnesses keep grows; to look through it all would hold them up
    try:
        return uvloop.run(_play(plan, err, words.logs, as_json=words.json))
    except (KeyboardInterrupt, asyncio.CancelledError):
        err.print("broken off; nothing was judged")
        return 130


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fleet", description=__doc__)
    parser.add_argument("--daemons", type=int, default=5)
    parser.add_argument("--orders", type=int, default=50_000, help="in flight at once")
    parser.add_argument("--rate", type=int, default=1500, help="queries per second that the fleet may send")
    parser.add_argument("--lease", type=float, default=LEASE_S, help="of a daemon, in seconds")
    parser.add_argument("--seed", type=int, help="for the same orders and faults again")
    parser.add_argument("--only", type=Fault, choices=list(Fault), nargs="+", help="these faults alone")
    parser.add_argument(
        "--logs", type=Path, metavar="DIR", help="keep the daemons' folders in this one, which is there"
    )
    parser.add_argument("--json", action="store_true", help="one JSON on stdout instead of a table")
    words = parser.parse_args()
    if words.daemons < 3 and not words.only:
        parser.error("one daemon is killed and one stopped: --daemons 3 or more")
    return words


async def _play(plan: Plan, err: Console, logs: Path | None, *, as_json: bool) -> int:
    task = asyncio.current_task()
    if task is not None:
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    run, verdict = await play(plan, err.print, logs)
    if as_json:
        print(json.dumps({"ok": verdict.ok, "broken": verdict.broken, "figures": figures(run, verdict)}, indent=1))
    else:
        print_report(Console(soft_wrap=True, highlight=False), run, verdict)
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
