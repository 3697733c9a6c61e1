"""What stands in the way of a target, alone: `python -m tests.bench.limits NAME` prints one JSON.

`imports` is the memory of a process that has imported the libraries that the daemon uses and nothing of its own,
`lines` how many lines of the log a second can be written with nothing else to do.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

LINES = 20_000


def imports() -> float:
    """Resident bytes; structlog without rich, as the daemon has it."""
    for name in ("sqlite3", "uvloop", "aiohttp.web", "asyncio_throttle", "click", "msgspec", "prometheus_client"):
        importlib.import_module(name)
    importlib.import_module("poller.cli.lean")

    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def lines() -> float:
    """Lines a second, into a file, as `order.accepted` is written."""
    import structlog  # noqa: PLC0415

    from poller import logs  # noqa: PLC0415

    with tempfile.TemporaryFile() as file:
        console = os.dup(1)
        os.dup2(file.fileno(), 1)
        logs.configure("info", "json", stream_is_terminal=False, journal=False)
        log = structlog.get_logger()
        began = time.monotonic()
        for number in range(LINES):
            log.info("order.accepted", park_uuid="lot", pay_partner=f"{number}", metadata={})
        seconds = time.monotonic() - began
        os.dup2(console, 1)
    return LINES / seconds


LIMITS: dict[str, Callable[[], float]] = {"imports": imports, "lines": lines}


def limit(name: str) -> float:
    """One of `LIMITS`, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.limits", name]
    return float(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


if __name__ == "__main__":
    print(json.dumps(LIMITS[sys.argv[1]]()))
