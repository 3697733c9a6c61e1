"""A small disk of the store's own, which can be filled to the last byte and freed again."""

from __future__ import annotations

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.spans import Span
from tests.chaos.wire import NotHereError, why


@dataclass(slots=True)
class Disk:
    folder: Path
    full: list[Span] = field(default_factory=list)

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"

    def fill(self) -> None:
        """Take up whatever is free."""
        self.full.append(Span(time.monotonic()))
        descriptor = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        try:
            state = os.fstatvfs(descriptor)
            os.posix_fallocate(descriptor, 0, max(state.f_bavail - 1, 1) * state.f_frsize)
            while True:
                os.write(descriptor, bytes(state.f_frsize))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        finally:
            os.close(descriptor)

    def free(self) -> None:
        """Give it back; nothing happens where it is not full."""
        if self.full and self.full[-1].is_open:
            self._ballast.unlink()
            self.full[-1].close(time.monotonic())


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[Disk]:
    """Mount `mib` MiB of memory at `folder`, and unmount it again. Raises NotHereError."""
    if os.geteuid() != 0:
        raise NotHereError("a disk to fill needs root (mount)")
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=0700", "tmpfs", str(folder)],
            check=True,
            capture_output=True,
            text=True,
        )
    except (subprocess.CalledProcessError, OSError) as error:
        raise NotHereError(f"no disk to fill: {why(error)}") from error
    try:
        yield Disk(folder)
    finally:
        unmounted = subprocess.run(["umount", str(folder)], check=False, capture_output=True)
        if unmounted.returncode:
            subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)
