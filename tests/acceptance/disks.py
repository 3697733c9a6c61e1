"""Disks that can be made to fail: a small volume of its own, or a limit on the files of the daemon."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from tests.acceptance.processes import Process

UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class Disk(Protocol):
    folder: Path

    def fail(self, daemon: Process) -> None:
        """Nothing more can be written."""

    def recover(self, daemon: Process) -> None:
        """There is room again."""


class SmallVolume:
    """A tmpfs of 2 MiB, filled up by a file of the test's: the kernel's own "no space left on device"."""

    says = "the disk is full: free space on the volume"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fail(self, daemon: Process | None = None) -> None:
        with suppress(OSError), self._ballast.open("wb", buffering=0) as ballast:
            while True:
                ballast.write(b"\0" * 4096)

    def recover(self, daemon: Process | None = None) -> None:
        self._ballast.unlink()

    def read_only(self, yes: bool) -> None:
        """Mount it for reading alone, or for writing again; nobody may have a file of it open for writing."""
        run = ["mount", "-o", f"remount,{'ro' if yes else 'rw'}", str(self.folder)]
        subprocess.run(run, check=True, capture_output=True)


class LimitedFiles:
    """The daemon may not write a byte to any file: its writes fail, and SQLite calls that an I/O error."""

    says = "an I/O error (SQLITE_IOERR_WRITE)"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fail(self, daemon: Process) -> None:
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    def recover(self, daemon: Process) -> None:
        resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, UNLIMITED)


@contextmanager
def small_volume(folder: Path) -> Iterator[SmallVolume | None]:
    """Mounted at `folder`; None where this user or machine may not mount."""
    folder.mkdir()
    mount, umount = shutil.which("mount"), shutil.which("umount")
    run = [str(mount), "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() or not mount or not umount or subprocess.run(run, check=False, capture_output=True).returncode:
        yield None
        return
    try:
        yield SmallVolume(folder)
    finally:
        subprocess.run([umount, str(folder)], check=True)
