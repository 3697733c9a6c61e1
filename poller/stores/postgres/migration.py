"""How an older store becomes a newer one while daemons of older programs use it: see `schema` for the steps.

The one row of `version` says how many steps have been taken, and from which program on the tables can be used. An
older program than the tables goes on, and starts, as long as it is not older than that. Each step is taken by one
daemon and is committed with its number, so that who is killed leaves a step done or not done, and the next one
goes on from there. An index that somebody was building when he was killed PostgreSQL finishes, or it is built
anew.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import asyncpg  # type: ignore[import-untyped]

from poller.ports import StoreTooNewError, StoreUnavailableError
from poller.stores.postgres import schema
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.schema import Builds, Contracts, Expands

LOCK_S = 0.2  # a step waits no longer for a table, since whoever comes after it waits behind it
PAUSE_S = 0.3  # before it tries again
PATIENCE_S = 60.0  # for so long
BUILD_S = 24 * 3600.0  # an index of hundreds of millions of rows
WAIT_S = 5.0  # for older daemons to end, beyond a lease

_HELD_UP = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('poller tables ' || $1, 0))"
_HAS_TABLES = (
    "SELECT to_regclass(format('%I.version', $1::text)) IS NOT NULL, EXISTS (SELECT FROM pg_class c "
    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = ANY($2::text[]))"
)
_SCHEMA = "SELECT split_part(current_setting('search_path'), ',', 1)"
_BEGIN = f"BEGIN; SET LOCAL lock_timeout = {LOCK_S * 1000:.0f}"
_REACHED = "UPDATE version SET version = $1, usable_from = $2 WHERE version = $1 - 1 RETURNING true"
_LEASES = "SELECT id, lease_until FROM sessions WHERE program < $1 AND NOT dead AND id <> 0"
_OLDER = "SELECT name FROM sessions WHERE program < $1 AND NOT dead AND id <> 0 ORDER BY name"
_MARK = "UPDATE sessions SET dead = true WHERE id = $1 AND lease_until = $2"
_HALF_BUILT = (
    "SELECT EXISTS (SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n "
    "ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND c.relname = $1 AND NOT i.indisvalid)"
)


async def admit(connection: Connection) -> None:
    """Raises StoreTooNewError where this program is too old for the tables. To the end of the transaction they
    stay as they are.
    """
    [(version, usable_from)] = await connection.fetch("SELECT version, usable_from FROM version FOR SHARE")
    _refuse_newer(version, usable_from)


async def check(connection: Connection, place: str) -> int:
    """The version of the store, 0 for a new one, read without a write. It may be newer than this program.

    Raises StoreTooNewError where it cannot be used, and StoreUnavailableError where the tables are another
    program's.
    """
    name = await schema_of(connection)
    [(ours, others)] = await connection.fetch(_HAS_TABLES, name, list(schema.TABLES))
    if not ours:
        if others:
            raise StoreUnavailableError(
                f"the schema {name} in PostgreSQL at {place} has another program's tables in it: name another "
                "one with ?search_path=… in [store] url"
            )
        return 0
    [(version, usable_from)] = await connection.fetch("SELECT version, usable_from FROM version")
    _refuse_newer(version, usable_from)
    return int(version)


async def migrate(connection: Connection, place: str, expiry: float) -> None:
    """Bring the store as far as this program needs it, one daemon at a time, however long that takes.

    Raises as `check` does, and StoreUnavailableError where daemons of an older program are in the way.
    """
    if await check(connection, place) >= schema.needed():
        return
    name = await schema_of(connection)
    while not await connection.fetchval(_LOCK, name):  # noqa: ASYNC110 - who waits in a statement, is waited for
        await asyncio.sleep(PAUSE_S)
    version = await check(connection, place)
    if version == 0:
        await _make(connection, name)
    for number in range(max(version, await check(connection, place)) + 1, schema.needed() + 1):
        match schema.STEPS[number - 1]:
            case Expands(statements):
                await _patiently(connection, number, statements)
            case Builds() as index:
                await _build(connection, number, index)
            case Contracts(statements):
                await _contract_by(connection, number, statements, expiry)


async def contract(connection: Connection) -> bool:
    """Take the contracting steps that this program did not wait for, where it can be done now.

    Whether all are taken.
    """
    version = int(await connection.fetchval("SELECT version FROM version"))
    for number, step in enumerate(schema.STEPS, 1):
        if number <= version or not isinstance(step, Contracts):
            continue
        try:
            if await _contract(connection, number, step.statements):
                return False
        except _HELD_UP:
            await connection.execute("ROLLBACK")
            return False
    return True


async def schema_of(connection: Connection) -> str:
    """The schema that the tables are in, or will be. Raises StoreUnavailableError where no one name says it."""
    name = str(await connection.fetchval(_SCHEMA)).strip()
    if name.strip('"') in {"", "$user"}:
        raise StoreUnavailableError(
            "the url names no schema: have ?search_path=NAME in [store] url, or nothing of it"
        )
    return name.strip('"') if name.startswith('"') else name.lower()  # as PostgreSQL reads it


def _refuse_newer(version: int, usable_from: int) -> None:
    if usable_from > schema.newest():
        raise StoreTooNewError(
            f"the store in PostgreSQL is of version {version}, for programs that know version {usable_from} at "
            f"least, and this one knows {schema.newest()}: it was left untouched; install the newer program again"
        )


async def _make(connection: Connection, name: str) -> None:
    """All tables of a new store, in one transaction."""
    await connection.execute("BEGIN")
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", name):
        quoted = await connection.fetchval("SELECT quote_ident($1)", name)
        await connection.execute(f"CREATE SCHEMA {quoted}")  # to create none takes fewer rights
    for step in schema.STEPS:
        at_once = (f"CREATE INDEX {step.name} ON {step.on}",) if isinstance(step, Builds) else step.statements
        for statement in at_once:
            await connection.execute(statement)
    await connection.execute("CREATE TABLE version (version integer NOT NULL, usable_from integer NOT NULL)")
    await connection.execute(
        "INSERT INTO version VALUES ($1, $2)", schema.newest(), schema.usable_from(schema.newest())
    )
    await connection.execute("COMMIT")


async def _patiently(connection: Connection, number: int, statements: Sequence[str]) -> None:
    """Wait for the tables for moments, again and again: others wait behind us no longer than such a moment."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            await connection.execute(_BEGIN)
            if await connection.fetchval(_REACHED, number, schema.usable_from(number)):
                for statement in statements:
                    await connection.execute(statement)
            await connection.execute("COMMIT")
        except _HELD_UP:
            if time.monotonic() > until:
                raise
            await connection.execute("ROLLBACK")
            await asyncio.sleep(PAUSE_S)
        else:
            return


async def _build(connection: Connection, number: int, index: Builds) -> None:
    """It waits for every transaction that is under way, and holds none up."""
    await connection.execute("SET statement_timeout = 0; SET lock_timeout = 0")
    if await connection.fetchval(_HALF_BUILT, index.name):
        await connection.execute(f"DROP INDEX CONCURRENTLY {index.name}", timeout=BUILD_S)
    await connection.execute(
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {index.name} ON {index.on}", timeout=BUILD_S
    )
    await connection.execute("RESET statement_timeout; RESET lock_timeout")
    await _patiently(connection, number, ())


async def _contract_by(connection: Connection, number: int, statements: Sequence[str], expiry: float) -> None:
    """Wait for older daemons to end, or for the leases of those that were killed: the same for `expiry`."""
    until, seen = time.monotonic() + expiry + WAIT_S, dict[tuple[int, float], float]()
    while True:
        for one, lease in await connection.fetch(_LEASES, number):
            if time.monotonic() - seen.setdefault((one, lease), time.monotonic()) >= expiry:
                await connection.execute(_MARK, one, lease)
        try:
            older = await _contract(connection, number, statements)
        except _HELD_UP:
            await connection.execute("ROLLBACK")
            older = ["one that is just ending"]
        if not older:
            return
        if time.monotonic() > until:
            raise StoreUnavailableError(
                f"the store's tables cannot become version {number} while daemons of an older version run "
                f"({', '.join(older)}): end them, or install the version between first"
            )
        await asyncio.sleep(PAUSE_S)


async def _contract(connection: Connection, number: int, statements: Sequence[str]) -> list[str]:
    """Take a contracting step, unless there are sessions of older programs: their names."""
    if older := await connection.fetch(_OLDER, number):
        return [str(name) for (name,) in older]
    await connection.execute(_BEGIN)
    if await connection.fetchval(_REACHED, number, schema.usable_from(number)):  # so none can begin any more
        if older := await connection.fetch(_OLDER, number):
            await connection.execute("ROLLBACK")
            return [str(name) for (name,) in older]
        for statement in statements:
            await connection.execute(statement)
    await connection.execute("COMMIT")
    return []
