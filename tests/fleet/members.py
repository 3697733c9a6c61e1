"""The daemons of the fleet: real processes, whose logs go to files as they would to the journal."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp

from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, free_port
from tests.chaos.ground import Door
from tests.chaos.lives import DRAIN_S, NOT_OURS, ROOT, Life
from tests.fleet.plan import LEASE_S, Plan

STARTS_S = 30.0
LOOK_S = 0.02
PLACES = 200  # queries in the air of one daemon
ESTABLISHED = "01"
YIELDING = 5  # to the witnesses, where there are fewer cores than processes: they have to see queries as they come


@dataclass(slots=True)
class Member:
    """A daemon with its folder, its life, and somebody who talks to it."""

    name: str
    folder: Path
    door: Door
    process: asyncio.subprocess.Process
    session: aiohttp.ClientSession
    life: Life = field(default_factory=lambda: Life(time.monotonic()))

    def signal(self, number: signal.Signals) -> None:
        self.life.acts.append((time.monotonic(), number))
        self.process.send_signal(number)

    @property
    def is_killed(self) -> bool:
        return self.life.got(signal.SIGKILL) > 0

    def connections_to(self, port: int) -> frozenset[int]:
        """The ports at its own end of its connections to that port of this machine."""
        inodes = set()
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                inodes.add(str(descriptor.readlink()))
        found = set()
        for line in Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == ESTABLISHED and _port(words[2]) == port and f"socket:[{words[9]}]" in inodes:
                found.add(_port(words[1]))
        return frozenset(found)

    def records(self, *events: str) -> Iterator[dict[str, Any]]:
        """The lines of its log that tell of these events."""
        wanted = [f'"event":"{event}"'.encode() for event in events]
        with (self.folder / "log").open("rb") as lines:
            for line in lines:
                if any(event in line for event in wanted):
                    with suppress(ValueError):  # a kill may have cut it off
                        yield json.loads(line)

    def logged_at(self, event: str) -> list[float]:
        """When it told of it, by `time.monotonic()`."""
        offset = time.time() - time.monotonic()
        return [datetime.fromisoformat(one["timestamp"]).timestamp() - offset for one in self.records(event)]

    async def ready(self) -> None:
        """Wait until its intake takes connections."""
        async with asyncio.timeout(STARTS_S):
            while self.life.ready is None:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.door.port)
                except OSError:
                    assert self.process.returncode is None, (self.folder / "stderr").read_text()
                    await asyncio.sleep(LOOK_S)
                else:
                    self.life.ready = time.monotonic()
                    writer.close()

    async def end(self) -> None:
        """Drain it, unless it has ended, and note how."""
        if self.process.returncode is None:
            self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(2 * DRAIN_S):
                await self.process.wait()
        except TimeoutError:
            self.life.hung = True
            self.process.kill()
            await self.process.wait()
        self.life.ended, self.life.code = time.monotonic(), self.process.returncode
        self.life.stderr = (self.folder / "stderr").read_text()


@asynccontextmanager
async def member(folder: Path, plan: Plan, store: str, platform: str, webhook: str) -> AsyncIterator[Member]:
    """Start one; whatever has not ended is killed."""
    door = Door(free_port())
    _configure(folder, plan, door, store=store, platform=platform, webhook=webhook)
    async with AsyncExitStack() as stack:
        with (folder / "log").open("ab") as log, (folder / "stderr").open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *("nice", "-n", str(YIELDING)),
                *(sys.executable, "-m", "poller", "run", "--config", str(folder / "poller.toml")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=stderr,
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if name not in NOT_OURS},
                start_new_session=True,  # a Ctrl-C is for the command alone
            )
        stack.push_async_callback(_kill, process)
        session = await stack.enter_async_context(door.session(timeout=30.0))
        yield Member(folder.name, folder, door, process, session)


async def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def _port(address: str) -> int:
    """From the address as /proc writes it."""
    return int(address.rpartition(":")[2], 16)


def _configure(folder: Path, plan: Plan, door: Door, *, store: str, platform: str, webhook: str) -> None:
    folder.mkdir()
    for name, text in (("park.secret", APP_SECRET), ("webhook.secret", WEBHOOK_SECRET)):
        (folder / name).write_text(text + "\n")
        (folder / name).chmod(0o600)
    lease = "" if plan.lease == LEASE_S else f"lease_seconds = {plan.lease}"
    (folder / "poller.toml").write_text(
        f"""
[platform]
url = "{platform}"
rate_per_second = {plan.rate}
max_concurrency = {PLACES}
timeout_seconds = 5
[[parks]]
park_uuid = "{PARK}"
app_secret_file = "park.secret"
[polling]
initial_delay_seconds = 0.5
min_interval_seconds = {plan.interval}
max_interval_seconds = {plan.interval}
undecided_after_seconds = 0
[intake]
listen = "{door}"
[webhook]
url = "{webhook}"
secret_file = "webhook.secret"
timeout_seconds = 5
[store]
url = "{store}"
{lease}
[log]
format = "json"
"""
    )
