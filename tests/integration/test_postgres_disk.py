"""PostgreSQL on a disk that is full: real files on a small volume, which only root can mount."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from poller.core.orders import NewOrder
from poller.ports import StoreUnavailableError
from tests.acceptance.disks import SmallVolume, small_volume
from tests.integration.postgres_cluster import kill, remove
from tests.integration.postgres_server import PostgresServer, own_server, schema_for
from tests.integration.postgres_stores import again, opened
from tests.integration.store_engines import ALL, AT, give_back, key, making, names, paid, take_on

Small = tuple[PostgresServer, SmallVolume]


@pytest.fixture
def small() -> Iterator[Small]:
    """A server with a tablespace `small` on a volume of its own."""
    server = own_server()
    with ExitStack() as ending:
        ending.callback(remove, server)
        volume = ending.enter_context(small_volume(server.folder / "small"))
        ending.callback(kill, server)  # before it is unmounted
        if volume is None:
            pytest.skip("only root can mount a small volume")
        shutil.chown(volume.folder, server.data.stat().st_uid)
        server.sql(f"CREATE TABLESPACE small LOCATION '{volume.folder}'")
        yield server, volume


async def test_while_the_disk_is_full_nothing_is_taken_on_and_afterwards_it_goes_on(
    small: Small, tmp_path: Path
) -> None:
    server, volume = small
    async with opened(f"{server.url(schema_for(tmp_path))}&default_tablespace=small") as store:
        [a] = await take_on(store, "a")
        volume.fail()
        many = [NewOrder(key(f"many-{number}")) for number in range(500)]
        with pytest.raises(StoreUnavailableError, match=r"has a full disk .*: free space on its volume"):
            await store.submit(many, AT, 0.0, 1.0)  # what is small would find its place in pages that there are
        assert await store.get(many[0].key) is None
        assert (await store.counts()).pending == 1
        volume.recover()
        await again(lambda: store.submit(many, AT, 0.0, 1.0))
        assert (await store.counts()).pending == 501
        give_back(store, a)
        assert names(await store.claim(ALL, 10)) == ["a"]
        await store.change(key("a"), paid, making("e1"))
        assert (await store.counts()).pending == 500
