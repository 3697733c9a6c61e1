"""What a query sends and what its answers come to, at a platform that answers as told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from poller.core.orders import OrderKey
from poller.core.replies import Cause, InProgress, Payment, Rejected, Reply, Result, Settled, Unavailable, Unclear
from poller.core.signing import sign
from poller.pyun import Lot, PyunPlatform

PATH = "/gate/1.0/parking/internal/payment"
SECRET = "planted-secret"
KEY = OrderKey("49f0cc52-e8c7-41e3-b54d-af666b8cc11a", "111112")
FULL = OrderKey("full", "粤B660PP +&=%")
LOTS = {KEY.park_uuid: Lot(SECRET), "full": Lot(SECRET, "op1234567723122", "api-debug")}
SHORT_S = 0.1
LONG_S = 30.0
IN_PROGRESS = '{"code":"1001","status":"0"}'


class Endpoint:
    """The platform: it answers every request as told, or never while `silent`, and keeps what it was asked."""

    def __init__(self) -> None:
        self.url = URL()
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = IN_PROGRESS
        self.silent = False
        self.asked: list[tuple[str, URL]] = []

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.url))
        if self.silent:
            await asyncio.Event().wait()
        return web.Response(status=self.status, headers=self.headers, text=self.body)


@asynccontextmanager
async def serving() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_route("*", "/{anywhere:.*}", endpoint.handle)
    async with TestServer(app) as server:
        endpoint.url = server.make_url(PATH)
        yield endpoint


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with serving() as endpoint:
        yield endpoint


@pytest.fixture
async def platform(endpoint: Endpoint) -> AsyncIterator[PyunPlatform]:
    platform = PyunPlatform(str(endpoint.url), LOTS, timeout=LONG_S)
    yield platform
    await platform.close()


# What is sent.


async def test_a_query_is_a_get_to_the_endpoint_with_the_lots_parameters_and_their_sign(
    platform: PyunPlatform, endpoint: Endpoint
) -> None:
    assert await platform.query(KEY) == InProgress(Reply("1001", status="0"))
    ((method, url),) = endpoint.asked
    signed = {"park_uuid": KEY.park_uuid, "pay_partner": KEY.pay_partner}
    assert method == "GET"
    assert url.with_query(None) == endpoint.url
    assert dict(url.query) == {**signed, "sign": sign(signed.items(), SECRET)}


async def test_app_id_and_api_type_are_sent_and_signed_where_the_lot_has_them(
    platform: PyunPlatform, endpoint: Endpoint
) -> None:
    await platform.query(FULL)
    ((_, url),) = endpoint.asked
    signed = {
        "park_uuid": "full",
        "pay_partner": "粤B660PP +&=%",
        "app_id": "op1234567723122",
        "api_type": "api-debug",
    }
    assert dict(url.query) == {**signed, "sign": sign(signed.items(), SECRET)}


async def test_lots_can_be_replaced_while_it_runs(platform: PyunPlatform, endpoint: Endpoint) -> None:
    assert platform.knows("full")
    platform.configure({"new": Lot("other-secret")}, timeout=LONG_S)
    assert platform.knows("new")
    assert not platform.knows("full")
    assert await platform.query(FULL) == Unclear("the lot is not configured any more")
    assert endpoint.asked == []
    assert isinstance(await platform.query(OrderKey("new", "1")), InProgress)
    ((_, url),) = endpoint.asked
    assert url.query["sign"] == sign([("park_uuid", "new"), ("pay_partner", "1")], "other-secret")


# How long it may take.


async def test_a_platform_that_never_answers_is_unavailable_once_the_timeout_is_over(endpoint: Endpoint) -> None:
    endpoint.silent = True
    platform = PyunPlatform(str(endpoint.url), LOTS, timeout=SHORT_S)
    try:
        assert await platform.query(KEY) == Unavailable(Cause.TIMEOUT, "no whole reply in time")
    finally:
        await platform.close()
    assert len(endpoint.asked) == 1


async def test_another_timeout_is_in_force_for_the_next_query_and_leaves_the_one_in_the_air_alone(
    platform: PyunPlatform, endpoint: Endpoint
) -> None:
    endpoint.silent = True
    async with asyncio.timeout(LONG_S / 2), asyncio.TaskGroup() as group:
        in_the_air = group.create_task(platform.query(KEY))
        await asyncio.sleep(0)  # it has begun
        platform.configure(LOTS, timeout=SHORT_S)
        assert await platform.query(FULL) == Unavailable(Cause.TIMEOUT, "no whole reply in time")
        assert not in_the_air.done()
        in_the_air.cancel()


async def test_a_query_after_one_that_timed_out_gets_its_own_answer(
    platform: PyunPlatform, endpoint: Endpoint
) -> None:
    platform.configure(LOTS, timeout=SHORT_S)
    endpoint.silent = True
    assert isinstance(await platform.query(KEY), Unavailable)
    endpoint.silent = False
    platform.configure(LOTS, timeout=LONG_S)
    assert await platform.query(FULL) == InProgress(Reply("1001", status="0"))
    assert [url.query["park_uuid"] for _, url in endpoint.asked] == [KEY.park_uuid, "full"]


# What the answers come to.


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (
            200,
            '{"code":"1001","status":-1,"pay_serial":9}',
            Settled(False, Reply("1001", status="-1"), Payment("9")),
        ),
        (404, '{"code":"400","message":"m"}', Rejected(Reply("400", "m"))),
        (404, "no such page", Unclear("HTTP status 404, not one JSON object with a code")),
        (503, "busy", Unavailable(Cause.BUSY, "HTTP status 503", retry_after=7.0)),
        (302, "", Unclear("HTTP status 302: redirects are not followed")),
        (200, "x" * 65_537, Unclear("HTTP status 200, a body of more than 65536 bytes")),
        (503, "x" * 65_537, Unavailable(Cause.BUSY, "HTTP status 503", retry_after=7.0)),
    ],
)
async def test_status_and_body_are_read_together(
    platform: PyunPlatform, endpoint: Endpoint, status: int, body: str, expected: Result
) -> None:
    endpoint.status, endpoint.body, endpoint.headers = status, body, {"Retry-After": "7"}
    assert await platform.query(KEY) == expected


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_the_other_place_never_asked(
    platform: PyunPlatform, endpoint: Endpoint, status: int
) -> None:
    async with serving() as elsewhere:
        endpoint.status, endpoint.body, endpoint.headers = status, "", {"Location": str(elsewhere.url)}
        expected = Unclear(f"HTTP status {status}: redirects are not followed")
        assert await platform.query(KEY) == expected
        endpoint.headers = {"Location": "/elsewhere/on/the/same/host"}
        assert await platform.query(KEY) == expected
        assert elsewhere.asked == []
    assert [url.path for _, url in endpoint.asked] == [PATH, PATH]


async def test_a_body_of_exactly_the_cap_is_read(platform: PyunPlatform, endpoint: Endpoint) -> None:
    body = '{"code":"1001","status":"1"}'
    endpoint.body = body + " " * (65_536 - len(body))
    assert await platform.query(KEY) == Settled(True, Reply("1001", status="1"))
