"""The table at the end of a run."""

from __future__ import annotations

import signal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.chaos.plan import RATE
from tests.chaos.run import Run
from tests.chaos.verdict import Verdict

EXAMPLES = 5


def print_report(console: Console, run: Run, verdict: Verdict) -> None:
    """What must be zero, what is only counted, and the first few of what was found."""
    table = Table(title=f"seed {run.plan.seed}: {_played(run)}", title_justify="left")
    table.add_column("")
    table.add_column("found", justify="right")
    table.add_column("must be")
    for name, found in verdict.broken.items():
        table.add_row(name, str(len(found)), "0", style="bold red" if found else None)
    table.add_section()
    for name, value, limit in _counted(run, verdict):
        table.add_row(name, value, limit)
    console.print(table)
    for name, found in verdict.broken.items():
        for line in found[:EXAMPLES]:
            console.print(f"{name}: {escape(line)}")
        if len(found) > EXAMPLES:
            console.print(f"{name}: and {len(found) - EXAMPLES} more")
    for kind, reason in run.ground.skipped.items():
        console.print(f"SKIPPED: no {kind} faults in this run: {reason}", style="bold red")


def _played(run: Run) -> str:
    lives, ground = run.lives.all, run.ground
    killed_early = sum(life.ready is None and life.got(signal.SIGKILL) > 0 for life in lives)
    drained = sum(life.got(signal.SIGTERM) > 0 for life in lives)
    refused = sum(life.by_itself for life in lives)
    return (
        f"{run.lives.kills()} kills ({killed_early} before it was ready), "
        f"{sum(life.got(signal.SIGSTOP) for life in lives)} stops, {drained} SIGTERM, "
        f"{len(ground.wire.cuts) if ground.wire else 0} network cuts, "
        f"{len(ground.disk.full) if ground.disk else 0} full disks ({refused} starts refused)"
    )


def _counted(run: Run, verdict: Verdict) -> list[tuple[str, str, str]]:
    starts = sorted(life.ready - life.begun for life in run.lives.all if life.ready is not None)
    start = f"{starts[len(starts) // 2]:.2f} s" if starts else "-"
    late = max((span.end - span.start for span in run.blocked), default=0.0)
    return [
        ("orders acknowledged", f"{run.gate.acknowledged()}", ""),
        ("ends told", f"{run.told()}", ""),
        ("notices repeated under the same id", f"{verdict.duplicates}", "allowed"),
        ("queries", f"{len(run.platform.record)}", ""),
        ("most queries in any one second", f"{verdict.rate.sure}", f"at most {RATE}"),
        ("  as they came, away from network cuts", f"{verdict.rate.away}", ""),
        ("  around network cuts, which hold queries up", f"{verdict.rate.around}", ""),
        ("longest delay of this command itself", f"{late:.3f} s", ""),
        ("start to ready, median", start, ""),
        ("worst lateness of news after recovery", f"{verdict.late_after_recovery:.1f} s", ""),
        ("worst lateness of news, faults included", f"{verdict.late_in_all:.1f} s", ""),
    ]
