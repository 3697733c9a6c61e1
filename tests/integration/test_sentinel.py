"""A blocked event loop, found out from outside it."""

from __future__ import annotations

import subprocess
import sys

BLOCKED = """
import asyncio, time
from poller.sentinel import Sentinel

def hang():
    time.sleep(60)

async def main():
    sentinel = Sentinel(lambda seconds: print("blocked", flush=True), check_s=0.05, blocked_s=0.3)
    sentinel.start()
    hang()

asyncio.run(main())
"""
TURNING = """
import asyncio
from poller.sentinel import Sentinel

async def main():
    sentinel = Sentinel(lambda seconds: print("blocked", flush=True), check_s=0.05, blocked_s=0.3)
    sentinel.start()
    for _ in range(20):
        await asyncio.sleep(0.05)
        sentinel.seen()
    sentinel.stop()

asyncio.run(main())
"""


def _run(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=False)


def test_a_process_whose_event_loop_is_blocked_ends_and_says_where_it_hangs() -> None:
    ended = _run(BLOCKED)
    assert ended.returncode == 1
    assert ended.stdout == "blocked\n"
    assert "in hang" in ended.stderr


def test_a_process_whose_event_loop_turns_is_left_alone() -> None:
    ended = _run(TURNING)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
