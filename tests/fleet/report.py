"""The verdict with its figures, as a table or as JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.fleet.run import Run
from tests.fleet.verdict import Verdict, until_caught_up

EXAMPLES = 5


def figures(run: Run, verdict: Verdict) -> dict[str, Any]:
    """What is only counted, ready for JSON. Seconds, queries per second, counts."""
    record, failover = run.platform.record, run.happened.failover
    queries = len(record)
    arrived = [query.arrived for query in record.queries()]
    return {
        "daemons": run.plan.daemons,
        "orders acknowledged": run.gate.acknowledged(),
        "orders in flight as the faults came": run.happened.in_flight,
        "ends told": run.told(),
        "queries": queries,
        "queries per second": round(queries / (arrived[-1] - arrived[0]), 1) if queries > 1 else 0.0,
        "notices repeated under the same id": verdict.repeated,
        "queries in the air at the stop": verdict.in_air,
        "queries on their way at the stop": verdict.on_way,
        "of these, come after SIGCONT": verdict.on_way_after,
        "overlapping with one of these": verdict.overlapping_of_these,
        "most queries in any one second": verdict.rate.sure,
        "as they came": verdict.rate.away,
        "allowed": run.plan.rate,
        "stopped for": [round(one.span.end - one.span.start, 2) for one in run.happened.stopped],
        "from the primary's death to the standby's first write": (
            None if failover is None else round(failover.end - failover.start, 2)
        ),
        "longest time without a query": round(verdict.longest_pause, 2),
        "longest time between two queries of one order": round(verdict.longest_silence, 2),
        "worst lateness of news, faults included": round(verdict.lateness, 2),
        "longest delay of this command itself": round(
            max((span.end - span.start for span in until_caught_up(run.blocked)), default=0.0), 3
        ),
        **{f"seconds for {part}": round(seconds, 1) for part, seconds in run.took.items()},
    }


def print_report(console: Console, run: Run, verdict: Verdict) -> None:
    """What must be zero, what is only counted, and the first few of what was found."""
    faults = ", ".join(run.plan.faults) or "no faults"
    table = Table(title=f"seed {run.plan.seed}: {faults}", title_justify="left")
    table.add_column("")
    table.add_column("found", justify="right")
    table.add_column("must be")
    for name, found in verdict.broken.items():
        table.add_row(name, str(len(found)), "0", style="bold red" if found else None)
    table.add_section()
    for name, value in figures(run, verdict).items():
        table.add_row(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value), "")
    console.print(table)
    for name, found in verdict.broken.items():
        for line in found[:EXAMPLES]:
            console.print(f"{name}: {escape(line)}")
        if len(found) > EXAMPLES:
            console.print(f"{name}: and {len(found) - EXAMPLES} more")
