"""A lot joins a fleet: its daemon was killed, its store moves while the fleet works, every result comes once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from poller.simulator import AfterQueries, AfterSeconds, Settles, SimulatedPlatform, WebhookReceiver
from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, Process, Site
from tests.integration.postgres_server import schema_for, shared_server

pytestmark = pytest.mark.timeout(60)


def named(kind: str, count: int) -> list[str]:
    return [f"{kind}-{number}" for number in range(count)]


async def take_on(session: aiohttp.ClientSession, numbers: Sequence[str]) -> None:
    async with session.post("/v1/orders", json=[{"pay_partner": number} for number in numbers]) as answer:
        assert {item["status"] for item in await answer.json()} == {201}


async def said_of(session: aiohttp.ClientSession, number: str) -> list[Any]:
    """The order, its history and its notices, as users read them."""
    found = []
    for path in (f"orders/{PARK}/{number}", f"orders/{PARK}/{number}/history", f"deliveries?pay_partner={number}"):
        async with session.get(f"/v1/{path}") as answer:
            assert answer.status == 200
            found.append(await answer.json())
    return found


async def listed(session: aiohttp.ClientSession) -> list[str]:
    """All orders, page by page."""
    found: list[str] = []
    page: dict[str, Any] = {"next": ""}
    while page["next"] is not None:
        async with session.get("/v1/orders", params={"limit": 7, "after": page["next"]}) as answer:
            page = await answer.json()
        found += [order["pay_partner"] for order in page["orders"]]
    return found


def settles(_: str, pay_partner: str) -> Settles:
    return Settles(AfterSeconds(4) if pay_partner.startswith("open") else AfterQueries(2))


async def test_a_lot_moves_into_a_fleet_at_work_and_every_result_arrives_once(tmp_path: Path) -> None:
    url = shared_server().url(schema_for(tmp_path))
    async with (
        SimulatedPlatform({PARK: APP_SECRET}, script=settles) as platform,
        WebhookReceiver(WEBHOOK_SECRET) as receiver,
    ):
        lot = Site.make(tmp_path / "lot", platform.url, receiver.url)
        joined = Site.make(tmp_path / "fleet", platform.url, receiver.url)
        joined.config.write_text(joined.config.read_text() + f'[store]\nurl = "{url}"\n')
        async with joined.running(), joined.session() as fleet:
            await take_on(fleet, named("fleet", 20))
            await receiver.received(20)
            async with lot.running() as daemon, lot.session() as old:
                await take_on(old, named("done", 10))
                await receiver.received(30)
                await daemon.logged("delivery.sent", 10)
                before = [await said_of(old, number) for number in named("done", 10)]
                await receiver.refuse()
                await take_on(old, named("stuck", 10))
                await take_on(old, named("open", 40))
                await daemon.logged("order.final", 20)
                await daemon.kill()
            moving = await Process.start("migrate-store", f"sqlite:///{lot.folder}/poller.db", url)
            assert (await moving.end(), moving.stderr) == (0, [])
            assert moving.lines[0].startswith(f"{lot.folder}/poller.db: 60 orders moved to PostgreSQL at ")
            assert [await said_of(fleet, number) for number in named("done", 10)] == before
            lists = [list(reversed(named(kind, 10))) for kind in ("stuck", "done")]
            assert (await listed(fleet))[-20:] == lists[0] + lists[1]
            await receiver.accept()
            async with asyncio.timeout(30):
                notices = await receiver.received(80)
            told = sorted(json.loads(notice.body)["data"]["pay_partner"] for notice in notices)
            everything = named("fleet", 20) + named("done", 10) + named("stuck", 10) + named("open", 40)
            assert told == sorted(everything)
            assert {json.loads(notice.body)["type"] for notice in notices} == {"payment.paid"}
            assert platform.record.max_concurrent_for_one_order() == 1
            again = await Process.start("run", "--config", str(lot.config))
            assert await again.end() == 78
            assert f"{lot.folder}/poller.db was moved to PostgreSQL at " in "".join(again.stderr)
