"""The engines that keep orders and notices, each behind `poller.ports.Store`; one is chosen by its URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from poller.ports import Stamp, Store
from poller.stores.sqlite import SqliteStore

SQLITE = "sqlite:///"


class KeptStore(Store, Protocol):
    """What the daemon uses of an engine beside the queue itself."""

    def last_stamp(self) -> Stamp | None:
        """The stamp that was on disk when the store was opened; None for a new store."""

    def keep_time(self, stamp: Callable[[], Stamp]) -> None:
        """From now on write `stamp()` down with every transaction that writes. It is called in any thread."""

    async def backup(self, path: Path) -> None:
        """Write a consistent copy to a new file. Raises FileExistsError and StoreUnavailableError."""

    def size_bytes(self) -> int:
        """What the store takes on disk."""

    def busy_since(self) -> float | None:
        """`time.monotonic()` when the transaction that is running now began; None while none runs."""


async def open_store(url: str, *, lock_wait: float = 10.0) -> KeptStore:
    """Open the store at `url`: `sqlite:///relative/path` or `sqlite:////absolute/path`.

    Waits at most `lock_wait` seconds for another process to let go of it. Raises ValueError for another
    URL, and StoreHeldError, StoreTooNewError, StoreCorruptError and StoreUnavailableError.
    """
    return await SqliteStore.open(sqlite_path(url), lock_wait=lock_wait)


def sqlite_path(url: str) -> Path:
    """The file that a store's URL names. Raises ValueError where it names none."""
    if not url.startswith(SQLITE) or not url.removeprefix(SQLITE):
        raise ValueError(f"a store's url is sqlite:////absolute/path or sqlite:///relative/path, not {url!r}")
    return Path(url.removeprefix(SQLITE))
