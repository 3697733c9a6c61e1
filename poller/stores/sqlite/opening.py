"""From a path to a connection that is fit for use, or to a clear error that leaves the file as it was."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from poller.ports import StoreUnavailableError
from poller.stores.sqlite import schema
from poller.stores.sqlite.faults import corrupt, fault_of

BUSY_S = 1.0  # nobody else should write; a reader's checkpoint may be in the way for a moment
WAL_LIMIT_BYTES = 16 * 1024 * 1024
CHECKPOINT_PAGES = 4000  # of 4 KiB: as much as the log may keep; each checkpoint costs two syncs
CACHE_KIB = 16 * 1024
MAGIC = b"SQLite format 3\0"

Connect = Callable[[Path], sqlite3.Connection]


def connect(path: Path) -> sqlite3.Connection:
    """The one connection: transactions are begun by hand, and one thread at a time uses it."""
    return sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)


def open_connection(path: Path, make: Connect = connect) -> sqlite3.Connection:
    """Open, create or migrate the file at `path`, which the caller has locked.

    Raises StoreMovedError and StoreTooNewError before anything is written, StoreCorruptError and
    StoreUnavailableError.
    """
    try:
        if not _is_new(path):
            look(path)
        connection = make(path)
    except (OSError, sqlite3.Error) as error:
        raise fault_of(error, path) or error from error
    try:
        _prepare(connection, path)
    except (OSError, sqlite3.Error) as error:
        connection.close()
        raise fault_of(error, path) or error from error
    except BaseException:
        connection.close()
        raise
    return connection


def _is_new(path: Path) -> bool:
    """Create the file, readable by its owner alone, where there is none."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        empty, wal = path.stat().st_size == 0, path.with_name(path.name + "-wal")
        if empty and wal.exists() and wal.stat().st_size:  # SQLite would remove it, and what is in it
            raise corrupt(path, "it is empty, and its write-ahead log is not") from None
        return empty
    os.close(descriptor)
    sync_folder(path)
    return True


def look(path: Path) -> None:
    """Refuse what is no store of ours, or a newer one, on a connection that cannot write."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise corrupt(path, "it is not a SQLite file")
    # Without a WAL the file is all there is, and `immutable` keeps SQLite from making files beside it.
    wal = path.with_name(path.name + "-wal")
    how = "mode=ro" if wal.exists() else "immutable=1"
    reader = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=BUSY_S)
    try:
        schema.check(reader, path)
    finally:
        reader.close()


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise StoreUnavailableError(
            f"{path} cannot be kept with a write-ahead log (journal mode is {mode}): put it on a local disk"
        )
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT_BYTES}")
    connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    schema.migrate(connection, path)


def sync_folder(path: Path) -> None:
    """Make the name of a new file survive a power cut."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
