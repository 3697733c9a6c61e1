"""One daemon on one store: an flock on a file beside it, with the holder's pid inside.

The kernel lets go of it when the holder dies, however it dies. The file itself stays: removing it would let
two processes hold locks on two files of one name.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

from poller.ports import StoreHeldError, StoreUnavailableError
from poller.stores.sqlite.faults import fault_of

POLL_S = 0.1


class StoreLock:
    """The lock of one store file, held from `acquire` to `release`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor: int | None = descriptor

    @classmethod
    async def acquire(cls, store: Path, wait: float) -> StoreLock:
        """Wait at most `wait` seconds for the lock of `store`.

        Raises StoreHeldError naming the holder's pid, and StoreUnavailableError.
        """
        path = store.with_name(store.name + ".lock")
        descriptor = _open(path)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        try:
            while not _try(descriptor):
                left = deadline - loop.time()
                if left <= 0:
                    raise StoreHeldError(f"{store} is held by {_holder(descriptor)}: stop it first")  # noqa: TRY301
                await asyncio.sleep(min(POLL_S, left))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise fault_of(error, path) or error from error
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def release(self) -> None:
        """Let the next daemon have the store. Harmless when repeated."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open(path: Path) -> int:
    if not path.parent.is_dir():
        raise StoreUnavailableError(
            f"the folder {path.parent} of the store does not exist: create it, owned by the daemon's user"
        )
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise fault_of(error, path) or error from error


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> str:
    pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    return f"the process with pid {pid}" if pid.isdecimal() else "another process"
