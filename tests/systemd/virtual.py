"""A machine with hardware and a kernel of its own, emulated: its memory is limited, its power can be cut."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from tests.systemd import agent, probe, submitting
from tests.systemd.machine import Machine, Record, in_memory

HERE = Path(__file__).parent
EMULATOR = "qemu-system-x86_64"
PATIENCE_S = 150.0  # for one command, the boot included: emulated processors are slow
MEMORY_MIB = 1536  # more than the unit's MemoryMax and what goes beyond it
DISK = "1G"
LIBRARY = "/usr/local/lib"
AGENT = f"""[Unit]
After=dbus.socket
[Service]
ExecStart=python3 {LIBRARY}/agent.py
"""
# A serial line that nobody sits at, and what would run by itself when the clock is set.
MASKED = ("serial-getty@ttyS0.service", "getty@tty1.service", "timers.target")
COMMAND_LINE = "console=ttyS0 panic=-1 mitigations=off random.trust_cpu=on systemd.show_status=no"


def missing() -> str | None:
    """Why no virtual machine can be run here; None where it can."""
    if platform.machine() != "x86_64":
        return "its kernel is for amd64"
    absent = [name for name in (EMULATOR, "mke2fs", "apt-get") if shutil.which(name) is None]
    return f"needs {', '.join(absent)} (apt-get install qemu-system-x86 e2fsprogs)" if absent else None


@contextmanager
def disk(lower: Path, package: Path) -> Iterator[Path]:
    """A disk with a release's root file system on it, the package and what these tests need installed."""
    with in_memory("poller-disk-") as work:
        root, image = work / "root", work / "disk"
        for folder in ("root", "upper", "work"):
            (work / folder).mkdir()
        layers = f"lowerdir={lower},upperdir={work / 'upper'},workdir={work / 'work'}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, root], check=True)
        try:
            _furnish(root, package)
            command = ["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(image), DISK]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        finally:
            subprocess.run(["umount", root], check=True)
        yield image


def _furnish(root: Path, package: Path) -> None:
    shutil.copy(package, root / "root/poller.deb")
    subprocess.run(["chroot", root, "dpkg", "-i", "/root/poller.deb"], check=True, stdout=subprocess.DEVNULL)
    (root / "root/poller.deb").unlink()
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    for module in (agent, probe, submitting):
        assert module.__file__
        shutil.copy(module.__file__, root / LIBRARY.lstrip("/"))
    units = root / "etc/systemd/system"
    (units / "agent.service").write_text(AGENT)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/agent.service").symlink_to("../agent.service")
    for name in MASKED:
        (units / name).symlink_to("/dev/null")
    (root / probe.OPEN_FOLDER.lstrip("/")).mkdir(mode=0o777)
    shutil.copy(kernel() / "dummy.ko", root / probe.MODULE.lstrip("/"))


def kernel() -> Path:
    """The folder with the kernel, which is fetched where it is not kept."""
    made = subprocess.run([HERE / "kernel"], check=True, stdout=subprocess.PIPE, text=True)
    return Path(made.stdout.strip())


class VirtualMachine(Machine):
    """A machine that can be started and be cut off from its power, with a disk that stays.

    `told` are the lines that programs in it write to its second port.
    """

    told: IO[str]

    def __init__(self, image: Path) -> None:
        super().__init__(0, Path("/nonexistent"))
        self._image = image
        self._console = image.parent / "console"
        self._power = ExitStack()
        self._emulator: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Boot it; returns once it is up."""
        made = kernel()
        words = ["setpriv", "--pdeathsig", "KILL"]  # it ends with these tests
        words += [EMULATOR, "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(MEMORY_MIB)]
        words += ["-nodefaults", "-display", "none", "-no-reboot", "-serial", f"file:{self._console}"]
        words += ["-kernel", str(made / "vmlinuz"), "-initrd", str(made / "initrd"), "-append", COMMAND_LINE]
        # What the kernel does not flush is lost with the power: it is in the machine's own memory.
        words += ["-drive", f"file={self._image},format=raw,if=virtio,cache=writeback"]
        words += ["-device", "virtio-serial"]
        with ExitStack() as theirs:
            ends = []
            for number in (1, 2):
                mine, its = socket.socketpair()
                self._power.enter_context(mine)
                theirs.enter_context(its)
                mine.settimeout(PATIENCE_S)
                ends.append(self._power.enter_context(mine.makefile("rw")))
                words += ["-chardev", f"socket,id=port{number},fd={its.fileno()}"]
                words += ["-device", f"virtserialport,chardev=port{number},nr={number}"]
                os.set_inheritable(its.fileno(), True)
            self._agent, self.told = ends
            self._emulator = subprocess.Popen(words, stdin=subprocess.DEVNULL, close_fds=False)
        self.run("systemctl", "is-system-running", "--wait", check=False)

    def cut_power(self) -> list[str]:
        """At once: SIGKILL for the emulator. Whole lines that were `told` before and not read yet."""
        if self._emulator is None:
            return []
        self._emulator.kill()
        self._emulator.wait()
        lines = self.told.readlines()
        self._power.close()
        return [line.strip() for line in lines if line.endswith("\n")]

    def until(self, since: str, holds: Callable[[Record], bool], unit: str = "poller") -> Record:
        """Wait for a record of a unit since then; fails loudly where it does not come in time."""
        by = time.monotonic() + PATIENCE_S
        while time.monotonic() < by:
            lines = self.out("journalctl", "-u", unit, "-o", "json", "--all", "--since", since).splitlines()
            for record in map(json.loads, lines):
                if holds(record):
                    found: Record = record
                    return found
        raise AssertionError(f"waited in vain; the last lines: {lines[-20:]}")

    def _perform(self, words: tuple[str, ...], stdin: str) -> subprocess.CompletedProcess[str]:
        answer = ""
        with contextlib.suppress(TimeoutError, ConnectionError):
            self._agent.write(json.dumps({"words": words, "stdin": stdin}) + "\n")
            self._agent.flush()
            answer = self._agent.readline()
        assert answer, f"{words}: no answer; its console: {self._console.read_text(errors='replace')[-3000:]}"
        told = json.loads(answer)
        return subprocess.CompletedProcess(words, told["status"], told["out"], told["err"])


@contextmanager
def running(image: Path) -> Iterator[VirtualMachine]:
    """Started with that disk; off afterwards."""
    machine = VirtualMachine(image)
    try:
        machine.start()
        yield machine
    finally:
        machine.cut_power()
