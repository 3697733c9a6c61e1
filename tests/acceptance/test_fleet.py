"""A fleet of real daemons on one PostgreSQL: one rate, each order asked by one, whoever comes, goes or hangs."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from poller.simulator import AfterQueries, AfterSeconds, Settles, SimulatedPlatform, WebhookReceiver
from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, Process, Site
from tests.integration.postgres_server import schema_for, shared_server

OTHER = "0a1b2c3d-0000-4000-8000-000000000002"
LEASE_S = 6.0  # the shortest there is

pytestmark = pytest.mark.timeout(90)


@dataclass(frozen=True, slots=True)
class Member:
    """A daemon of the fleet, and somebody who talks to it."""

    site: Site
    daemon: Process
    session: aiohttp.ClientSession

    async def take_on(self, numbers: Sequence[str], lot: str = PARK) -> None:
        orders = [{"pay_partner": number, "park_uuid": lot} for number in numbers]
        async with self.session.post("/v1/orders", json=orders) as answer:
            assert {item["status"] for item in await answer.json()} == {201}

    async def order(self, number: str, **params: float) -> dict[str, Any]:
        async with self.session.get(f"/v1/orders/{PARK}/{number}", params=params) as answer:
            order: dict[str, Any] = await answer.json()
            return order

    async def ask(self, number: str, what: str) -> int:
        async with self.session.post(f"/v1/orders/{PARK}/{number}/{what}") as answer:
            return answer.status


Join = Callable[[], Any]


@asynccontextmanager
async def fleet(
    folder: Path, platform: SimulatedPlatform, webhook: str | None, *, lease: float = 15.0, **polling: float
) -> AsyncIterator[Join]:
    """Gives what starts another daemon on the one database."""
    url = shared_server().url(schema_for(folder))
    numbers = itertools.count(1)
    async with AsyncExitStack() as leaving:

        async def join() -> Member:
            site = Site.make(folder / f"daemon-{next(numbers)}", platform.url, webhook, **polling)
            store = f'[store]\nurl = "{url}"\nlease_seconds = {lease}\n'
            lots = f'[[parks]]\npark_uuid = "{OTHER}"\napp_secret_file = "park.secret"\n'
            site.config.write_text(site.config.read_text() + store + lots)
            daemon = await leaving.enter_async_context(site.running())
            return Member(site, daemon, await leaving.enter_async_context(site.session()))

        yield join


def named(letter: str, count: int) -> list[str]:
    return [f"{letter}-{number}" for number in range(count)]


async def test_the_rate_is_the_whole_fleets_while_daemons_come_go_and_hang(tmp_path: Path) -> None:
    """The platform never sees more in a second than one daemon alone may ask, and nearly as much."""
    rate = 300
    async with (
        SimulatedPlatform({PARK: APP_SECRET}, script=lambda *_: Settles(AfterQueries(2))) as platform,
        fleet(tmp_path, platform, None, rate_per_second=rate) as join,
    ):
        record, first, second = platform.record, await join(), await join()
        await asyncio.gather(first.take_on(named("a", 300)), second.take_on(named("b", 300)))
        await record.queried(500)
        third = await join()
        await third.take_on(named("c", 200))
        second.daemon.signal(signal.SIGSTOP)
        await record.queried(1200)
        second.daemon.signal(signal.SIGCONT)
        await record.queried(1450)
        third.daemon.signal(signal.SIGTERM)
        assert await third.daemon.end() == 0
        await record.queried(2400)
        assert record.max_queries_in_window() <= rate
        assert record.max_concurrent_for_one_order() == 1
        arrived = [query.arrived for query in record.queries()]
        assert arrived[2000] - arrived[200] < 1800 / (0.75 * rate)


async def test_what_a_stopped_and_a_killed_daemon_held_is_asked_by_the_others(tmp_path: Path) -> None:
    """Within the lease; and who was stopped writes nothing of it when it goes on."""
    async with (
        SimulatedPlatform({PARK: APP_SECRET}, script=lambda *_: Settles(AfterSeconds(7))) as platform,
        WebhookReceiver(WEBHOOK_SECRET) as receiver,
        fleet(
            tmp_path, platform, receiver.url, lease=LEASE_S, rate_per_second=300, max_interval_seconds=1
        ) as join,
    ):
        stopped, killed, there = [await join() for _ in range(3)]
        for member, letter in ((stopped, "s"), (killed, "k"), (there, "t")):
            await member.take_on(named(letter, 20))
        await platform.record.queried(120)
        stopped.daemon.signal(signal.SIGSTOP)
        await killed.daemon.kill()
        loop = asyncio.get_running_loop()
        since = loop.time()

        def taken_over() -> bool:
            told = {line["pay_partner"] for line in there.daemon.records("order.polled")}
            return {*named("s", 20), *named("k", 20)} <= told

        await there.daemon.until(taken_over)
        assert loop.time() - since < LEASE_S
        stopped.daemon.signal(signal.SIGCONT)
        await stopped.daemon.logged("lease.lost")
        async with asyncio.timeout(30):
            notices = await receiver.received(60)
        told = [json.loads(notice.body)["data"]["pay_partner"] for notice in notices]
        assert sorted(told) == sorted(named("s", 20) + named("k", 20) + named("t", 20))
        assert platform.record.max_concurrent_for_one_order() == 1
        assert {json.loads(notice.body)["type"] for notice in notices} == {"payment.paid"}
        assert len(receiver.notices) == 60
        assert await stopped.order("s-0") == await there.order("s-0")
        for member, losses in ((stopped, "1.0"), (there, "0.0")):
            async with member.session.get("/metrics") as answer:
                assert f"poller_leases_lost_total {losses}" in await answer.text()


async def test_any_daemon_answers_for_any_order(tmp_path: Path) -> None:
    """Poll, notify, cancel and reopen work where the order is not held, and what comes of it is seen there."""
    async with (
        SimulatedPlatform({PARK: APP_SECRET}, script=lambda *_: Settles(AfterQueries(1))) as platform,
        fleet(tmp_path, platform, None, initial_delay_seconds=0.1, min_interval_seconds=600) as join,
    ):
        holder, other = await join(), await join()
        await holder.take_on(["polled", "cancelled", "notified"])
        await platform.record.queried(3)
        waiting = asyncio.create_task(other.order("polled", wait=20))
        assert await other.ask("polled", "poll") == 202
        assert (await waiting)["state"] == "paid"
        notify = {"park_uuid": PARK, "parking_order": "notified"}
        async with other.session.post("/v1/notify", json=notify) as answer:
            assert answer.status == 202
        assert (await other.order("notified", wait=20))["state"] == "paid"
        assert await other.ask("cancelled", "cancel") == 200
        assert (await holder.order("cancelled", wait=20))["state"] == "cancelled"
        assert await other.ask("cancelled", "reopen") == 200
        assert (await holder.order("cancelled", wait=20))["state"] == "paid"


async def test_what_is_shown_of_the_whole_fleet_is_shown_by_each_daemon(tmp_path: Path) -> None:
    """The stream, the summary that the page is made of, and `poller show`, at one that has taken nothing on."""
    async with (
        SimulatedPlatform({PARK: APP_SECRET}, script=lambda *_: Settles(AfterQueries(2))) as platform,
        fleet(tmp_path, platform, None, initial_delay_seconds=1, min_interval_seconds=1) as join,
    ):
        holder, other = await join(), await join()
        async with other.session.get("/v1/events") as stream:
            await holder.take_on(named("o", 3))
            async with other.session.get("/v1/summary") as answer:
                assert {one["pay_partner"] for one in (await answer.json())["waiting"]["orders"]} == {
                    *named("o", 3)
                }
            told: set[str] = set()
            async with asyncio.timeout(20):
                while len(told) < 3:
                    line = (await stream.content.readline()).decode()
                    if line.startswith("data:"):
                        told.add(json.loads(line.removeprefix("data:"))["data"]["pay_partner"])
        assert told == {*named("o", 3)}
        for member in (holder, other):
            code, shown, said = await member.site.command("show", "o-0", "--park", PARK)
            assert (code, "paid" in shown) == (0, True), said
        summaries = []
        for member in (holder, other):
            async with member.session.get("/v1/summary") as answer:
                summaries.append(await answer.json())
        assert summaries[0]["results"] == summaries[1]["results"]
        assert not other.daemon.records("order.accepted")


async def test_an_outage_is_the_whole_fleets_with_one_canary(tmp_path: Path) -> None:
    """One finds it out, the other knows; the canaries of both are as many as of one; both go on."""
    async with (
        SimulatedPlatform({PARK: APP_SECRET}, script=lambda *_: Settles(AfterQueries(1))) as platform,
        fleet(tmp_path, platform, None) as join,
    ):
        await platform.outage("503")
        first, second = await join(), await join()
        await first.take_on(named("f", 20))
        await first.daemon.logged("platform.down")
        await second.daemon.logged("platform.down")
        assert not second.daemon.records("order.polled")
        await second.take_on(named("s", 20))
        opened, since = len(platform.record), asyncio.get_running_loop().time()
        await platform.record.queried(opened + 2)
        assert asyncio.get_running_loop().time() - since > 1.8
        await platform.recover()
        for member, letter in ((first, "f"), (second, "s")):
            await member.daemon.logged("platform.up")
            for number in named(letter, 20):
                assert (await second.order(number, wait=10))["state"] == "paid"


async def test_one_lots_flood_leaves_anothers_orders_their_time(tmp_path: Path) -> None:
    """Each of the quiet lot is asked about every 0.3 s, while the flood's 2,000 take 10 s for one query each."""
    rate = 200
    async with (
        SimulatedPlatform(
            {PARK: APP_SECRET, OTHER: APP_SECRET}, script=lambda *_: Settles(AfterSeconds(60))
        ) as platform,
        fleet(tmp_path, platform, None, rate_per_second=rate, max_interval_seconds=0.3) as join,
    ):
        first, second = await join(), await join()
        await second.take_on(named("quiet", 5), OTHER)
        for member, letter in ((first, "a"), (second, "b")):
            await member.take_on(named(letter, 1000))
        await platform.record.queried(200)
        await first.take_on(named("later", 5), OTHER)
        await platform.record.queried(900)
        since = list(platform.record.queries())[300].arrived
        queries = [query for query in platform.record.queries() if query.arrived >= since]
        quiet = Counter(query.key for query in queries if query.key is not None and query.key[0] == OTHER)
        lasted = queries[-1].arrived - since
        assert len(quiet) == 10
        assert min(quiet.values()) > 0.5 * lasted / 0.3
        assert platform.record.max_queries_in_window() <= rate
