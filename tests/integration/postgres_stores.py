"""Stores in PostgreSQL for tests of its faults, and the patience that their users have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from poller.ports import StoreUnavailableError
from poller.stores.postgres import PostgresStore

SOON_S = 15.0

T = TypeVar("T")


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url, **settings)
    try:
        yield store
    finally:
        with suppress(StoreUnavailableError):
            await store.close()


async def again(call: Callable[[], Awaitable[T]]) -> T:
    """As whoever uses a store does where it is unavailable."""
    async with asyncio.timeout(SOON_S):
        while True:
            with suppress(StoreUnavailableError):
                return await call()
            await asyncio.sleep(0.05)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(SOON_S):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.01)
