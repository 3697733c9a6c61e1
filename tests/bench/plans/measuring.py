"""Each statement that the store's own code sends, with its plan and the buffers that it touches."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from poller.stores.postgres.connection import Connection, Row

LARGE = re.compile(r"orders|schedule|history|deliveries")
_BLOCKS = (
    "SELECT coalesce(sum(pg_stat_get_xact_blocks_fetched(oid)), 0) FROM pg_class "
    "WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'i')"
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one statement took."""

    sql: str
    nodes: tuple[str, ...]  # such as "Index Scan schedule_due"
    scans: tuple[str, ...]  # large tables read from end to end
    buffers: int
    ms: float


@dataclass(slots=True)
class Measured:
    """A connection in a transaction: what is sent is explained first, with its effects undone, then done."""

    connection: Connection
    taken: list[Taken] = field(default_factory=list)

    async def fetch(self, query: str, *args: object) -> list[Row]:
        if re.match(r"SELECT|WITH|INSERT|UPDATE|DELETE", query):
            self.taken.append(await self._explain(query, args))
        return await self.connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: object) -> Row | None:
        rows = await self.fetch(query, *args)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *args: object) -> Any:
        row = await self.fetchrow(query, *args)
        return None if row is None else row[0]

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        if query in ("BEGIN", "COMMIT"):
            return query
        if re.match(r"SELECT|WITH|INSERT|UPDATE|DELETE", query):
            self.taken.append(await self._explain(query, args))
        return await self.connection.execute(query, *args, timeout=timeout)

    def get_server_pid(self) -> int:
        return self.connection.get_server_pid()

    async def add_listener(self, channel: str, callback: Any) -> None:
        await self.connection.add_listener(channel, callback)

    def add_log_listener(self, callback: Any) -> None:
        self.connection.add_log_listener(callback)

    def remove_log_listener(self, callback: Any) -> None:
        self.connection.remove_log_listener(callback)

    async def close(self, *, timeout: float) -> None:
        await self.connection.close(timeout=timeout)

    def terminate(self) -> None:
        self.connection.terminate()

    def is_closed(self) -> bool:
        return self.connection.is_closed()

    async def _explain(self, query: str, args: tuple[object, ...]) -> Taken:
        given = f"({', '.join(map(literal, args))})" if args else ""
        await self.connection.execute(f"SAVEPOINT it; PREPARE it AS {query}")
        before = int(await self.connection.fetchval(_BLOCKS))
        told = await self.connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE it{given}")
        buffers = int(await self.connection.fetchval(_BLOCKS)) - before
        await self.connection.execute("ROLLBACK TO it; DEALLOCATE it")
        [plan] = json.loads(told)
        nodes = list(_nodes(plan["Plan"]))
        scans = tuple(name for kind, name in nodes if kind == "Seq Scan" and LARGE.match(name))
        read = tuple(dict.fromkeys(f"{kind} {name}".strip() for kind, name in nodes if name))
        return Taken(query, read, scans, buffers, plan["Execution Time"])


def literal(value: object) -> str:
    """As SQL has it."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case list():
            inner = ",".join(
                "NULL" if one is None else json.dumps(_plain(one), ensure_ascii=False) for one in value
            )
            return _quoted(f"{{{inner}}}")
        case _:
            return _quoted(_plain(value))


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _nodes(plan: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield plan["Node Type"], plan.get("Index Name") or plan.get("Relation Name") or ""
    for inner in plan.get("Plans", []):
        yield from _nodes(inner)
