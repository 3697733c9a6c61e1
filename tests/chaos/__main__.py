"""`python -m tests.chaos`: kills, stops, network cuts and full disks on the real daemon, then a table.

Exits 0 only if nothing has happened that must not. Network cuts and full disks need root; where they cannot be
had, that is said, and the rest is played.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import shutil
import signal
import sys
from pathlib import Path

from rich.console import Console

from tests.chaos.ground import Ground, prepared
from tests.chaos.plan import ALL, WEATHER, Kind, Plan
from tests.chaos.report import print_report
from tests.chaos.run import play

CALM_S = (0.5, 3.0)  # between two faults where there are no others


def main() -> int:
    words = _words()
    plan = _plan(words.kills, words.seed, words.only)
    err = Console(stderr=True, highlight=False, soft_wrap=True)
    err.print(f"seed {plan.seed}")
    with prepared(plan) as ground:
        for kind, reason in ground.skipped.items():
            err.print(f"SKIPPED: no {kind} faults in this run: {reason}", style="bold red")
        if not plan.kinds - ground.skipped.keys():
            return 1
        try:
            return asyncio.run(_play(plan, ground, err))
        except (KeyboardInterrupt, asyncio.CancelledError):
            err.print("broken off; nothing was judged")
            return 130
        finally:
            if words.log and ground.log.exists():
                shutil.copy(ground.log, words.log)


def _words() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="how many; with --only, of that fault")
    parser.add_argument("--seed", type=int, help="for the same faults and orders again")
    parser.add_argument("--only", type=Kind, choices=list(Kind), help="this kind of fault alone")
    parser.add_argument("--log", type=Path, metavar="FILE", help="keep the daemon's log there")
    return parser.parse_args()


def _plan(count: int, seed: int | None, only: Kind | None) -> Plan:
    seed = random.randrange(1_000_000) if seed is None else seed
    if only is None:
        return Plan(seed, count, ALL)
    kinds = frozenset({only})
    return Plan(seed, count, kinds, calm=CALM_S) if kinds & WEATHER else Plan(seed, count, kinds)


async def _play(plan: Plan, ground: Ground, err: Console) -> int:
    task = asyncio.current_task()
    if task is not None:
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    run, verdict = await play(plan, ground, err.print)
    print_report(Console(soft_wrap=True, highlight=False), run, verdict)
    return 0 if verdict.ok else 1


if __name__ == "__main__":
    sys.exit(main())
