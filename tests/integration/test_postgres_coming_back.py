"""A daemon that comes back to a fleet whose time it alone had written down."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from poller.stores.postgres import PostgresStore
from tests.integration.postgres_server import beside, schema_for, shared_server
from tests.integration.store_engines import ALL, give_back, key, making, names, paid, take_on
from tests.integration.tcp_link import linked

LEASE_S, HEARTBEAT_S = 1.2, 0.1
FURTHEST = "SELECT max(lease_until) FROM sessions WHERE id <> 0"


async def test_who_joined_meanwhile_is_not_taken_for_dead_by_one_who_comes_back(tmp_path: Path) -> None:
    """It reads the fleet's time as the other wrote it down, so it is behind until the other is heard again."""
    server, schema = shared_server(), schema_for(tmp_path)
    lost: list[bool] = []
    async with linked(server.port) as link, beside(server.url(schema)) as other, asyncio.timeout(20.0):
        through = server.url(schema, link.port)
        away = await PostgresStore.open(through, lease=3 * LEASE_S, heartbeat=HEARTBEAT_S)
        link.hold_up()
        while away.lease_left() > 1.5 * LEASE_S:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.02)
        joined = await PostgresStore.open(server.url(schema), lease=LEASE_S, heartbeat=HEARTBEAT_S)
        joined.fleet().on_lost(partial(lost.append, True))
        [a] = await take_on(joined, "a")
        link.cut()
        link.let_through()
        furthest = until = 0.0
        for _ in range(6):
            while furthest == until:
                until = await other.fetchval(FURTHEST)
            furthest = until
        assert lost == []
        assert await away.claim(ALL, 10) == []
        give_back(joined, a)
        await joined.close()
        assert names(await away.claim(ALL, 10)) == ["a"]
        assert (await away.change(key("a"), paid, making("e1"))).order.state == "paid"
        await away.close()
