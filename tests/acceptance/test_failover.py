"""Real daemons while PostgreSQL dies under them: what was acknowledged is paid and told, once, and they go on."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from poller.simulator import AfterQueries, Settles, SimulatedPlatform, WebhookReceiver
from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, Process, Site
from tests.integration.postgres_cluster import PostgresCluster, cluster
from tests.integration.postgres_server import schema_for

pytestmark = pytest.mark.timeout(90)

RATE = 150


class Lot:
    """A lot's software, which hands each order in until it is taken on, as the README has it."""

    def __init__(self, session: aiohttp.ClientSession, letter: str) -> None:
        self.acknowledged: list[str] = []
        self._session = session
        self._numbers = (f"{letter}-{number}" for number in itertools.count())
        self._grown = asyncio.Event()
        self._refused = asyncio.Event()
        self._stopping = False

    def stop(self) -> None:
        """Hand nothing more in, once the last is acknowledged."""
        self._stopping = True

    async def run(self) -> None:
        for number in self._numbers:
            while True:
                async with self._session.post("/v1/orders", json={"pay_partner": number}) as answer:
                    assert answer.status in {200, 201, 503}
                if answer.status != 503:
                    break
                self._refused.set()
                await asyncio.sleep(0.05)
            self.acknowledged.append(number)
            self._grown.set()
            if self._stopping:
                return
            await asyncio.sleep(0.01)

    async def takes_on(self, more: int) -> None:
        """Wait until so many more are acknowledged."""
        wanted = len(self.acknowledged) + more
        async with asyncio.timeout(30):
            while len(self.acknowledged) < wanted:
                self._grown.clear()
                await self._grown.wait()

    async def is_refused(self) -> None:
        """Wait until an order was."""
        async with asyncio.timeout(30):
            await self._refused.wait()

    async def states(self) -> set[str]:
        """Of all that was acknowledged."""
        found = set()
        for number in self.acknowledged:
            async with self._session.get(f"/v1/orders/{PARK}/{number}") as answer:
                found.add((await answer.json()).get("state", "unknown"))
        return found


Way = tuple[Callable[[PostgresCluster], None], Callable[[PostgresCluster], None]]
FAILS_OVER: Way = (PostgresCluster.kill_primary, PostgresCluster.promote)
CRASHES: Way = (lambda servers: servers.primary.stop("immediate"), lambda servers: servers.primary.start())


@asynccontextmanager
async def two_daemons(
    folder: Path, url: str, platform: str, webhook: str
) -> AsyncIterator[list[tuple[Process, Lot]]]:
    sites = [Site.make(folder / letter, platform, webhook, rate_per_second=RATE) for letter in "ab"]
    for site in sites:
        site.config.write_text(site.config.read_text() + f'[store]\nurl = "{url}"\n')
    first, second = sites
    async with first.running() as one, second.running() as two, first.session() as here, second.session() as there:
        yield [(one, Lot(here, "a")), (two, Lot(there, "b"))]


@pytest.mark.parametrize(("goes", "comes_back"), [FAILS_OVER, CRASHES], ids=["fails over", "crashes"])
async def test_what_was_acknowledged_is_paid_and_told_once_though_postgresql(
    tmp_path: Path, goes: Callable[[PostgresCluster], None], comes_back: Callable[[PostgresCluster], None]
) -> None:
    with cluster(synchronous=True) as servers:
        async with (
            SimulatedPlatform({PARK: APP_SECRET}, script=lambda *_: Settles(AfterQueries(2))) as platform,
            WebhookReceiver(WEBHOOK_SECRET) as receiver,
            two_daemons(tmp_path, servers.url(schema_for(tmp_path)), platform.url, receiver.url) as daemons,
        ):
            lots = [lot for _, lot in daemons]
            async with asyncio.TaskGroup() as handing_in:
                for lot in lots:
                    handing_in.create_task(lot.run())
                await asyncio.gather(*(lot.takes_on(40) for lot in lots))
                await asyncio.to_thread(goes, servers)
                await asyncio.gather(*(lot.is_refused() for lot in lots))
                await asyncio.to_thread(comes_back, servers)
                await asyncio.gather(*(lot.takes_on(20) for lot in lots))
                for lot in lots:
                    lot.stop()
            numbers = sorted(number for lot in lots for number in lot.acknowledged)
            async with asyncio.timeout(30):
                await receiver.received(len(numbers))
            told = [json.loads(notice.body) for notice in receiver.notices.values()]
            assert sorted(notice["data"]["pay_partner"] for notice in told) == numbers  # each under one id
            assert {notice["type"] for notice in told} == {"payment.paid"}
            assert [await lot.states() for lot in lots] == [{"paid"}, {"paid"}]
            assert platform.record.max_queries_in_window() <= RATE
            assert platform.record.max_concurrent_for_one_order() == 1
            for daemon, _ in daemons:
                await daemon.logged("store.unavailable")
                await daemon.logged("store.available")
                assert not daemon.records("lease.lost")
                await daemon.logged("store.replicated")
                if goes is PostgresCluster.kill_primary:  # what was promoted has no standby of its own
                    await daemon.logged("store.unreplicated")
