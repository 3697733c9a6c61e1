"""The simulated platform, over a real socket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import msgspec
import pytest

from poller.core.signing import sign
from poller.simulator import (
    AfterQueries,
    AfterSeconds,
    Garbage,
    Outage,
    Outcome,
    Pending,
    Settles,
    SimulatedPlatform,
    serve,
)

LOT = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
APP_SECRET = "planted-app-secret"
SECRETS = {LOT: APP_SECRET}


class BrokenOffError(Exception):
    """The connection ended without a reply. An exception that aiohttp does not know, or it would ask again."""


async def ask_once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise BrokenOffError from error


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10), middlewares=(ask_once,)) as session:
        yield session


@pytest.fixture
async def platform() -> AsyncIterator[SimulatedPlatform]:
    async with SimulatedPlatform(SECRETS) as running:
        yield running


def signed(number: str, **more: str) -> dict[str, str]:
    params = {"park_uuid": LOT, "pay_partner": number, **more}
    return {**params, "sign": sign(params.items(), APP_SECRET)}


async def ask(
    http: aiohttp.ClientSession, platform: SimulatedPlatform, params: dict[str, str], **options: Any
) -> tuple[int, bytes]:
    async with http.get(platform.url, params=params, allow_redirects=False, **options) as response:
        return response.status, await response.read()


async def asked(http: aiohttp.ClientSession, platform: SimulatedPlatform, number: str) -> dict[str, Any]:
    reply: dict[str, Any] = msgspec.json.decode((await ask(http, platform, signed(number)))[1])
    return reply


def code_and_status(reply: dict[str, Any]) -> tuple[str, str | None]:
    status = reply.get("status")
    return str(reply["code"]), None if status is None else str(status)


async def test_an_order_is_in_progress_then_paid_as_its_number_says(
    http: aiohttp.ClientSession, platform: SimulatedPlatform
) -> None:
    replies = [await asked(http, platform, "paid-after-2-queries-粤B660PP") for _ in range(3)]
    assert [code_and_status(reply) for reply in replies] == [("1001", "0"), ("1001", "0"), ("1001", "1")]
    assert replies[2]["pay_serial"]
    assert str(replies[2]["pay_origin"]) in {"0", "4", "8"}
    assert all(len(reply["seqno"]) == 16 and reply["data_node"] for reply in replies)
    key = (LOT, "paid-after-2-queries-粤B660PP")
    assert platform.record.expected() == {key: Outcome.PAID}
    assert platform.record.spoken() == {key: {Outcome.PAID}}
    assert platform.record.queries_by_order() == {key: 3}


async def test_codes_and_statuses_come_as_strings_and_as_numbers(
    http: aiohttp.ClientSession, platform: SimulatedPlatform
) -> None:
    replies = [await asked(http, platform, f"settle-0s-{number}") for number in range(60)]
    assert {type(reply["code"]) for reply in replies} == {int, str}
    assert {type(reply["status"]) for reply in replies} == {int, str}


@pytest.mark.parametrize(
    ("number", "code"), [("error500-1", "500"), ("busy503-1", "503"), ("nostatus-1", "1001"), ("reject-1", "400")]
)
async def test_each_fault_is_told_in_the_body(
    http: aiohttp.ClientSession, platform: SimulatedPlatform, number: str, code: str
) -> None:
    assert code_and_status(await asked(http, platform, number)) == (code, None)


async def test_the_sign_covers_every_parameter_and_its_case_does_not_matter(
    http: aiohttp.ClientSession, platform: SimulatedPlatform
) -> None:
    params = signed("settle-0s", app_id="op1", api_type="api-debug", empty="")
    _, body = await ask(http, platform, {**params, "sign": params["sign"].lower()})
    assert code_and_status(msgspec.json.decode(body)) == ("1001", "1")


@pytest.mark.parametrize("wrong", [{"sign": "0" * 32}, {"sign": ""}, {"app_id": "op2"}])
async def test_a_wrong_sign_gets_a_hint_and_begins_no_order(
    http: aiohttp.ClientSession, platform: SimulatedPlatform, wrong: dict[str, str]
) -> None:
    status, body = await ask(http, platform, signed("settle-0s", app_id="op1") | wrong)
    reply = msgspec.json.decode(body)
    assert (status, code_and_status(reply)) == (200, ("1001", None))
    assert "sign" in reply["hint"]
    assert platform.record.answers() == {"bad-sign": 1}
    assert platform.record.expected() == {}


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"park_uuid": "another"}, "park_uuid"),
        ({"pay_partner": ""}, "pay_partner"),
        ({"park_uuid": ""}, "park_uuid"),
    ],
)
async def test_an_unknown_lot_or_a_missing_parameter_is_code_400(
    http: aiohttp.ClientSession, platform: SimulatedPlatform, params: dict[str, str], named: str
) -> None:
    _, body = await ask(http, platform, signed("settle-0s") | params)
    reply = msgspec.json.decode(body)
    assert code_and_status(reply) == ("400", None)
    assert named in reply["hint"]


async def test_only_get_is_served(http: aiohttp.ClientSession, platform: SimulatedPlatform) -> None:
    async with http.post(platform.url, params=signed("settle-0s")) as response:
        assert response.status == 405
    async with http.get(f"{platform.origin}/elsewhere") as response:
        assert response.status == 404
    assert len(platform.record) == 0


async def test_a_begun_order_settles_by_the_clock_without_being_asked(http: aiohttp.ClientSession) -> None:
    async with SimulatedPlatform(SECRETS, script=lambda _, __: Settles(AfterSeconds(0.0))) as platform:
        before = time.monotonic()
        platform.begin(LOT, "1")
        settled = platform.record.settled_at((LOT, "1"))
        assert settled is not None
        assert before <= settled <= time.monotonic()
        assert platform.record.lateness((LOT, "1"), settled + 2.0) == pytest.approx(2.0)
        assert platform.record.expected() == {(LOT, "1"): Outcome.PAID}
        with pytest.raises(KeyError):
            platform.begin("another", "1")
        assert code_and_status(await asked(http, platform, "1")) == ("1001", "1")


async def test_what_has_not_settled_is_expected_to_have_no_outcome(
    http: aiohttp.ClientSession, platform: SimulatedPlatform
) -> None:
    await asked(http, platform, "pending-1")
    await asked(http, platform, "settle-999s")
    assert set(platform.record.expected().values()) == {None}
    assert platform.record.lateness((LOT, "pending-1"), time.monotonic()) is None


async def test_it_hangs_up_as_often_as_the_number_says(
    http: aiohttp.ClientSession, platform: SimulatedPlatform
) -> None:
    for _ in range(2):
        with pytest.raises(BrokenOffError):
            await ask(http, platform, signed("hangup-2"))
    assert code_and_status(await asked(http, platform, "hangup-2")) == ("1001", "1")
    assert platform.record.answers() == {"hangup": 2, "paid": 1}


@pytest.mark.parametrize("kind", sorted(set(Garbage) - {Garbage.SHORT, Garbage.DRIP}))
async def test_garbage_of_each_kind_is_sent_and_then_the_outcome(
    http: aiohttp.ClientSession, platform: SimulatedPlatform, kind: Garbage
) -> None:
    status, body = await ask(http, platform, signed(f"garbage-{kind}-1"))
    assert not is_believable(status, body)
    assert platform.record.spoken() == {}
    assert code_and_status(await asked(http, platform, f"garbage-{kind}-1")) == ("1001", "-1")
    assert platform.record.answers() == {f"garbage-{kind}": 1, "failed": 1}


def is_believable(status: int, body: bytes) -> bool:
    """One JSON object under HTTP 200, not oversized, without duplicate keys, with a final status."""
    try:
        reply = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    final = isinstance(reply, dict) and reply.get("status") in ("1", "-1") and body.count(b'"status"') == 1
    return final and status == 200 and len(body) < 1_000_000


async def test_the_redirect_leads_to_a_page_that_says_paid(
    http: aiohttp.ClientSession, platform: SimulatedPlatform
) -> None:
    async with http.get(platform.url, params=signed("garbage-redirect-1")) as response:
        assert code_and_status(await response.json()) == ("1001", "1")


async def test_a_short_reply_breaks_off(http: aiohttp.ClientSession, platform: SimulatedPlatform) -> None:
    with pytest.raises(aiohttp.ClientPayloadError):
        await ask(http, platform, signed("garbage-short-1"))


async def test_dripping_bytes_never_stop_coming(http: aiohttp.ClientSession, platform: SimulatedPlatform) -> None:
    async with http.get(platform.url, params=signed("garbage-drip-1")) as response:
        text = b""
        while not text.endswith(b"}  "):
            text += await response.content.readany()
    assert msgspec.json.decode(text)["status"] == "1"


async def test_unnamed_garbage_takes_every_kind_in_turn(
    http: aiohttp.ClientSession, platform: SimulatedPlatform
) -> None:
    for _ in range(11):
        try:
            await ask(http, platform, signed("garbage-11"))
        except aiohttp.ClientPayloadError:
            continue
    assert set(platform.record.answers()) == {
        f"garbage-{kind}" for kind in Garbage if kind not in {"huge", "drip"}
    }


async def test_a_query_whose_client_leaves_is_over_and_told_nothing(platform: SimulatedPlatform) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(TimeoutError):
            await ask(session, platform, signed("slow-500s"), timeout=aiohttp.ClientTimeout(total=0.05))
    await until(lambda: platform.record.answers() == {"gone": 1})
    assert platform.record.spoken() == {}


async def until(holds: Callable[[], bool]) -> None:
    """Let the event loop turn until it holds."""
    async with asyncio.timeout(10):
        while True:
            if holds():
                return
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("kind", "status"), [(Outage.BUSY503, 503), (Outage.LIMITED429, 429), (Outage.GATEWAY502, 502)]
)
async def test_in_an_outage_every_order_gets_its_error_and_afterwards_the_truth(
    http: aiohttp.ClientSession, platform: SimulatedPlatform, kind: Outage, status: int
) -> None:
    await platform.outage(kind, retry_after=7)
    async with http.get(platform.url, params=signed("settle-0s")) as response:
        assert response.status == status
        assert response.headers.get("Retry-After") == (None if kind is Outage.GATEWAY502 else "7")
    await platform.recover()
    assert code_and_status(await asked(http, platform, "settle-0s")) == ("1001", "1")
    assert platform.record.answers() == {f"outage-{kind}": 1, "paid": 1}


async def test_a_hanging_platform_takes_queries_and_lets_them_go_when_it_recovers(
    http: aiohttp.ClientSession, platform: SimulatedPlatform
) -> None:
    await platform.outage("hang")
    query = asyncio.create_task(ask(http, platform, signed("settle-0s")))
    await until(lambda: len(platform.record) == 1)
    await platform.recover()
    with pytest.raises(BrokenOffError):
        await query


async def test_a_refusing_platform_listens_again_on_the_same_port(
    http: aiohttp.ClientSession, platform: SimulatedPlatform
) -> None:
    url = platform.url
    await asked(http, platform, "settle-0s")
    for _ in range(2):
        await platform.outage("refuse")
        with pytest.raises(aiohttp.ClientConnectorError):
            await asked(http, platform, "settle-0s")
        await platform.recover()
        assert code_and_status(await asked(http, platform, "settle-0s")) == ("1001", "1")
    assert platform.url == url


async def test_an_outage_for_a_time_ends_by_itself(
    http: aiohttp.ClientSession, platform: SimulatedPlatform
) -> None:
    await platform.outage("503", for_s=0.02)
    async with asyncio.timeout(10):
        while code_and_status(await asked(http, platform, "settle-0s")) != ("1001", "1"):
            continue
    assert platform.record.answers()["paid"] == 1


async def test_a_platform_can_be_left_in_any_outage() -> None:
    for kind in Outage:
        async with SimulatedPlatform(SECRETS) as platform:
            await platform.outage(kind, for_s=999.0)


async def test_the_world_can_be_read_and_steered_from_outside(
    http: aiohttp.ClientSession, platform: SimulatedPlatform
) -> None:
    async def post(what: str, body: object) -> int:
        async with http.post(f"{platform.origin}/_world/{what}", json=body) as response:
            return response.status

    assert await post("begin", {"park_uuid": LOT, "pay_partner": "settle-0s"}) == 200
    assert await post("begin", {"park_uuid": "another", "pay_partner": "1"}) == 404
    assert await post("outage", {"kind": "503", "retry_after": 3}) == 200
    assert (await ask(http, platform, signed("settle-0s")))[0] == 503
    assert await post("outage", {"kind": "flood"}) == 422
    assert await post("outage", {"kind": "refuse"}) == 422
    assert await post("recover", None) == 200
    assert code_and_status(await asked(http, platform, "settle-0s")) == ("1001", "1")
    async with http.get(f"{platform.origin}/_world") as response:
        world = await response.json()
    (order,) = world["orders"]
    assert (order["expected"], order["spoken"], order["queries"]) == ("paid", ["paid"], 2)
    assert order["settles_at"] <= world["now"]
    assert (world["queries"], world["max_queries_in_one_second"], world["max_concurrent_for_one_order"]) == (
        2,
        2,
        1,
    )
    assert APP_SECRET not in str(world)
    async with http.get(f"{platform.origin}/_world", params={"orders": "0"}) as response:
        assert "orders" not in await response.json()


async def test_refusing_can_be_ordered_from_outside_for_a_time(
    http: aiohttp.ClientSession, platform: SimulatedPlatform
) -> None:
    async with http.post(f"{platform.origin}/_world/outage", json={"kind": "refuse", "for_s": 999}) as response:
        assert response.status == 200
    with pytest.raises(aiohttp.ClientConnectorError):
        await asked(http, platform, "settle-0s")
    await platform.recover()
    assert code_and_status(await asked(http, platform, "settle-0s")) == ("1001", "1")


async def test_serving_ends_when_it_is_told_to_and_hands_over_the_record(http: aiohttp.ClientSession) -> None:
    stop, open_now = asyncio.Event(), asyncio.Queue[SimulatedPlatform]()
    serving = asyncio.create_task(
        serve(SECRETS, host="127.0.0.1", port=0, shutdown_trigger=stop.wait, on_listening=open_now.put_nowait)
    )
    platform = await open_now.get()
    await asked(http, platform, "fail-0s")
    with pytest.raises(OSError, match="in use"):
        await serve(SECRETS, host="127.0.0.1", port=platform.port, shutdown_trigger=stop.wait)
    stop.set()
    record = await serving
    assert record.expected() == {(LOT, "fail-0s"): Outcome.FAILED}
    assert "1 failed" in str(record)


async def test_many_orders_asked_at_once_are_all_recorded(http: aiohttp.ClientSession) -> None:
    async with SimulatedPlatform(SECRETS, script=lambda _, __: Settles(AfterQueries(1))) as platform:
        numbers = [str(number) for number in range(300)]
        for _ in range(2):
            await asyncio.gather(*(asked(http, platform, number) for number in numbers))
        queries = list(platform.record.queries())
    assert len(queries) == 600
    assert all(query.ended >= query.arrived and query.key for query in queries)
    assert set(platform.record.queries_by_order().values()) == {2}
    assert set(platform.record.expected().values()) == {Outcome.PAID}
    assert platform.record.max_concurrent_for_one_order() == 1


async def test_two_queries_of_one_order_at_once_are_noticed(http: aiohttp.ClientSession) -> None:
    async with SimulatedPlatform(SECRETS, script=lambda _, __: Pending()) as platform:
        await platform.outage("hang")
        queries = [asyncio.create_task(ask(http, platform, signed("1"))) for _ in range(2)]
        await until(lambda: platform.record.max_concurrent_for_one_order() == 2)
    results = await asyncio.gather(*queries, return_exceptions=True)
    assert all(isinstance(result, BrokenOffError) for result in results)
