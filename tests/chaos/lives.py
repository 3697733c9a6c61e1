"""The daemon's lives: each a process of its own on the same store, begun at once when the last has ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import poller
from tests.chaos.ground import Door, Ground
from tests.chaos.plan import Fate

PROBE_S = 0.02
DRAIN_S = 8.0  # SIGTERM promises 5
TRIES = 20  # at one fate, where lives end before it: a full disk lets none begin
AGAIN_S = 0.2  # before the next life, where one has ended by itself
NOT_OURS = ("STATE_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
ROOT = Path(poller.__file__).parent.parent  # whose `poller` runs is the one that was imported here


@dataclass(slots=True)
class Life:
    """Monotonic times. `ready` is when its intake took a connection; `acts` are the signals it got."""

    begun: float
    ready: float | None = None
    ended: float | None = None
    code: int | None = None
    acts: list[tuple[float, signal.Signals]] = field(default_factory=list)
    hung: bool = False  # SIGTERM did not end it
    stderr: str = ""

    def got(self, number: signal.Signals) -> int:
        """How many of that signal it got."""
        return sum(got is number for _, got in self.acts)

    @property
    def by_itself(self) -> bool:
        """Whether it ended without having been told to."""
        return not (self.got(signal.SIGKILL) or self.got(signal.SIGTERM))


class Lives:
    def __init__(self, ground: Ground, fates: Iterator[Fate]) -> None:
        self.all: list[Life] = []
        self.spent = asyncio.Event()  # the fates have come to an end; the life that runs now is left alone
        self._ground = ground
        self._fates = fates
        self._process: asyncio.subprocess.Process | None = None
        self._ending = False

    def kills(self) -> int:
        return sum(life.got(signal.SIGKILL) for life in self.all)

    async def run(self) -> None:
        """Live one fate after the other, then undisturbed until `end`. What lives is killed on cancellation."""
        for fate in self._fates:
            for _ in range(TRIES):
                life = await self._live(fate)
                if not life.by_itself:
                    break
        self.spent.set()
        while not self._ending:
            await self._live(())

    def end(self) -> None:
        """Drain the life that is left alone; `run` then returns."""
        self._ending = True
        self._signal(self.all[-1], signal.SIGTERM)

    async def _live(self, fate: Fate) -> Life:
        with self._ground.log.open("ab") as log, self._ground.stderr.open("ab") as stderr:
            told = stderr.tell()
            life = Life(time.monotonic())
            self._process = process = await asyncio.create_subprocess_exec(
                *(self._ground.wire.prefix if self._ground.wire else []),
                *(sys.executable, "-m", "poller", "run", "--config", str(self._ground.config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=stderr,
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if name not in NOT_OURS},
                start_new_session=True,  # a Ctrl-C is for the command alone
            )
        self.all.append(life)
        watch = asyncio.create_task(_watch(life, self._ground.door))
        try:
            await self._meet(life, process, fate)
        finally:
            watch.cancel()
            if process.returncode is None:
                process.kill()
            await process.wait()
        life.ended, life.code = time.monotonic(), process.returncode
        life.stderr = _read_from(self._ground.stderr, told)
        if life.by_itself:
            await asyncio.sleep(AGAIN_S)
        return life

    async def _meet(self, life: Life, process: asyncio.subprocess.Process, fate: Fate) -> None:
        for act in fate:
            if await _ends_within(process, act.after):
                return
            self._signal(life, act.signal)
        if not fate:
            await process.wait()  # until `end`, or it ends by itself
        elif not await _ends_within(process, DRAIN_S):
            life.hung = True

    def _signal(self, life: Life, number: signal.Signals) -> None:
        if self._process is None or self._process.returncode is not None:
            return
        life.acts.append((time.monotonic(), number))
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


async def _ends_within(process: asyncio.subprocess.Process, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await process.wait()
    except TimeoutError:
        return False
    return True


async def _watch(life: Life, door: Door) -> None:
    """Note when the intake takes connections."""
    while life.ready is None:
        try:
            if door.path:
                _, writer = await asyncio.open_unix_connection(door.path)
            else:
                _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        except OSError:
            await asyncio.sleep(PROBE_S)
        else:
            life.ready = time.monotonic()
            writer.close()


def _read_from(path: Path, offset: int) -> str:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(20_000).decode(errors="replace")
