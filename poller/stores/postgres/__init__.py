"""The store of a fleet: many daemons on one PostgreSQL, each holding orders and deliveries under a lease."""

from poller.ports import HeldElsewhereError, LeaseLostError
from poller.stores.postgres.store import PostgresStore

__all__ = ["HeldElsewhereError", "LeaseLostError", "PostgresStore"]
