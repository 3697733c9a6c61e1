"""The processor time of a process and all below it, from /proc."""

from __future__ import annotations

from pathlib import Path

from tests.bench.usage import TICKS_PER_S

PPID, OWN_AND_REAPED = 1, slice(11, 15)  # of proc(5)'s fields after the name


def cpu_s(pid: int) -> float:
    """Seconds, user and system: those that run, to a tick each, and those that have ended and were waited for."""
    stats = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            stats[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # ended since it was listed
    total, family = 0, [pid]
    while family:
        parent = family.pop()
        total += sum(map(int, stats[parent][OWN_AND_REAPED]))
        family += [child for child, fields in stats.items() if int(fields[PPID]) == parent]
    return total / TICKS_PER_S
