"""A consistent copy of the store, taken while it is in use."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from poller.stores.sqlite.faults import fault_of
from poller.stores.sqlite.opening import connect, sync_folder

STEP_PAGES = 512  # 2 MiB between two looks at what waits


def copy_to(path: Path, source: sqlite3.Connection, breathe: Callable[[], None]) -> None:
    """Copy `source` into a new file that its owner alone can read; `breathe` is called between the steps.

    What `breathe` writes to `source` is in the copy. A failed copy is removed. Raises FileExistsError where
    there is something at `path`, and StoreUnavailableError.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise FileExistsError(f"{path} is there already: name a new file for the copy") from None
    except OSError as error:
        raise fault_of(error, path) or error from error
    try:
        _copy(path, source, breathe)
        sync_folder(path)
    except (OSError, sqlite3.Error) as error:
        path.unlink(missing_ok=True)
        raise fault_of(error, path) or error from error


def _copy(path: Path, source: sqlite3.Connection, breathe: Callable[[], None]) -> None:
    target = connect(path)
    try:
        source.backup(target, pages=STEP_PAGES, progress=lambda _status, _left, _total: breathe())
        target.execute("PRAGMA journal_mode = DELETE")  # one file, complete in itself
    finally:
        target.close()
