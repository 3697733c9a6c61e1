"""What a process has used, from /proc."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu` in seconds, user and system, of all threads; `rss`, `rss_peak` and `written` (to disk) in bytes.

    `switches` are those that its threads chose themselves, so they count how often it was woken.
    """

    cpu: float
    rss: int
    rss_peak: int
    switches: int
    written: int

    def since(self, before: Usage) -> Usage:
        """What was used between two looks; memory as it is now."""
        return Usage(
            self.cpu - before.cpu,
            self.rss,
            self.rss_peak,
            self.switches - before.switches,
            self.written - before.written,
        )


def usage_of(pid: int) -> Usage:
    """A running process. Times come from the scheduler, in nanoseconds, so that short runs can be told apart."""
    proc = Path(f"/proc/{pid}")
    cpu, switches = 0.0, 0
    for task in (proc / "task").iterdir():
        cpu += int((task / "schedstat").read_text().split()[0]) / 1e9
        switches += _field((task / "status").read_text(), "voluntary_ctxt_switches")
    status = (proc / "status").read_text()
    return Usage(
        cpu,
        _field(status, "VmRSS") * 1024,
        _field(status, "VmHWM") * 1024,
        switches,
        _field((proc / "io").read_text(), "write_bytes"),
    )


def _field(text: str, name: str) -> int:
    for line in text.splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise ValueError(f"no {name}")
