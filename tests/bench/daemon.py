"""The real daemon under measurement: `poller run` over a folder of its own, beside the fast platform."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, free_port
from tests.bench.usage import Usage, usage_of

PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the daemon's configuration: what a scenario turns. Seconds, but `rate` (queries per second)."""

    connections: int = 32
    rate: int = 100_000
    initial_delay: float = 0.5
    min_interval: float = 1.0
    age_fraction: float = 0.1
    max_interval: float = 900.0
    webhook: bool = False
    undecided_after: float = 0.0
    store: str | None = None  # its url; a file beside the configuration where there is none


@dataclass(slots=True)
class FastPlatform:
    """`fast_platform` in a process of its own."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stats(self) -> dict[str, Any]:
        """What it saw so far."""
        stats: dict[str, Any] = _get_json(f"{self.url}/stats")
        return stats


@contextmanager
def listening(*words: str) -> Iterator[tuple[int, int]]:
    """Start a program of Python's that prints the port it listens on, and end it; the port, and its pid."""
    process = _start(sys.executable, *words, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        _end(process)


@contextmanager
def fast_platform() -> Iterator[FastPlatform]:
    """Start one, and end it."""
    with listening("-m", "tests.bench.fast_platform") as (port, pid):
        yield FastPlatform(port, pid)


@dataclass(slots=True)
class Daemon:
    """A running daemon. `ready_s` is how long it took from its start to its first line that says so."""

    process: subprocess.Popen[str]
    folder: Path
    port: int
    ready_s: float

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def usage(self) -> Usage:
        return usage_of(self.pid)

    def submit(self, numbers: Sequence[str]) -> None:
        """Hand orders in, a thousand at a time."""
        for start in range(0, len(numbers), 1000):
            batch = [{"pay_partner": number} for number in numbers[start : start + 1000]]
            answers = _get_json(f"{self.url}/v1/orders", batch)
            assert all(answer["status"] == 201 for answer in answers)

    def ended(self) -> int:
        """How many orders the log says have ended."""
        return (self.folder / "log").read_bytes().count(b'"order.final"')

    def metrics(self) -> dict[str, float]:
        """Every sample of `/metrics`, by name and labels as they stand there."""
        with urllib.request.urlopen(f"{self.url}/metrics") as response:
            text = response.read().decode()
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}


def write_configuration(folder: Path, platform: str, settings: Settings) -> int:
    """The configuration of a daemon in `folder`; the port of its intake."""
    port = free_port()
    for name, text in (("park.secret", APP_SECRET), ("webhook.secret", WEBHOOK_SECRET)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    lines = [
        "[platform]",
        f'url = "{platform}/gate/1.0/parking/internal/payment"',
        f"rate_per_second = {settings.rate}",
        f"max_concurrency = {settings.connections}",
        "[[parks]]",
        f'park_uuid = "{PARK}"',
        'app_secret_file = "park.secret"',
        "[polling]",
        f"initial_delay_seconds = {settings.initial_delay}",
        f"min_interval_seconds = {settings.min_interval}",
        f"age_fraction = {settings.age_fraction}",
        f"max_interval_seconds = {settings.max_interval}",
        f"undecided_after_seconds = {settings.undecided_after}",
        "[intake]",
        f'listen = "127.0.0.1:{port}"',
        "[log]",
        'format = "json"',
    ]
    if settings.webhook:
        lines += ["[webhook]", f'url = "{platform}/notices"', 'secret_file = "webhook.secret"']
    if settings.store is not None:
        lines += ["[store]", f'url = "{settings.store}"']
    (folder / "poller.toml").write_text("\n".join(lines) + "\n")
    return port


@contextmanager
def daemon(
    platform: str, settings: Settings, folder: Path | None = None, wrapper: Sequence[str] = ()
) -> Iterator[Daemon]:
    """Start a daemon, wait until it is ready, and drain it. Its log goes to a file, as it would to the journal."""
    with tempfile.TemporaryDirectory(prefix="poller-bench-") as own:
        where = folder or Path(own)
        port = write_configuration(where, platform, settings)
        command = [*wrapper, sys.executable, "-m", "poller", "run", "--config", str(where / "poller.toml")]
        begun = time.monotonic()
        with (where / "log").open("a") as log:
            process = _start(*command, stdout=log)
        try:
            yield Daemon(process, where, port, _ready_after(port, process, begun))
        finally:
            _end(process)


def _ready_after(port: int, process: subprocess.Popen[str], begun: float) -> float:
    while time.monotonic() - begun < PATIENCE_S:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz"):
                return time.monotonic() - begun
        except OSError:
            assert process.poll() is None, "the daemon ended at its start"
            time.sleep(0.005)
    raise AssertionError("the daemon was not ready in time")


def _start(*command: str, stdout: Any) -> subprocess.Popen[str]:
    # A service runs from kept bytecode: to compile at each start takes memory that is not its own.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen(command, stdout=stdout, text=True, env={**env, "PYTHONUNBUFFERED": "1"})


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    if process.stdout is not None:
        process.stdout.close()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise


def _get_json(url: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        return json.load(response)
