"""Daemons of two releases on one PostgreSQL: real processes, the newer ones with further steps of the tables."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from poller.simulator import AfterSeconds, Settles, SimulatedPlatform, WebhookReceiver
from poller.stores.postgres import schema
from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, Process, Site
from tests.integration.postgres_server import beside, schema_for, shared_server

pytestmark = pytest.mark.timeout(90)
BASE = schema.newest()


@dataclass(slots=True)
class Place:
    """Where daemons run, each of a release: the current one, or one with further steps."""

    folder: Path
    platform: SimulatedPlatform
    receiver: WebhookReceiver
    leaving: AsyncExitStack
    taken_on: list[str] = field(default_factory=list)

    @property
    def store(self) -> str:
        return shared_server().url(schema_for(self.folder))

    def site(self, name: str) -> Site:
        site = Site.make(self.folder / name, self.platform.url, self.receiver.url, max_interval_seconds=1)
        site.config.write_text(site.config.read_text() + f'[store]\nurl = "{self.store}"\n')
        return site

    async def launch(self, site: Site, *steps: str) -> Process:
        words = ("run", "--config", str(site.config))
        environ = {**os.environ, "NOTIFY_SOCKET": str(site.folder / "notify")}
        daemon = await Process.launch(
            *(sys.executable, "-m", "tests.acceptance.newer", *steps, "--", *words), env=environ
        )
        self.leaving.push_async_callback(daemon.kill)
        return daemon

    async def start(self, site: Site, *steps: str) -> Process:
        daemon = await self.launch(site, *steps)
        await daemon.logged("daemon.started")
        return daemon

    async def take_on(self, site: Site, letter: str, count: int = 15) -> None:
        numbers = [f"{letter}-{number}" for number in range(count)]
        async with (
            site.session() as session,
            session.post("/v1/orders", json=[{"pay_partner": number} for number in numbers]) as answer,
        ):
            assert {item["status"] for item in await answer.json()} == {201}
        self.taken_on += numbers

    async def all_are_told_once(self) -> None:
        async with asyncio.timeout(30):
            notices = await self.receiver.received(len(self.taken_on))
        bodies = [json.loads(notice.body) for notice in notices]
        assert sorted(body["data"]["pay_partner"] for body in bodies) == sorted(self.taken_on)
        assert {body["type"] for body in bodies} == {"payment.paid"}
        assert len(self.receiver.notices) == len(self.taken_on)
        assert self.platform.record.max_concurrent_for_one_order() == 1


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with (
        SimulatedPlatform({PARK: APP_SECRET}, script=lambda *_: Settles(AfterSeconds(2))) as platform,
        WebhookReceiver(WEBHOOK_SECRET) as receiver,
        AsyncExitStack() as leaving,
    ):
        yield Place(tmp_path, platform, receiver, leaving)


async def drain(daemon: Process) -> None:
    daemon.signal(signal.SIGTERM)
    assert await daemon.end() == 0, daemon.stderr


async def versions(place: Place) -> tuple[int, int]:
    async with beside(place.store) as other:
        row: Sequence[Any] = await other.fetchrow("SELECT version, usable_from FROM version")
        return row[0], row[1]


async def seen(place: Place, condition: str) -> None:
    """Wait until PostgreSQL says so."""
    async with asyncio.timeout(20), beside(place.store) as other:
        while not await other.fetchval(f"SELECT {condition}"):  # noqa: ASYNC110 - PostgreSQL tells nobody
            await asyncio.sleep(0.05)


async def test_a_fleet_is_upgraded_one_by_one_while_orders_come_in(place: Place) -> None:
    """Old and new ones work side by side on the newer tables, and an old one even starts there."""
    first, second = place.site("first"), place.site("second")
    old = [await place.start(site) for site in (first, second)]
    await asyncio.gather(place.take_on(first, "a"), place.take_on(second, "b"))
    await drain(old[0])
    await place.start(first, "column", "index")
    assert await versions(place) == (BASE + 2, 1)
    await asyncio.gather(place.take_on(first, "c"), place.take_on(second, "d"))
    await drain(old[1])
    again = await place.start(second)
    await asyncio.gather(place.take_on(first, "e"), place.take_on(second, "f"))
    await drain(again)
    await place.start(second, "column", "index")
    await asyncio.gather(place.take_on(first, "g"), place.take_on(second, "h"))
    await place.all_are_told_once()


async def test_what_older_daemons_need_goes_once_the_last_of_them_has_ended(place: Place) -> None:
    """After that they are refused; those that were away meanwhile end with the same clear line."""
    old_site, new_site = place.site("old"), place.site("new")
    old, new = await place.start(old_site), await place.start(new_site, "contracting")
    await asyncio.gather(place.take_on(old_site, "a"), place.take_on(new_site, "b"))
    assert await versions(place) == (BASE, 1)
    await drain(old)
    await seen(place, f"version = {BASE + 1} AND to_regclass('contracted') IS NOT NULL FROM version")
    refused = await place.launch(old_site)
    assert await refused.end() == 78
    assert f"for programs that know version {BASE + 1} at least" in refused.stderr[-1]
    assert "install the newer program again" in refused.stderr[-1]
    await place.all_are_told_once()
    async with beside(place.store) as other:  # as if the new one had been away while a newer one came
        await other.execute("UPDATE version SET version = 99, usable_from = 99; UPDATE sessions SET dead = true")
    assert await new.end() == 78
    assert "install the newer program again" in new.stderr[-1]


async def test_new_daemons_that_start_at_once_change_the_tables_once(place: Place) -> None:
    sites = [place.site(f"daemon-{number}") for number in range(4)]
    await place.start(sites[0])
    await place.take_on(sites[0], "a")
    await asyncio.gather(*(place.start(site, "column", "index") for site in sites[1:]))
    await asyncio.gather(*(place.take_on(site, letter) for site, letter in zip(sites[1:], "bcd", strict=True)))
    await place.all_are_told_once()
    assert await versions(place) == (BASE + 2, 1)


async def test_who_is_killed_while_an_index_is_built_is_followed_by_who_builds_it_anew(place: Place) -> None:
    """The others take orders on meanwhile, and whoever builds it has the service manager wait."""
    site, killed, next_one = place.site("old"), place.site("killed"), place.site("next")
    await place.start(site)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(next_one.folder / "notify"))
        manager.setblocking(False)
        async with beside(place.store) as slow:
            await slow.execute("BEGIN; UPDATE orders SET polls = polls")  # building waits for who writes there
            building = "FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%orders_accepted%'"
            dying = await place.launch(killed, "index")
            await seen(place, f"EXISTS (SELECT {building} AND wait_event_type = 'Lock')")
            await dying.kill()
            await place.take_on(site, "a")
            async with beside(place.store) as other:
                await other.execute(f"SELECT pg_terminate_backend(pid) {building} AND pid <> pg_backend_pid()")
            await seen(place, "EXISTS (SELECT FROM pg_index WHERE NOT indisvalid)")
            following = await place.launch(next_one, "index")
            told = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(manager, 4096), 20)
            assert told.decode() == "EXTEND_TIMEOUT_USEC=60000000"
            await place.take_on(site, "b")
            await slow.execute("ROLLBACK")
        await following.logged("daemon.started")
    await seen(place, "indisvalid FROM pg_index WHERE indexrelid = 'orders_accepted'::regclass")
    await place.take_on(next_one, "c")
    await place.all_are_told_once()
