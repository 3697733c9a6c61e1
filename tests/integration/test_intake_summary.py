"""`/v1/summary` and the page at `/`, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import aiohttp
import pytest

from poller import intake
from poller.core.delivery import DeliveryState
from poller.core.orders import NewOrder, NoticeType, OrderKey, State
from poller.core.replies import Cause
from poller.lookout import OutageSpan
from tests.integration.desk_in_memory import NOW, DeskInMemory

TOKEN = "a token of tests"


@pytest.fixture
def desk() -> DeskInMemory:
    return DeskInMemory()


@pytest.fixture
async def client(desk: DeskInMemory) -> AsyncIterator[aiohttp.ClientSession]:
    door = await intake.start(desk, host="127.0.0.1", port=0, token=TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{door.address[1]}", headers=headers) as session:
        yield session
    await door.stop()


async def test_the_summary_says_what_stands_and_how_the_day_went(
    client: aiohttp.ClientSession, desk: DeskInMemory
) -> None:
    await desk.submit([NewOrder(OrderKey("lot-1", name), {"lane": 1}) for name in ("1", "2")])
    order = await desk.finish(OrderKey("lot-1", "1"), State.PAID)
    await desk.tell(NoticeType.CONFLICT, order, DeliveryState.DEAD)
    async with client.get("/v1/summary") as answer:
        summary = await answer.json()
    assert summary["platform"] == {
        "status": "up",
        "since": "2026-11-02T08:00:00.000Z",
        "kind": None,
        "cause": None,
    }
    assert [one["pay_partner"] for one in summary["waiting"]["orders"]] == ["2"]
    assert (summary["waiting"]["count"], summary["waiting"]["more"]) == (1, False)
    assert [one["pay_partner"] for one in summary["results"]] == ["1"]
    [undelivered] = summary["undelivered"]["deliveries"]
    assert (undelivered["type"], undelivered["order"]["metadata"]) == ("payment.conflict", {"lane": 1})
    assert summary["day"]["complete"] is True
    assert len(summary["day"]["hours"]) == 24
    assert summary["day"]["hours"][-1] == {
        "start": "2026-11-02T08:00:00.000Z",
        "paid": 2,
        "failed": 0,
        "rejected": 0,
        "expired": 0,
        "cancelled": 0,
        "mean_seconds": 1.5,
        "p50_seconds": 1.0,
        "p95_seconds": 3.0,
    }


async def test_an_outage_that_lasts_is_told_with_its_beginning_and_cause(
    client: aiohttp.ClientSession, desk: DeskInMemory
) -> None:
    desk.outage = OutageSpan(NOW - timedelta(minutes=5), None, Cause.TLS, "the certificate has expired")
    async with client.get("/v1/summary") as answer:
        summary = await answer.json()
    told = {"since": "2026-11-02T07:55:00.000Z", "kind": "tls", "cause": "the certificate has expired"}
    assert summary["platform"] == {"status": "down", **told}
    assert summary["day"]["outages"] == [{"until": None, **told}]


async def test_the_keys_of_the_summary_are_those_that_are_described(
    client: aiohttp.ClientSession, desk: DeskInMemory
) -> None:
    await desk.submit([NewOrder(OrderKey("lot-1", "1"))])
    await desk.tell(NoticeType.PAID, await desk.order(OrderKey("lot-1", "1")), DeliveryState.DEAD)
    desk.outage = OutageSpan(NOW, None, Cause.BUSY, "code 503")
    async with client.get("/v1/summary") as answer, client.get("/openapi.json") as description:
        summary = await answer.json()
        schemas = (await description.json())["components"]["schemas"]
    described = schemas["Summary"]["properties"]
    for document, schema in (
        (summary, schemas["Summary"]),
        (summary["platform"], described["platform"]),
        (summary["waiting"], schemas["OrderGroup"]),
        (summary["undelivered"], described["undelivered"]),
        (summary["undelivered"]["deliveries"][0], schemas["UndeliveredNotice"]),
        (summary["day"], described["day"]),
        (summary["day"]["hours"][0], schemas["Hour"]),
        (summary["day"]["outages"][0], schemas["Outage"]),
    ):
        assert sorted(document) == sorted(schema["properties"]) == sorted(schema["required"])


async def test_the_summary_wants_the_token_and_a_store_that_can_be_read(
    client: aiohttp.ClientSession, desk: DeskInMemory
) -> None:
    async with client.get("/v1/summary", headers={"Authorization": ""}) as answer:
        assert answer.status == 401
    desk.full = True
    async with client.get("/v1/summary") as answer:
        assert answer.status == 503
        assert "free some space" in (await answer.json())["detail"]


async def test_the_page_holds_no_data_wants_no_token_and_keeps_others_out(client: aiohttp.ClientSession) -> None:
    async with client.get("/", headers={"Authorization": ""}) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert TOKEN not in await answer.text()
    async with client.get("/", headers={"Host": "evil.example"}) as answer:
        assert answer.status == 403


async def test_a_link_on_another_site_leads_to_the_page_and_to_nothing_else(client: aiohttp.ClientSession) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    for path, expected in (("/", 200), ("/v1/summary", 403), ("/readyz", 403)):
        async with client.get(path, headers=link) as answer:
            assert answer.status == expected
    async with client.get("/", headers={**link, "Sec-Fetch-Mode": "no-cors"}) as answer:
        assert answer.status == 403
