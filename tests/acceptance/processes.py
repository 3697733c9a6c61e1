"""The real processes: a daemon and a simulated platform, started, watched and signalled as an operator would."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
APP_SECRET = "0123456789abcdef0123456789abcdef"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"a webhook secret of tests").decode()
PATIENCE_S = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Process:
    """A running process; its stdout is read line by line, its stderr kept."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    _grown: asyncio.Event = field(default_factory=asyncio.Event)
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    @classmethod
    async def start(cls, *words: str, env: Mapping[str, str] | None = None) -> Process:
        """`python -m poller WORDS`."""
        return await cls.launch(sys.executable, "-m", "poller", *words, env=env)

    @classmethod
    async def launch(cls, *command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Process:
        """Any program."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=env,
            cwd=cwd,
            limit=1 << 20,
        )
        self = cls(process)
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            asyncio.create_task(self._read(process.stdout, self.lines)),
            asyncio.create_task(self._read(process.stderr, self.stderr)),
        ]
        return self

    async def _read(self, stream: asyncio.StreamReader, into: list[str]) -> None:
        async for line in stream:
            into.append(line.decode())
            self._grown.set()
        self._grown.set()

    def records(self, event: str | None = None) -> list[dict[str, Any]]:
        """The log so far, or its lines of one event."""
        records = [json.loads(line) for line in self.lines]
        return records if event is None else [record for record in records if record["event"] == event]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until the output makes `holds` true; fails loudly where it does not in time."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not holds():
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(f"waited in vain; stdout: {self.lines[-20:]} stderr: {self.stderr}") from None

    async def logged(self, event: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for so many lines of an event; all of them."""
        await self.until(lambda: len(self.records(event)) >= count)
        return self.records(event)

    async def end(self) -> int:
        """Wait for its exit and return the code."""
        async with asyncio.timeout(PATIENCE_S):
            code = await self.process.wait()
            await asyncio.gather(*self._readers)
        return code

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process.returncode is None:
            self.process.kill()
        await self.end()


@dataclass(frozen=True, slots=True)
class Site:
    """A lot's folder: configuration, secrets, store."""

    folder: Path
    port: int

    @classmethod
    def make(cls, folder: Path, platform_url: str, webhook_url: str | None, **polling: float) -> Site:
        folder.mkdir(exist_ok=True)
        site = cls(folder, free_port())
        for name, text in (("park.secret", APP_SECRET), ("webhook.secret", WEBHOOK_SECRET)):
            path = folder / name
            path.write_text(text + "\n")
            path.chmod(0o600)
        rate = int(polling.pop("rate_per_second", 100))
        timeout = polling.pop("timeout_seconds", 3)
        polling = {"initial_delay_seconds": 0.1, "min_interval_seconds": 0.3, **polling}
        lines = [
            "[platform]",
            f'url = "{platform_url}"',
            f"rate_per_second = {rate}",
            f"timeout_seconds = {timeout}",
            "[[parks]]",
            f'park_uuid = "{PARK}"',
            'app_secret_file = "park.secret"',
            "[polling]",
            *(f"{key} = {value}" for key, value in polling.items()),
            "[intake]",
            f'listen = "127.0.0.1:{site.port}"',
            "[log]",
            'level = "debug"',
            'format = "json"',
        ]
        if webhook_url is not None:
            lines += ["[webhook]", f'url = "{webhook_url}"', 'secret_file = "webhook.secret"']
        site.config.write_text("\n".join(lines) + "\n")
        return site

    @property
    def config(self) -> Path:
        return self.folder / "poller.toml"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> Process:
        """Start the daemon and wait until it takes orders on."""
        daemon = await Process.start("run", "--config", str(self.config))
        await daemon.logged("daemon.started")
        return daemon

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Process]:
        """The daemon, ended by kill -9 if the test has not ended it."""
        daemon = await self.start()
        try:
            yield daemon
        finally:
            await daemon.kill()

    async def command(self, *words: str) -> tuple[int, str, str]:
        """Run a client command to its end: exit code, stdout, stderr."""
        process = await Process.start(*words, "--config", str(self.config))
        code = await process.end()
        return code, "".join(process.lines), "".join(process.stderr)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession(self.url) as session:
            yield session
