"""What reaches the disk, counted at the system calls by strace: for polls that bring nothing, and for an order."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import scripted
from tests.bench.daemon import Daemon, FastPlatform, Settings, daemon, fast_platform
from tests.bench.figures import Figure

SYNCS = ("fsync", "fdatasync")
CALLS = (*SYNCS, "pwrite64")
LINE = re.compile(r"(\w+)\(.*(?:= (-?\d+)$)")
ORDERS = 1_000
SINGLY = 50
PAUSE_S = 0.05  # between orders that are handed in one by one: nothing to share a sync with


@dataclass(frozen=True, slots=True)
class Trace:
    """A daemon's calls so far, from the file that strace writes."""

    path: Path

    def counts(self) -> Counter[str]:
        """Calls by name, `bytes` written to files, and `checkpoints`, each of which syncs the log and the file."""
        counts: Counter[str] = Counter()
        for line in self.path.read_text().splitlines():
            found = LINE.search(line)
            if found and found[1] in CALLS and int(found[2]) >= 0:
                counts[found[1]] += 1
                counts["checkpoints"] += found[1] in SYNCS and "poller.db>" in line
                counts["bytes"] += int(found[2]) if found[1] == "pwrite64" else 0
        return counts


def run(polls: int) -> list[Figure]:
    if shutil.which("strace") is None:
        return [Figure("disk", "skipped: strace is not installed", 0)]
    settings = Settings(100, initial_delay=2.0, min_interval=0.65, age_fraction=0.0001, webhook=True)
    with TemporaryDirectory(prefix="poller-bench-") as name, fast_platform() as platform:
        trace = Trace(Path(name) / "calls")
        strace = [
            "strace",
            "-D",
            "-f",
            "-y",
            "--seccomp-bpf",
            "-o",
            str(Path(name) / "calls"),
            "-e",
            f"trace={','.join(CALLS)}",
        ]
        with daemon(platform.url, settings, Path(name), strace) as running:
            bare = trace.counts()
            running.submit([scripted.never(index) for index in range(ORDERS)])
            taken_on = trace.counts() - bare
            before = trace.counts()
            while platform.stats()["asked"] < polls:
                time.sleep(0.2)
            nothing_new, asked = trace.counts() - before, platform.stats()["asked"]
            ends = _singly(running, platform, trace)
    return [
        Figure("disk", "polls that brought nothing", asked),
        Figure("disk", "fsyncs of all those", sum(nothing_new[name] for name in SYNCS), "", ("≤", 0.0)),
        Figure(
            "disk", "written for a poll that brought nothing", nothing_new["bytes"] / asked, "bytes", ("≤", 100.0)
        ),
        Figure("disk", "fsyncs to take an order on, in a batch", sum(taken_on[name] for name in SYNCS) / ORDERS),
        *ends,
    ]


def _singly(running: Daemon, platform: FastPlatform, trace: Trace) -> list[Figure]:
    """What an order costs that comes alone: taken on, and then ended and told to the webhook."""
    taking = _syncs(trace)
    for index in range(SINGLY):
        running.submit([scripted.never(ORDERS + index)])
        time.sleep(PAUSE_S)
    ending = _syncs(trace)
    for index in range(SINGLY):
        running.submit([scripted.after(1, index)])
        time.sleep(PAUSE_S)
    while platform.stats()["notices"] < SINGLY:
        time.sleep(0.1)
    time.sleep(1.0)  # the last one is written down as delivered
    to_take_on = (ending - taking) / SINGLY
    whole = (_syncs(trace) - ending) / SINGLY
    return [
        Figure(
            "disk", "fsyncs to take an order on that comes alone, checkpoints apart", to_take_on, "", ("≤", 1.0)
        ),
        Figure("disk", "fsyncs to end and to deliver it, checkpoints apart", whole - to_take_on, "", ("≤", 2.0)),
    ]


def _syncs(trace: Trace) -> int:
    """Those of commits; a checkpoint, whoever's commit it comes with, syncs the log and then the file."""
    counts = trace.counts()
    return sum(counts[name] for name in SYNCS) - 2 * counts["checkpoints"]
