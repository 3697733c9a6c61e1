"""The daemon's own network: a namespace with one wire to the simulator, which can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.spans import Span

HOSTS = Path("/etc/netns")  # `ip netns exec` shows what lies here for a namespace in /etc


class NotHereError(Exception):
    """This machine cannot do it. The message is the reason."""


@dataclass(slots=True)
class Wire:
    """`host` is the simulator's end, an address. In the namespace the name `localhost` leads there.

    Plain http is for loopback only, and the daemon goes by the name.
    """

    name: str
    link: str
    host: str
    cuts: list[Span] = field(default_factory=list)

    @property
    def prefix(self) -> list[str]:
        """What comes before a command that is to live in the namespace; the process is the same one."""
        return ["ip", "netns", "exec", self.name]

    def cut(self, *, blackhole: bool) -> None:
        """With `blackhole` what is sent vanishes; else the daemon's own link is down and it is told so."""
        self.cuts.append(Span(time.monotonic()))
        if blackhole:
            _ip("link", "set", self.link, "down")
        else:
            _ip("-n", self.name, "link", "set", "eth0", "down")

    def mend(self) -> None:
        """Whole again; nothing happens where it is."""
        if self.cuts and self.cuts[-1].is_open:
            _ip("link", "set", self.link, "up")
            _ip("-n", self.name, "link", "set", "eth0", "up")
            self.cuts[-1].close(time.monotonic())


@contextmanager
def wired() -> Iterator[Wire]:
    """Make the namespace and its wire, and take both away again. Raises NotHereError."""
    if os.geteuid() != 0:
        raise NotHereError("a network namespace needs root")
    if shutil.which("ip") is None:
        raise NotHereError("a network namespace needs the command `ip` (Debian: iproute2)")
    pid = os.getpid()
    base = pid % 16_384 * 4
    here, there = (f"198.18.{(base + end) // 256}.{(base + end) % 256}" for end in (1, 2))
    wire = Wire(f"poller-chaos-{pid}", f"pch{pid}", here)
    folder, had_folder = HOSTS / wire.name, HOSTS.exists()
    try:
        try:
            _ip("netns", "add", wire.name)
            _ip("link", "add", wire.link, "type", "veth", "peer", "name", "eth0", "netns", wire.name)
            _ip("addr", "add", f"{here}/30", "dev", wire.link)
            _ip("-n", wire.name, "addr", "add", f"{there}/30", "dev", "eth0")
            _ip("link", "set", wire.link, "up")
            _ip("-n", wire.name, "link", "set", "eth0", "up")
            _ip("-n", wire.name, "link", "set", "lo", "up")
            folder.mkdir(parents=True)
            (folder / "hosts").write_text(f"{here} localhost\n")
            subprocess.run([*wire.prefix, "true"], check=True, capture_output=True, text=True)
        except (subprocess.CalledProcessError, OSError) as error:
            raise NotHereError(f"no network namespace: {why(error)}") from error
        yield wire
    finally:
        subprocess.run(["ip", "netns", "del", wire.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", wire.link], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)
        if not had_folder and HOSTS.exists() and not any(HOSTS.iterdir()):
            HOSTS.rmdir()


def why(error: subprocess.CalledProcessError | OSError) -> str:
    """The first line of what a command said, or the system's word."""
    said = str(getattr(error, "stderr", "") or error)
    return said.strip().partition("\n")[0]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
