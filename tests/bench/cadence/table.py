"""The figures in words and columns."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

NEVER = "never"


def print_table(results: dict[str, Any]) -> None:
    """Print everything that `run` found, each target beside its figure."""
    sys.stdout.write("".join(f"{line}\n" for line in lines(results)))


def lines(results: dict[str, Any]) -> Iterator[str]:
    yield "Delay: age at the first query at or after the settlement, minus the settlement's. Seconds."
    yield "Optimum: of schedules that know the distribution, within the same bounds, at as many queries an order."
    yield "It is of the mean: its 99th percentile is what comes with that. Lost: orders that outlive a schedule."
    for place in results["worlds"]:
        yield ""
        yield from _world(place)
    yield ""
    yield from _settings(results["settings"])
    yield from _learning(results["learned"])
    yield ""
    yield f"{'target':80} {'wanted':>8} {'measured':>9}"
    for target in results["targets"]:
        met = "" if target["met"] else "  NOT MET"
        yield f"{target['target']:80} {target['wanted']:>8} {target['measured']:9.3f}{met}"


def _world(place: dict[str, Any]) -> Iterator[str]:
    yield f"{place['name']}: {place['words']}"
    own = f"{'queries':>8} {'mean':>8} {'under 60':>8} {'p99':>8} {'lost':>6}"
    yield f"{'':26} {own}   optimum: {'mean':>7} {'under 60':>8}"
    for row in place["schedules"]:
        best, waiting = row["optima"]["all"], row["optima"]["waiting"]
        beside = "more queries" if best is None else f"{best['mean']:7.2f} {waiting['waiting']:8.2f}"
        yield f"{_row(row['name'], row)} {row['lost']:6.1%}            {beside}"
    learned = place["learned"]
    yield _row("learned, equal queries", learned["equal"])
    yield _row("learned, own budget", learned["own"])
    yield _row("learned, 200 orders on", learned["later"])
    yield _row("learned at all ages", place["learned_all_ages"]["equal"])
    for name, best in place["schedules"][0]["optima"].items():
        yield _row(f"optimum ({name})", best)
    yield f"queries past 90 s, of the proportional rule: {place['queries_past_90_s']:.2f} an order"
    if few := place["doubling_at_few"]:
        more = few["mean"] / few["optimum"] - 1.0
        yield (
            f"at {few['queries']:g} queries an order: doubling {few['mean']:.2f} s, optimum {few['optimum']:.2f} s"
            f" ({more:.0%} worse)"
        )


def _row(name: str, row: dict[str, float | None]) -> str:
    cells = [row.get(figure) for figure in ("queries", "mean", "waiting")]
    shown = " ".join(" " * 8 if cell is None else f"{cell:8.3f}" for cell in cells)
    if "p99" not in row:
        return f"{name:26} {shown}"
    late = NEVER if row["p99"] is None else f"{row['p99']:.2f}"
    return f"{name:26} {shown} {late:>8}"


def _settings(settings: dict[str, Any]) -> Iterator[str]:
    tried = f"Other settings of the proportional rule ({settings['tried']} tried)"
    yield f"{tried}: under 60 s, times the optimum's (waiting)"
    for name in ("default", "best"):
        row = settings[name]
        worlds = ", ".join(
            f"{world} {one['ratio']:.2f} at {one['queries']:.1f} queries" for world, one in row["worlds"].items()
        )
        yield (
            f"  {name}: initial {row['initial_delay']:g} s, at least {row['min_interval']:g} s, "
            f"{row['age_fraction']:.0%} of the age: {worlds}"
        )


def _learning(learned: dict[str, Any]) -> Iterator[str]:
    for name, blocks in learned["changes"].items():
        yield f"After a change of world, {name}: under 60 s, mean delay (queries), by 20 orders since"
        for who in ("proportional", "learned", "stubborn"):
            cells = " ".join(f"{block[who]:5.2f} ({block[f'{who}_queries']:4.1f})" for block in blocks[:6])
            yield f"  {who:14} {cells}"
    cost = learned["cost_us"]
    yield f"Cost in µs: an order {cost['order']:.0f}, a plan {cost['plan']:.0f}, a gap {cost['gap']:.1f}"
