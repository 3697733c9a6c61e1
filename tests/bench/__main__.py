"""`python -m tests.bench`: what the daemon takes, as ratios to a bare aiohttp loop in the same run.

Every figure that has a target stands beside it. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench import backlog, cadence, disk, fleet, idle, intake, pictures, raw, realistic, saturation
from tests.bench.cadence.pictures import draw as draw_cadence
from tests.bench.figures import Figure
from tests.bench.peers.measure import measure

SCENARIOS: dict[str, Callable[[], list[Figure]]] = {
    "saturation": lambda: saturation.run(2000, (50, 100, 200), rounds=3),
    "realistic": lambda: realistic.run(1000, rounds=3),
    "disk": lambda: disk.run(100_000),
    "backlog": lambda: backlog.run((100_000, 1_000_000), seconds=30.0),
    "intake": lambda: intake.run(1000, raw.BATCHES, rounds=7),
    "idle": lambda: idle.run(30.0),
    "fleet": lambda: fleet.run((1, 2, 4), orders=8000, rounds=3),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join((*SCENARIOS, 'cadence'))}; all")
    parser.add_argument("--peers", action="store_true", help="also the job queues that are installed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures into this file")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw what the README shows into this folder")
    words = parser.parse_args()
    wanted = words.names or [*SCENARIOS, "cadence"]
    if unknown := set(wanted) - {*SCENARIOS, "cadence"}:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    figures = [figure for name in wanted if name in SCENARIOS for figure in _timed(name)]
    peers = measure([], 2000, 5, 100) if words.peers else None
    curves = cadence.run(0) if "cadence" in wanted else None
    Console(width=120).print(_table(figures))
    if curves is not None:
        cadence.print_table(curves)
    found = [asdict(one) | {"met": one.is_met} for one in figures]
    results = {"figures": found, "peers": peers, "cadence": curves}
    text = json.dumps(results, indent=1)
    if words.json is None:
        print(json.dumps(found))
    else:
        words.json.write_text(text + "\n")
    if words.pictures is not None:
        pictures.draw(figures, words.pictures)
        if curves is not None:
            draw_cadence(curves, words.pictures)
    return 0


def _timed(name: str) -> list[Figure]:
    began = time.monotonic()
    figures = SCENARIOS[name]()
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return figures


def _table(figures: list[Figure]) -> Table:
    table = Table("scenario", "figure")
    table.add_column("found", justify="right")
    table.add_column("target", justify="right")
    before = None
    for figure in figures:
        if before is not None and figure.scenario != before:
            table.add_section()
        goal = "" if figure.target is None else f"{figure.target[0]} {figure.target[1]:g}"
        mark = {None: "", True: " ✓", False: " ✗"}[figure.is_met]
        name = "" if figure.scenario == before else figure.scenario
        table.add_row(name, figure.name, f"{_readable(figure.value)} {figure.unit}".strip(), goal + mark)
        before = figure.scenario
    return table


def _readable(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
