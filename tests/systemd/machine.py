"""A machine of its own: a release's root file system, booted with its real systemd, without a network."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

BOOT_S = 60.0
PATIENCE_S = 40.0
HALT_S = 30.0
CGROUPS = Path("/sys/fs/cgroup")
ENVIRON = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
WANTED = ("systemd-nspawn", "mmdebstrap", "zstd", "dpkg-deb", "nsenter", "unshare")

Record = dict[str, Any]


def missing() -> str | None:
    """Why no machine can be booted here; None where it can."""
    if os.geteuid() != 0:
        return "needs root, to boot a machine"
    absent = [name for name in WANTED if shutil.which(name) is None]
    return f"needs {', '.join(absent)} (apt-get install systemd-container mmdebstrap zstd)" if absent else None


class Machine:
    """A booted machine. `leader` is its PID 1 as seen from here."""

    def __init__(self, leader: int, root: Path) -> None:
        self.leader = leader
        self.root = root

    def run(self, *words: str, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end."""
        done = self._perform(words, stdin)
        if check:
            assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def _perform(self, words: tuple[str, ...], stdin: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._inside(words),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=ENVIRON,
            check=False,
        )

    @contextmanager
    def background(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """A command that runs meanwhile; its output is one stream. Ended where the test is done with it."""
        with subprocess.Popen(
            self._inside(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRON,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def out(self, *words: str) -> str:
        """The stdout of a command that succeeds."""
        return self.run(*words).stdout.strip()

    def show(self, name: str, unit: str = "poller") -> str:
        """A property of a unit."""
        return self.out("systemctl", "show", "-P", name, unit)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file in it, root's."""
        command = f"mkdir -p {Path(path).parent} && cat >{path} && chmod {mode:o} {path}"
        self.run("sh", "-c", command, stdin=text)

    def now(self) -> str:
        """The moment that the journal ends with, as journalctl takes it."""
        self.run("journalctl", "--sync")
        return self.out("date", "+@%s.%6N")

    def journal(self, since: str, *matches: str) -> list[Record]:
        """The records of the service since then: the daemon's own, and what systemd says of it."""
        self.run("journalctl", "--sync")
        lines = self.out("journalctl", "-u", "poller", "-o", "json", "--all", "--since", since, *matches)
        return [json.loads(line) for line in lines.splitlines()]

    def until(self, since: str, holds: Callable[[Record], bool], unit: str = "poller") -> Record:
        """Wait for a record of a unit since then; fails loudly where it does not come in time."""
        command = ["journalctl", "-u", unit, "-o", "json", "--all", "-f", "-n", "all", "--since", since]
        seen: list[object] = []
        with subprocess.Popen(
            ["timeout", f"{PATIENCE_S}", *self._inside(command)], stdout=subprocess.PIPE, text=True, env=ENVIRON
        ) as following:
            assert following.stdout is not None
            try:
                for line in following.stdout:
                    record: Record = json.loads(line)
                    if holds(record):
                        return record
                    seen.append(record.get("MESSAGE"))
            finally:
                following.kill()
        raise AssertionError(f"waited in vain; the last lines: {seen[-20:]}")

    def logged(self, since: str, event: str) -> Record:
        """Wait for a line of the daemon's log; its keys."""
        line: Record = parsed(self.until(since, lambda record: parsed(record).get("event") == event))
        return line

    def _inside(self, words: tuple[str, ...] | list[str]) -> list[str]:
        return ["nsenter", "-t", str(self.leader), "-a", "--", *words]


def after(record: Record) -> str:
    """The moment after a record."""
    seconds, micros = divmod(int(record["__REALTIME_TIMESTAMP"]) + 1, 1_000_000)
    return f"@{seconds}.{micros:06}"


def parsed(record: Record) -> Record:
    """The keys of a line of the daemon's log; empty for any other line."""
    with contextlib.suppress(ValueError, TypeError):
        line = json.loads(record["MESSAGE"])
        if isinstance(line, dict):
            return line
    return {}


@contextmanager
def in_memory(prefix: str) -> Iterator[Path]:
    """A folder in memory, gone afterwards with all that is in it."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/var/tmp"))
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
        yield folder
    finally:
        _unmount(folder)
        folder.rmdir()


@contextmanager
def booted(lower: Path) -> Iterator[Machine]:
    """Boot a root file system, which is not changed by what happens."""
    with ExitStack() as closing:
        work = closing.enter_context(in_memory("poller-machine-"))
        root = work / "root"
        for folder in ("root", "upper", "work"):
            (work / folder).mkdir()
        layers = f"lowerdir={lower},upperdir={work / 'upper'},workdir={work / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, root], check=True)
        closing.callback(_unmount, root)
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        groups = closing.enter_context(_cgroups(work.name))
        yield closing.enter_context(_running(root, work, groups))


def _unmount(root: Path) -> None:
    subprocess.run(["umount", root], check=True)


@contextmanager
def _running(root: Path, work: Path, groups: list[Path]) -> Iterator[Machine]:
    name = work.name.replace("_", "x")
    words = ["systemd-nspawn", "--boot", "--quiet", f"--directory={root}", f"--machine={name}"]
    words += ["--private-network", "--register=no", "--keep-unit", "--link-journal=no", "--console=read-only"]
    words += ["--notify-ready=yes"]
    enter = 'for group; do case $group in /sys/*) echo $$ >"$group/cgroup.procs"; shift;; esac; done; exec "$@"'
    with (work / "console").open("wb") as console, ExitStack() as closing:
        # Closed once it is up: a machine whose notices nobody reads comes to a halt.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.bind(str(work / "notify"))
            container = subprocess.Popen(
                ["sh", "-c", enter, "sh", *map(str, groups), *words],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                env={**ENVIRON, "NOTIFY_SOCKET": str(work / "notify")},
            )
            closing.callback(_end, container, groups)
            leader = _leader(notices, container)
        assert leader, f"it does not boot: {(work / 'console').read_text(errors='replace')}"
        yield Machine(leader, root)


def _leader(notices: socket.socket, container: subprocess.Popen[bytes]) -> int:
    """Wait until the machine is up; its PID 1, or 0 where it does not come up."""
    notices.settimeout(1)
    until, leader = time.monotonic() + BOOT_S, 0
    while container.poll() is None and time.monotonic() < until:
        try:
            lines = notices.recv(4096).decode().splitlines()
        except TimeoutError:
            continue
        for line in lines:
            if line.startswith("X_NSPAWN_LEADER_PID="):
                leader = int(line.partition("=")[2])
            if line == "READY=1" and leader:
                return leader
    return 0


def _end(container: subprocess.Popen[bytes], groups: list[Path]) -> None:
    """Cut its power: nothing in it is needed any more."""
    ending = []
    for processes in groups[0].rglob("cgroup.procs"):
        for pid in processes.read_text().split():
            with contextlib.suppress(ProcessLookupError):
                ending.append(os.pidfd_open(int(pid)))
                signal.pidfd_send_signal(ending[-1], signal.SIGKILL)
    for process in ending:
        select.select([process], [], [], HALT_S)
        os.close(process)
    container.wait(HALT_S)


@contextmanager
def _cgroups(name: str) -> Iterator[list[Path]]:
    """An own group in each hierarchy that systemd uses, which the machine takes for the root of all."""
    hierarchies = [CGROUPS / "systemd", CGROUPS / "unified"]
    if not hierarchies[0].is_dir():
        hierarchies = [CGROUPS]
    groups = [hierarchy / name for hierarchy in hierarchies if hierarchy.is_dir()]
    for group in groups:
        group.mkdir()
    try:
        yield groups
    finally:
        for group in groups:
            for folder, _, _ in os.walk(group, topdown=False):
                Path(folder).rmdir()
