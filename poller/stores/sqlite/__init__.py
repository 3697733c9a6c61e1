"""The embedded store: one SQLite file, one connection, one thread that writes, group commit."""

from poller.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
