"""Which of SQLite's errors are the world's faults, and what each means for the operator."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

from poller.ports import StoreCorruptError, StoreUnavailableError

Fault = StoreUnavailableError | StoreCorruptError

_UNAVAILABLE = {
    sqlite3.SQLITE_FULL: "the disk is full: free space on the volume of {path}",
    sqlite3.SQLITE_IOERR: "an I/O error ({name}) at {path}: check the disk, its mount and the system's log",
    sqlite3.SQLITE_READONLY: "{path} cannot be written ({name}): check the owner of the file and of its folder, "
    "and whether the volume is mounted read-only",
    sqlite3.SQLITE_BUSY: "another program has {path} locked ({name}): stop it",
    sqlite3.SQLITE_LOCKED: "another program has {path} locked ({name}): stop it",
    sqlite3.SQLITE_PROTOCOL: "another program has {path} locked ({name}): stop it",
    sqlite3.SQLITE_CANTOPEN: "{path} or a file beside it cannot be opened ({name}): check the owner and mode of "
    "the file and of its folder",
    sqlite3.SQLITE_PERM: "{path} may not be used ({name}): check its owner and mode",
}
_CORRUPT = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


_FULL, _READ_ONLY, _NOT_OURS = (
    "free space on its volume",
    "mount its volume for writing",
    "check the owner and mode of the file and of its folder",
)
_ADVICE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _NOT_OURS,
    errno.EPERM: _NOT_OURS,
    errno.ENOENT: "create its folder",
}


def fault_of(error: BaseException, path: Path) -> Fault | None:
    """The store's error for one of SQLite's or the system's; None where `error` is a defect or no fault."""
    if isinstance(error, Fault):
        return error
    if isinstance(error, OSError):
        advice = _ADVICE.get(error.errno or 0, "check the disk, its mount and the system's log")
        return StoreUnavailableError(f"{path} cannot be used: {error.strerror or error}: {advice}")
    if not isinstance(error, sqlite3.Error):
        return None
    primary = _primary(error)
    if primary in _CORRUPT:
        return corrupt(path, str(error))
    if primary in _UNAVAILABLE:
        name = getattr(error, "sqlite_errorname", str(error))
        return StoreUnavailableError(_UNAVAILABLE[primary].format(path=path, name=name))
    return None


def is_io_error(error: BaseException) -> bool:
    """Whether the disk failed at reading, writing or syncing."""
    return isinstance(error, sqlite3.Error) and _primary(error) == sqlite3.SQLITE_IOERR


def corrupt(path: Path, why: str) -> StoreCorruptError:
    """`path` is no store of ours, for the reason `why`."""
    return StoreCorruptError(
        f"{path} is not a usable store ({why}): restore a backup in its place, or move it and the files "
        f"{path.name}-wal and {path.name}-shm away to begin with an empty one"
    )


def _primary(error: sqlite3.Error) -> int:
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    return code
