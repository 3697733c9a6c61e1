"""Real daemons while PostgreSQL dies under them: what was acknowledged is paid and told, once, and they go on."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from poller.simulator import AfterQueries, Settles, SimulatedPlatform, WebhookReceiver
from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, Process, Site
from tests.integration.postgres_cluster import cluster
from tests.integration.postgres_server import schema_for

pytestmark = pytest.mark.timeout(90)

RATE = 300


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
        """Wait until an order is."""
        self._refused.clear()
        async with asyncio.timeout(30):
            await self._refused.wait()

    async def states(self) -> set[str]:
        """Of all that was acknowledged."""
        found = set()
        for number in self.acknowledged:
            async with self._session.get(f"/v1/orders/{PARK}/{number}") as answer:
                found.add((await answer.json()).get("state", "unknown"))
        return found


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


async def through(
    lots: Sequence[Lot], goes: Callable[[], None], comes_back: Callable[[], None], *, before: int
) -> None:
    """A time in which nothing can be taken on, with orders taken on before it and after it."""
    await asyncio.gather(*(lot.takes_on(before) for lot in lots))
    await asyncio.to_thread(goes)
    await asyncio.gather(*(lot.is_refused() for lot in lots))
    await asyncio.to_thread(comes_back)
    await asyncio.gather(*(lot.takes_on(10) for lot in lots))


async def test_what_was_acknowledged_is_paid_and_told_once_though_postgresql_crashes_and_fails_over(
    tmp_path: Path,
) -> None:
    with cluster(synchronous=True) as servers:
        first = servers.primary
        async with (
            SimulatedPlatform({PARK: APP_SECRET}, script=lambda *_: Settles(AfterQueries(2))) as platform,
            WebhookReceiver(WEBHOOK_SECRET) as receiver,
            two_daemons(tmp_path, servers.url(schema_for(tmp_path)), platform.url, receiver.url) as daemons,
        ):
            lots = [lot for _, lot in daemons]
            async with asyncio.TaskGroup() as handing_in:
                for lot in lots:
                    handing_in.create_task(lot.run())
                await through(lots, lambda: first.stop("immediate"), first.start, before=20)
                await through(lots, servers.kill_primary, servers.promote, before=10)
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
                for event in ("store.unavailable", "store.available", "store.replicated", "store.unreplicated"):
                    await daemon.logged(event)  # what was promoted has no standby of its own
                assert not daemon.records("lease.lost")
