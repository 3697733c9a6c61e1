"""A consistent copy of a store, whether a daemon uses it, has ended, or was killed.

The store is opened read-only: a second connection that wrote or checkpointed could spoil it.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from poller.ports import StoreCorruptError, StoreUnavailableError
from poller.stores.sqlite import schema
from poller.stores.sqlite.faults import corrupt, fault_of
from poller.stores.sqlite.opening import connect, sync_folder

BUSY_S = 10.0  # while another process recovers what a kill left behind


def copy_to(path: Path, store: Path) -> int:
    """Copy one snapshot of `store` into a new file that its owner alone can read; how many orders it holds.

    The copy is one file, complete in itself and on disk; it appears at `path` only once it has been found
    sound. Raises FileExistsError where there is something at `path`, StoreMovedError,
    StoreTooNewError, StoreCorruptError and StoreUnavailableError.
    """
    try:
        with TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
            part = Path(folder) / "copy"
            os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            orders = _copy(part, store)
            _publish(part, path)
    except FileExistsError:
        raise FileExistsError(f"{path} is there already: name a new file for the copy") from None
    except (OSError, sqlite3.Error) as error:
        raise fault_of(error, path) or error from error
    return orders


def _copy(part: Path, store: Path) -> int:
    with closing(_snapshot(store)) as reader, closing(connect(part)) as copy:
        try:
            reader.backup(copy)  # all of it in one step: one snapshot
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, complete in itself
            unsound = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
            if unsound != "ok":
                raise corrupt(store, unsound)
            orders: int = copy.execute("SELECT count(*) FROM orders").fetchone()[0]
        except sqlite3.DatabaseError as error:
            fault = fault_of(error, store)
            if isinstance(fault, StoreCorruptError):
                raise fault from error
            raise
    return orders


def _snapshot(store: Path) -> sqlite3.Connection:
    """A connection inside the read transaction that the copy is made from."""
    if not store.exists() or store.stat().st_size == 0:
        raise StoreUnavailableError(
            f"there is no store at {store}: name it under [store] url, or set STATE_DIRECTORY as the daemon has it"
        )
    # SQLite makes the two files beside a store that is not in use, even to read it; where it cannot make them,
    # nobody can be writing either.
    alone = not store.with_name(store.name + "-wal").exists() and not os.access(store.parent, os.W_OK)
    how = "mode=ro&immutable=1" if alone else "mode=ro"
    try:
        reader = sqlite3.connect(
            f"{store.absolute().as_uri()}?{how}", uri=True, timeout=BUSY_S, isolation_level=None
        )
        try:
            reader.execute("BEGIN")
            schema.check(reader, store)
        except BaseException:
            reader.close()
            raise
    except sqlite3.Error as error:
        raise fault_of(error, store) or error from error
    return reader


def _publish(part: Path, path: Path) -> None:
    """Put the copy on disk and give it its name, which nobody else may have taken meanwhile."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        part.replace(path)
    except OSError:
        path.unlink()
        raise
    sync_folder(path)
