"""The cluster that the tests of a failover stand on: what it is said to do, it does."""

from __future__ import annotations

from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from tests.integration.postgres_cluster import cluster


async def test_a_synchronous_standby_has_what_was_committed_and_takes_over_and_the_other_rejoins() -> None:
    with cluster(synchronous=True) as servers:
        first = servers.primary
        first.sql("CREATE TABLE t AS SELECT 1 AS n")
        servers.kill_primary()
        servers.promote()
        assert (servers.primary.port, servers.standby) == (servers.ports[1], first)
        connection = await asyncpg.connect(servers.url("public"))
        await connection.execute("INSERT INTO t VALUES (2)")
        await connection.close()
        servers.rejoin()
        servers.caught_up()
        assert servers.standby.port == servers.ports[0]
        assert servers.standby.sql("SELECT count(*) FROM t") == "2"
        folders = [servers.primary.folder, servers.standby.folder]
    assert not any(map(Path.exists, folders))


async def test_a_commit_waits_for_a_paused_standby_unless_it_is_done_without() -> None:
    with cluster(synchronous=True) as servers:
        servers.pause_standby()
        connection = await asyncpg.connect(servers.url("public"))
        with pytest.raises(TimeoutError):
            await connection.execute("CREATE TABLE t AS SELECT 1 AS n", timeout=0.2)
        servers.resume_standby()
        servers.caught_up()
        servers.pause_standby()
        servers.alone()
        await connection.execute("INSERT INTO t VALUES (2)", timeout=10)
        servers.restart("immediate")
        servers.resume_standby()
        servers.caught_up()
        assert servers.standby.sql("SELECT count(*) FROM t") == "2"
        await connection.close()
