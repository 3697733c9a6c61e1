"""What stands in the way of a target, alone: `python -m tests.bench.limits NAME` prints one JSON.

`imports` is the memory of a process that has imported the libraries that the daemon uses and nothing of its own,
`raw_and_lines` how many orders a second raw SQLite takes while another thread writes a line of the log for each.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from tests.bench import scripted

PATIENCE_S = 60.0  # for a batch
AHEAD = 3  # batches in SQLite whose lines are still to be written


def imports() -> float:
    """Resident bytes; structlog without rich, as the daemon has it."""
    for name in ("sqlite3", "uvloop", "aiohttp.web", "asyncio_throttle", "click", "msgspec", "prometheus_client"):
        importlib.import_module(name)
    importlib.import_module("poller.cli.lean")

    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def raw_and_lines() -> float:
    """Orders a second into raw SQLite in one thread, with a line of the log for each in another one."""
    import structlog  # noqa: PLC0415

    from poller import logs  # noqa: PLC0415
    from tests.bench import raw  # noqa: PLC0415

    done: SimpleQueue[range] = SimpleQueue()
    ahead = threading.Semaphore(AHEAD)

    def insert() -> None:
        for numbers in raw.batches(raw.BATCHES):
            ahead.acquire()
            raw.insert(connection, numbers)
            done.put(numbers)

    with raw.opened() as connection, tempfile.TemporaryFile() as file:
        console = os.dup(1)
        os.dup2(file.fileno(), 1)
        logs.configure("info", "json", stream_is_terminal=False, journal=False)
        log = structlog.get_logger().bind()
        began = time.monotonic()
        threading.Thread(target=insert, daemon=True).start()
        for _ in range(raw.BATCHES):
            for number in done.get(timeout=PATIENCE_S):
                log.info(
                    "order.accepted", park_uuid=scripted.PARK, pay_partner=scripted.never(number), metadata={}
                )
            ahead.release()
        seconds = time.monotonic() - began
        os.dup2(console, 1)
    return raw.BATCHES * raw.BATCH / seconds


LIMITS: dict[str, Callable[[], float]] = {"imports": imports, "raw_and_lines": raw_and_lines}


def limit(name: str) -> float:
    """One of `LIMITS`, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.limits", name]
    return float(json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


if __name__ == "__main__":
    print(json.dumps(LIMITS[sys.argv[1]]()))
