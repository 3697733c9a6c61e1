"""How the tables become newer beside those who use them: who waits, who goes on, who is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from poller.core.orders import NewOrder
from poller.ports import LeaseLostError, StoreTooNewError, StoreUnavailableError
from poller.stores.postgres import PostgresStore, migration, schema
from poller.stores.postgres.schema import Builds, Contracts, Expands, Step
from tests.integration.postgres_server import beside, schema_for, shared_server
from tests.integration.store_engines import AT, key, take_on

LEASE_S, HEARTBEAT_S = 1.5, 0.1
COLUMN = Expands(("ALTER TABLE orders ADD COLUMN colour text",))
INDEX = Builds("orders_accepted", "orders (accepted_at)")
CONTRACTING = Contracts(("CREATE TABLE contracted ()",))
BASE = schema.newest()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return shared_server().url(schema_for(tmp_path))


Release = Callable[..., None]


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Release:
    """From now on the program knows these steps more than the current one."""

    def releasing(*steps: Step) -> None:
        monkeypatch.setattr(schema, "STEPS", [*schema.STEPS[:BASE], *steps])

    return releasing


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url, lease=LEASE_S, heartbeat=HEARTBEAT_S)
    try:
        yield store
    finally:
        await store.close()


async def becomes(url: str, condition: str) -> None:
    """Wait until PostgreSQL says so."""
    async with asyncio.timeout(10), beside(url) as other:
        while not await other.fetchval(f"SELECT {condition}"):  # noqa: ASYNC110 - PostgreSQL tells nobody
            await asyncio.sleep(0.02)


async def ends(store: PostgresStore) -> None:
    """Wait for what ends a task of the store's, and raise it."""
    while True:
        store.check()
        await asyncio.sleep(0.02)


VERSION = "(SELECT version FROM version)"


async def test_an_expanding_step_waits_for_a_table_without_making_others_wait(url: str, release: Release) -> None:
    async with opened(url) as store, beside(url) as reader:
        await reader.execute("BEGIN; SELECT FROM orders")
        release(COLUMN)
        opening = asyncio.create_task(PostgresStore.open(url, lease=LEASE_S, heartbeat=HEARTBEAT_S))
        await becomes(url, "EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'ALTER TABLE orders%')")
        for number in range(10):
            async with asyncio.timeout(1.0):
                assert await store.submit([NewOrder(key(f"a{number}"))], AT, 0.0, 1.0)
        assert not opening.done()
        await reader.execute("COMMIT")
        newer = await opening
        assert await newer.get(key("a9")) is not None
        await newer.close()


async def test_a_table_that_is_never_free_is_told_of(
    url: str, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "PATIENCE_S", 0.1)
    async with opened(url), beside(url) as reader:
        await reader.execute("BEGIN; SELECT FROM orders")
        release(COLUMN)
        with pytest.raises(StoreUnavailableError, match="held up by a lock"):
            await PostgresStore.open(url)
        await reader.execute("COMMIT")
        assert await reader.fetchval(f"SELECT {VERSION}") == BASE


async def test_an_index_left_half_built_is_built_anew(url: str, release: Release) -> None:
    async with opened(url), beside(url) as slow, beside(url) as killed:
        await slow.execute("BEGIN; UPDATE orders SET polls = polls")
        building = asyncio.create_task(killed.execute(f"CREATE INDEX CONCURRENTLY {INDEX.name} ON {INDEX.on}"))
        await becomes(url, "EXISTS (SELECT FROM pg_index WHERE NOT indisvalid)")
        await slow.execute(f"SELECT pg_cancel_backend({killed.get_server_pid()}); COMMIT")
        with pytest.raises(asyncpg.QueryCanceledError):
            await building
        release(INDEX)
        async with opened(url):
            valid = f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{INDEX.name}'::regclass"
            assert await slow.fetchval(valid)


async def test_an_older_program_goes_on_and_starts_beside_newer_tables(url: str, release: Release) -> None:
    async with opened(url) as older:
        release(COLUMN, INDEX)
        async with opened(url) as newer:
            release()
            async with opened(url) as another:
                await take_on(older, "a")
                await take_on(newer, "b")
                await take_on(another, "c")
                assert await older.get(key("c")) is not None
            await becomes(url, f"{VERSION} = {BASE + 2}")


async def test_a_contracting_step_at_the_end_waits_while_the_program_runs(url: str, release: Release) -> None:
    older = await PostgresStore.open(url, lease=LEASE_S, heartbeat=HEARTBEAT_S)
    release(CONTRACTING)
    async with opened(url) as newer:
        await take_on(older, "a")
        await take_on(newer, "b")
        await becomes(url, f"{VERSION} = {BASE} AND (SELECT count(*) = 3 FROM sessions)")
        await older.close()
        await becomes(url, f"{VERSION} = {BASE + 1} AND to_regclass('contracted') IS NOT NULL")
        release()
        with pytest.raises(StoreTooNewError, match=f"know version {BASE + 1} at least, and this one knows {BASE}"):
            await PostgresStore.open(url)


async def test_a_contracting_step_that_others_build_on_refuses_the_start_beside_older_daemons(
    url: str, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migration, "WAIT_S", -0.5)
    older = await PostgresStore.open(url, lease=LEASE_S, heartbeat=HEARTBEAT_S, name="gate 7")
    release(CONTRACTING, COLUMN)
    with pytest.raises(StoreUnavailableError, match=r"older version run \(gate 7\): end them"):
        await PostgresStore.open(url, lease=LEASE_S, heartbeat=HEARTBEAT_S)
    await older.close()
    async with opened(url):
        await becomes(url, f"{VERSION} = {BASE + 2}")


async def test_an_older_daemon_that_was_killed_is_waited_for_no_longer_than_its_lease(
    url: str, release: Release
) -> None:
    async with opened(url), beside(url) as other:
        await other.execute(
            "INSERT INTO sessions (id, name, lease_until, run, program) SELECT 7, 'killed', max(run) + 1, 0, 0 "
            "FROM sessions"
        )
    release(CONTRACTING, COLUMN)
    async with opened(url), beside(url) as other:
        assert await other.fetchval("SELECT count(*) = 0 FROM sessions WHERE name = 'killed' AND NOT dead")


async def test_a_daemon_that_was_away_while_its_tables_went_is_refused(url: str) -> None:
    """It writes nothing, and its task tells the daemon to end."""
    store = await PostgresStore.open(url, lease=LEASE_S, heartbeat=HEARTBEAT_S)
    async with beside(url) as newer:
        await newer.execute("UPDATE version SET version = 9, usable_from = 9; UPDATE sessions SET dead = true")
        with pytest.raises((LeaseLostError, StoreTooNewError)):
            await take_on(store, "a")
        with pytest.raises(StoreTooNewError):
            await take_on(store, "b")
        async with asyncio.timeout(5):
            with pytest.raises(StoreTooNewError, match="install the newer program again"):
                await ends(store)
        assert await newer.fetchval("SELECT count(*) FROM orders") == 0
    with pytest.raises(StoreTooNewError):
        await store.close()
