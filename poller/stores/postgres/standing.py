"""Whether a daemon could use the store in PostgreSQL as it stands: looked at, and nothing changed."""

from __future__ import annotations

import asyncpg  # type: ignore[import-untyped]

from poller.stores.postgres import migration, schema
from poller.stores.postgres.address import parse
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.lines import Line, servers_of

LOOK_S = 5.0
LAST_S = 1.0

_READ_ONLY = "SELECT current_setting('transaction_read_only') = 'on'"
_MAY_MAKE = (
    "SELECT coalesce((SELECT has_schema_privilege(oid, 'create') FROM pg_namespace WHERE nspname = $1), "
    "has_database_privilege(current_database(), 'create')), "
    "EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), current_user, current_database()"
)
_LACKING = (
    "SELECT t.name, right_to FROM unnest($2::text[]) WITH ORDINALITY AS t (name, place) "
    "JOIN pg_class c ON c.relname = t.name JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1, "
    "unnest(ARRAY['select', 'insert', 'update', 'delete']) WITH ORDINALITY AS r (right_to, rank) "
    "WHERE NOT has_table_privilege(c.oid, right_to) ORDER BY t.place, r.rank"
)
_OTHERS = (
    "SELECT count(*) FROM unnest($2::text[]) AS t (name) JOIN pg_class c ON c.relname = t.name "
    "JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1 WHERE NOT pg_has_role(c.relowner, 'usage')"
)


async def look(url: str, password: str | None) -> tuple[str, int]:
    """Which server and database it is, and the version of the tables there, 0 where there are none yet.

    Raises ValueError for a url that the driver does not take, StoreTooNewError, and StoreUnavailableError for
    whatever else would keep a daemon from it, rights that its user does not have included.
    """
    address = parse(url, password)
    line = Line(servers_of(address))
    try:
        async with line.use(LOOK_S) as connection:
            version = await migration.check(connection, address.place)
            if await connection.fetchval(_READ_ONLY):
                raise asyncpg.ReadOnlySQLTransactionError("transaction_read_only is on")
            lacking = await _lacking(connection, version)
            if lacking is not None:
                raise asyncpg.InsufficientPrivilegeError(lacking)
    finally:
        await line.close(LAST_S)
    return address.place, version


async def _lacking(connection: Connection, version: int) -> str | None:
    """What the user may not do that the daemon would; None where there is nothing."""
    name = await migration.schema_of(connection)
    [(may_make, exists, user, database)] = await connection.fetch(_MAY_MAKE, name)
    if version < schema.needed() and not may_make:
        return f"{user} may not make {f'tables in the schema {name}' if exists else f'a schema in {database}'}"
    lacking = await connection.fetch(_LACKING, name, list(schema.TABLES))
    if lacking:
        table = lacking[0][0]
        rights = ", ".join(right for of, right in lacking if of == table)
        return f"{user} may not {rights} in the table {table} of the schema {name}"
    if version < schema.needed() and await connection.fetchval(_OTHERS, name, list(schema.TABLES)):
        return f"{user} may not change the tables of the schema {name}, which are of an older version"
    return None
