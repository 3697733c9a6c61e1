"""The engines that keep orders and notices, each behind `poller.ports.Store`; one is chosen by its URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from poller.ports import Fleet, Stamp, Store, StoreUnavailableError
from poller.ports.fleet import LEASE_S
from poller.ports.records import Records
from poller.stores.sqlite import SqliteStore
from poller.stores.sqlite.backup import copy_to

SQLITE = "sqlite:///"
POSTGRES = ("postgresql://", "postgres://")


class KeptStore(Store, Records, Protocol):
    """What the daemon uses of an engine beside the queue itself."""

    def fleet(self) -> Fleet | None:
        """This daemon's place among those that share the store; None where one has it for itself."""

    def last_stamp(self) -> Stamp | None:
        """The stamp that was on disk when the store was opened; None for a new store."""

    def keep_time(self, stamp: Callable[[], Stamp]) -> None:
        """From now on write `stamp()` down with every transaction that writes. It is called in any thread."""

    def watch(self, wrote: Callable[[float, bool], None]) -> None:
        """From now on tell how many seconds each transaction that wrote took, and whether it was durable.

        `wrote` is called in any thread.
        """

    def check(self) -> None:
        """Raises StoreCorruptError once any call, or writing behind, has met a malformed file.

        From then on every call does.
        """

    def size_bytes(self) -> int:
        """What the store takes on disk."""

    def busy_since(self) -> float | None:
        """`time.monotonic()` when the transaction that is running now began; None while none runs."""


async def open_store(
    url: str, *, lock_wait: float = 10.0, password: str | None = None, name: str = "", lease: float = LEASE_S
) -> KeptStore:
    """Open the store at `url`: `sqlite:///relative/path`, `sqlite:////absolute/path` or `postgresql://…`.

    Waits at most `lock_wait` seconds for another process to let go of a file. For PostgreSQL are `password`,
    `name`, the daemon's own at each of its starts, and `lease`, the seconds from its last sign of life to the
    others' queries. Raises ValueError for another URL, and StoreHeldError, StoreMovedError, StoreTooNewError,
    StoreCorruptError and StoreUnavailableError.
    """
    if is_postgres(url):
        from poller.stores.postgres import PostgresStore  # noqa: PLC0415 - it needs a driver that is an extra

        return await PostgresStore.open(url, password=password, name=name, lease=lease)
    return await SqliteStore.open(sqlite_path(url), lock_wait=lock_wait)


def backup(url: str, path: Path) -> int:
    """Write a consistent copy of the store at `url` to a new file; how many orders it holds.

    The daemon need not be asked: it may use the store meanwhile, or not run. Raises FileExistsError,
    StoreMovedError, StoreTooNewError, StoreCorruptError and StoreUnavailableError; this for PostgreSQL, too,
    which has its own.
    """
    if is_postgres(url):
        raise StoreUnavailableError(
            "a store in PostgreSQL is copied with its own programs: pg_dump, pg_basebackup"
        )
    return copy_to(path, sqlite_path(url))


def is_postgres(url: str) -> bool:
    """Whether a store's URL names a database of PostgreSQL."""
    return url.startswith(POSTGRES)


def unverified(url: str) -> list[str]:
    """The servers on other machines that a store's URL has believed without their certificates."""
    if not is_postgres(url):
        return []
    from poller.stores.postgres.address import parse  # noqa: PLC0415 - it needs a driver that is an extra

    return [str(server) for server in parse(url).unverified]


def sqlite_path(url: str) -> Path:
    """The file that a store's URL names. Raises ValueError where it names none."""
    if not url.startswith(SQLITE) or not url.removeprefix(SQLITE):
        raise ValueError(f"a store's url is sqlite:////absolute/path or sqlite:///relative/path, not {url!r}")
    return Path(url.removeprefix(SQLITE))
