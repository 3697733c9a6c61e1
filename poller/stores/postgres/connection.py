"""What is used of the driver's connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from poller.ports import StoreUnavailableError

Row = Sequence[Any]


class Connection(Protocol):
    """See asyncpg's."""

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str: ...

    async def fetch(self, query: str, *args: object) -> list[Row]: ...

    async def fetchrow(self, query: str, *args: object) -> Row | None: ...

    async def fetchval(self, query: str, *args: object) -> Any: ...

    def get_server_pid(self) -> int: ...

    async def add_listener(self, channel: str, callback: Callable[..., None]) -> None: ...

    def add_log_listener(self, callback: Callable[..., None]) -> None: ...

    def remove_log_listener(self, callback: Callable[..., None]) -> None: ...

    async def close(self, *, timeout: float) -> None: ...

    def terminate(self) -> None: ...

    def is_closed(self) -> bool: ...


@contextmanager
def confirmed(connection: Connection) -> Iterator[None]:
    """Around what commits: raises StoreUnavailableError where that was not confirmed by whom it waits for.

    A commit whose wait for a synchronous standby is cancelled succeeds all the same, with a warning: the standby
    may not have it.
    """
    warnings: list[str] = []

    def heard(_: object, message: Any) -> None:
        if message.severity_en == "WARNING":
            warnings.append(str(message.message))

    connection.add_log_listener(heard)
    try:
        yield
    finally:
        connection.remove_log_listener(heard)
    if warnings:
        raise StoreUnavailableError(
            f"PostgreSQL has written it, but no standby has confirmed it ({' '.join(warnings[0].split())[:200]}): "
            "look at the synchronous standby; where it is gone for good, take it out of synchronous_standby_names"
        )
