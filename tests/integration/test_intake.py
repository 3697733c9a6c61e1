"""The intake over a real socket: what users send and read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from poller import intake
from poller.core.delivery import DeliveryState
from poller.core.orders import NoticeType, OrderKey, State
from poller.intake import Limits
from poller.intake.guard import TokenCheck
from poller.intake.metrics import metrics_page
from poller.intake.server import build
from tests.integration.desk_in_memory import DeskInMemory

ORDERS = "/v1/orders"


class Client:
    """Speaks to one intake as the lot's software does."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self.session = session
        self.base = base

    async def __call__(self, method: str, path: str, **options: Any) -> tuple[int, Any, Mapping[str, str]]:
        url = URL(self.base + path, encoded=True)
        async with self.session.request(method, url, **options) as response:
            body = await response.read()
            return response.status, json.loads(body) if body else None, response.headers

    async def get(self, path: str) -> Any:
        status, document, _ = await self("GET", path)
        assert status == 200
        return document

    async def refused(self, status: int, method: str, path: str, **options: Any) -> Any:
        answered, document, headers = await self(method, path, **options)
        assert (answered, headers["Content-Type"]) == (status, "application/problem+json")
        assert document["status"] == status
        assert document["detail"]
        return document


def at(number: str, action: str = "", park: str = "lot-1") -> str:
    return f"{ORDERS}/{quote(park, safe='')}/{quote(number, safe='')}{action}"


@pytest.fixture
def desk() -> DeskInMemory:
    return DeskInMemory()


@pytest.fixture
async def client(desk: DeskInMemory) -> AsyncIterator[Client]:
    door = await intake.start(desk, host="127.0.0.1", port=0)
    async with aiohttp.ClientSession() as session:
        yield Client(session, f"http://127.0.0.1:{door.address[1]}")
    await door.stop()


async def test_an_order_is_taken_on_once_and_then_known(client: Client, desk: DeskInMemory) -> None:
    new = {"pay_partner": "111112", "park_uuid": "lot-1", "metadata": {"lane": 2, "plate": "粤B660PP"}}
    status, order, headers = await client("POST", ORDERS, json=new)
    assert status == 201
    assert headers["Location"] == "/v1/orders/lot-1/111112"
    assert order["state"] == "pending"
    assert order["metadata"] == new["metadata"]
    assert order["final_at"] is None
    assert await client.get(headers["Location"]) == order
    assert (await client("POST", ORDERS, json=new))[:2] == (200, order)
    await client.refused(409, "POST", ORDERS, json={**new, "metadata": {"lane": 3}})
    assert len(desk.taken) == 1


async def test_whole_numbers_beyond_64_bits_come_back_as_they_were(client: Client) -> None:
    _, order, _ = await client("POST", ORDERS, json={"pay_partner": "1", "metadata": {"n": 2**70}})
    assert order["metadata"] == {"n": 2**70}


async def test_malformed_json_takes_nothing_on(client: Client, desk: DeskInMemory) -> None:
    for body in (b"", b"{", b'{"pay_partner": "1", "pay_partner": "1"}', b'{"pay_partner": "\xff"}', b"[NaN]"):
        headers = {"Content-Type": "application/json"}
        await client.refused(400, "POST", ORDERS, data=body, headers=headers)
    assert desk.batches == []


async def test_a_wrong_field_is_named(client: Client) -> None:
    problem = await client.refused(422, "POST", ORDERS, json={"pay_partner": 7, "park_uuid": "lot-9"})
    assert [error["pointer"] for error in problem["errors"]] == ["#/park_uuid", "#/pay_partner"]


async def test_a_batch_is_answered_item_by_item_and_taken_on_in_one_call(
    client: Client, desk: DeskInMemory
) -> None:
    await client("POST", ORDERS, json={"pay_partner": "known"})
    desk.batches.clear()
    batch = [
        {"pay_partner": "a"},
        {"pay_partner": ""},
        {"pay_partner": "known"},
        {"pay_partner": "known", "metadata": {"lane": 1}},
        7,
        {"pay_partner": "b"},
    ]
    status, items, _ = await client("POST", ORDERS, json=batch)
    assert status == 200
    assert [item["status"] for item in items] == [201, 422, 200, 409, 422, 201]
    assert [item["order"]["pay_partner"] for item in items if "order" in item] == ["a", "known", "b"]
    assert all(item["problem"]["status"] == item["status"] for item in items if "problem" in item)
    assert desk.batches == [4]


async def test_an_empty_batch_is_answered_by_an_empty_array(client: Client) -> None:
    assert (await client("POST", ORDERS, json=[]))[:2] == (200, [])


async def test_a_thousand_orders_at_once_are_taken_and_one_more_is_not(client: Client, desk: DeskInMemory) -> None:
    batch = [{"pay_partner": str(number)} for number in range(1000)]
    problem = await client.refused(422, "POST", ORDERS, json=[*batch, {"pay_partner": "x"}])
    assert "1001" in problem["detail"]
    assert desk.batches == []
    _, items, _ = await client("POST", ORDERS, json=batch)
    assert [item["status"] for item in items] == [201] * 1000


@pytest.mark.parametrize(
    "number", ["a/b", "a+b", "100%", "%2F", "a b", "京A·12345", "...", "{x}", "?a=1", "#", "a\\b"]
)
async def test_any_number_can_be_asked_after(client: Client, number: str) -> None:
    _, order, headers = await client("POST", ORDERS, json={"pay_partner": number})
    assert headers["Location"] == at(number)
    assert (await client.get(at(number)))["pay_partner"] == number
    assert (await client("POST", at(number, "/poll")))[:2] == (202, order)


async def test_orders_that_are_not_there_are_404(client: Client) -> None:
    for number in ("nobody", "..", "a\x00b"):
        await client.refused(404, "GET", at(number))
        for action in ("/poll", "/cancel", "/reopen"):
            await client.refused(404, "POST", at(number, action))
        await client.refused(404, "GET", at(number, "/history"))
    await client.refused(404, "GET", at("nobody") + "?wait=60")
    await client.refused(400, "GET", f"{ORDERS}/lot-1/%FF")


async def test_other_paths_and_methods_are_problems_too(client: Client) -> None:
    await client.refused(404, "GET", "/v2/orders")
    await client.refused(404, "GET", at("1") + "/")
    for method, path in (("DELETE", ORDERS), ("PUT", at("1")), ("GET", at("1", "/poll")), ("POST", "/healthz")):
        status, document, headers = await client(method, path)
        assert (status, document["status"]) == (405, 405)
        assert headers["Allow"]


async def test_a_long_poll_ends_as_soon_as_the_order_is_final(client: Client, desk: DeskInMemory) -> None:
    await client("POST", ORDERS, json={"pay_partner": "1"})
    asking = asyncio.create_task(client.get(at("1") + "?wait=60"))
    await desk.waiting.wait()
    await desk.finish(OrderKey("lot-1", "1"), State.PAID)
    assert (await asking)["state"] == "paid"


async def test_a_long_poll_ends_with_the_order_as_it_stands(client: Client) -> None:
    await client("POST", ORDERS, json={"pay_partner": "1"})
    assert (await client.get(at("1") + "?wait=0.01"))["state"] == "pending"
    await client.refused(422, "GET", at("1") + "?wait=-1")


async def test_orders_are_listed_newest_first_page_by_page(client: Client, desk: DeskInMemory) -> None:
    for number in range(5):
        await client("POST", ORDERS, json={"pay_partner": str(number)})
    await desk.finish(OrderKey("lot-1", "3"), State.FAILED)
    seen: list[list[str]] = []
    page: Any = {"next": ""}
    while page["next"] is not None:
        page = await client.get(f"{ORDERS}?limit=2&after={page['next']}")
        seen.append([order["pay_partner"] for order in page["orders"]])
    assert seen == [["4", "3"], ["2", "1"], ["0"]]
    failed = await client.get(f"{ORDERS}?state=failed&park_uuid=lot-1&limit=1")
    assert [order["pay_partner"] for order in failed["orders"]] == ["3"]
    assert failed["next"] is None
    await client.refused(422, "GET", f"{ORDERS}?state=unpaid")


async def test_an_order_is_cancelled_and_reopened_and_no_more_than_that(client: Client) -> None:
    await client("POST", ORDERS, json={"pay_partner": "1"})
    await client.refused(409, "POST", at("1", "/reopen"))
    status, order, _ = await client("POST", at("1", "/cancel"), json={})
    assert (status, order["state"]) == (200, "cancelled")
    problem = await client.refused(409, "POST", at("1", "/cancel"))
    assert problem["detail"] == "the order is already cancelled"
    status, order, _ = await client("POST", at("1", "/reopen"))
    assert (status, order["state"]) == (200, "pending")


async def test_a_history_says_what_was_answered_and_what_comes_next(client: Client) -> None:
    await client("POST", ORDERS, json={"pay_partner": "1"})
    assert await client.get(at("1", "/history")) == {
        "history": [
            {
                "count": 3,
                "first_at": "2026-11-02T08:00:00.000Z",
                "last_at": "2026-11-02T08:00:02.000Z",
                "prompt": "schedule",
                "code": "1001",
                "message": None,
                "hint": None,
                "seqno": "4b1889bde31f0561",
                "status": "0",
                "error": None,
            }
        ],
        "next_poll_at": "2026-11-02T08:00:01.000Z",
        "reason": "in_progress",
        "why": "the order is pending",
    }


async def test_a_callback_has_its_order_asked_about_and_decides_nothing(
    client: Client, desk: DeskInMemory
) -> None:
    await client("POST", ORDERS, json={"pay_partner": "1"})
    status, document, _ = await client("POST", "/v1/notify", json={"parking_order": "1", "status": "1"})
    assert (status, document["orders"][0]["state"]) == (202, "pending")
    assert desk.asked == [OrderKey("lot-1", "1")]
    await client.refused(404, "POST", "/v1/notify", json={"parking_order": "2"})
    await client.refused(422, "POST", "/v1/notify", json={"pay_partner": "1"})


async def test_a_callback_without_a_lot_reaches_each_lot_that_knows_the_number(
    client: Client, desk: DeskInMemory
) -> None:
    desk.park_uuids = ("lot-1", "lot-2", "lot-3")
    for park in ("lot-2", "lot-3"):
        await client("POST", ORDERS, json={"pay_partner": "1", "park_uuid": park})
    await client("POST", "/v1/notify", json={"parking_order": "1"})
    assert desk.asked == [OrderKey("lot-2", "1"), OrderKey("lot-3", "1")]
    await client("POST", "/v1/notify", json={"parking_order": "1", "park_uuid": "lot-3"})
    assert desk.asked[2:] == [OrderKey("lot-3", "1")]


async def test_deliveries_are_listed_and_sent_again(client: Client, desk: DeskInMemory) -> None:
    for number in ("1", "2"):
        await client("POST", ORDERS, json={"pay_partner": number})
        await desk.finish(OrderKey("lot-1", number), State.PAID)
    await desk.tell(NoticeType.CONFLICT, desk.taken[OrderKey("lot-1", "1")], DeliveryState.DEAD)
    page = await client.get("/v1/deliveries?limit=2")
    assert [one["event_id"] for one in page["deliveries"]] == ["evt-3", "evt-2"]
    page = await client.get(f"/v1/deliveries?limit=2&after={page['next']}")
    assert page["next"] is None
    assert page["deliveries"] == [
        {
            "event_id": "evt-1",
            "type": "payment.paid",
            "park_uuid": "lot-1",
            "pay_partner": "1",
            "state": "pending",
            "made_at": "2026-11-02T08:00:00.000Z",
            "attempts": 0,
            "next_attempt_at": "2026-11-02T08:00:10.000Z",
            "last_error": None,
            "last_status": None,
            "last_attempt_at": None,
        }
    ]
    dead = await client.get("/v1/deliveries?state=dead")
    assert [(one["event_id"], one["next_attempt_at"]) for one in dead["deliveries"]] == [("evt-3", None)]
    of_one = await client.get("/v1/deliveries?pay_partner=1")
    assert [one["event_id"] for one in of_one["deliveries"]] == ["evt-3", "evt-1"]
    await client.refused(422, "GET", "/v1/deliveries?park_uuid=lot-1")
    await client.refused(422, "GET", "/v1/deliveries?state=paid")
    status, delivery, _ = await client("POST", "/v1/deliveries/evt-3/retry")
    assert (status, delivery["state"]) == (202, "pending")
    await client.refused(404, "POST", "/v1/deliveries/evt-9/retry")
    await client.refused(404, "POST", "/v1/deliveries/%00/retry")


async def test_what_cannot_be_put_on_disk_is_503_and_may_be_tried_again(
    client: Client, desk: DeskInMemory
) -> None:
    desk.full = True
    requests = [("POST", ORDERS, {"json": {"pay_partner": "1"}}), ("GET", at("1"), {}), ("GET", "/v1/events", {})]
    for method, path, options in requests:
        status, problem, headers = await client(method, path, **options)
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "not on disk, try again: the disk is full" in problem["detail"]


async def test_a_defect_is_500_without_a_word_of_its_inside(client: Client, desk: DeskInMemory) -> None:
    desk.broken = True
    problem = await client.refused(500, "POST", ORDERS, json={"pay_partner": "1"})
    assert "a defect" in problem["detail"]
    assert "RuntimeError" not in json.dumps(problem)


async def test_health_and_readiness_are_told_apart(client: Client, desk: DeskInMemory) -> None:
    desk.ready = False
    assert await client.get("/healthz") == {"status": "ok"}
    status, state, _ = await client("GET", "/readyz")
    assert (status, state["status"]) == (503, "unready")


async def test_every_route_is_described_and_every_description_has_its_route(client: Client) -> None:
    document = await client.get("/openapi.json")
    described = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    app = build(DeskInMemory(), Limits(), TokenCheck(None), None, [metrics_page(_nothing, "text/plain")])
    routed = {
        (route.resource.canonical, route.method)
        for route in app.router.routes()
        if isinstance(route.resource, web.Resource) and route.method != "HEAD"
    }
    assert described == routed


async def _nothing() -> bytes:
    return b""


async def test_orders_and_deliveries_have_the_keys_that_are_described(client: Client, desk: DeskInMemory) -> None:
    schemas = (await client.get("/openapi.json"))["components"]["schemas"]
    _, order, _ = await client("POST", ORDERS, json={"pay_partner": "1"})
    await desk.finish(OrderKey("lot-1", "1"), State.PAID)
    delivery = (await client.get("/v1/deliveries"))["deliveries"][0]
    entry = (await client.get(at("1", "/history")))["history"][0]
    for name, document in (("Order", order), ("Delivery", delivery), ("HistoryEntry", entry)):
        assert list(document) == list(schemas[name]["properties"]) == schemas[name]["required"]
    assert schemas["State"]["enum"] == list(State)
    assert schemas["NoticeType"]["enum"] == list(NoticeType)
    assert schemas["Delivery"]["properties"]["state"]["enum"] == list(DeliveryState)
