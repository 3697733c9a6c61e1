"""The stream of notices over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from poller import intake
from poller.core.orders import NewOrder, NoticeType, OrderKey, State
from poller.intake import Intake, Limits
from tests.integration.desk_in_memory import DeskInMemory

KEY = OrderKey("lot-1", "1")
Open = Callable[..., "aiohttp.client._RequestContextManager"]


@pytest.fixture
async def desk() -> DeskInMemory:
    desk = DeskInMemory()
    await desk.submit([NewOrder(KEY)])
    return desk


@asynccontextmanager
async def opened(desk: DeskInMemory, limits: Limits | None = None) -> AsyncIterator[tuple[Intake, Open]]:
    """An intake, and how to open a stream of it."""
    door = await intake.start(desk, host="127.0.0.1", port=0, limits=limits)
    async with aiohttp.ClientSession() as session:

        def stream(last_event_id: str | None = None) -> aiohttp.client._RequestContextManager:
            headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
            return session.get(f"http://127.0.0.1:{door.address[1]}/v1/events", headers=headers)

        yield door, stream
    await door.stop()


async def read_event(response: aiohttp.ClientResponse) -> dict[str, str]:
    """The next event or comment; a comment's name is empty."""
    lines = (await response.content.readuntil(b"\n\n")).decode().splitlines()
    return {name: value.removeprefix(" ") for name, _, value in (line.partition(":") for line in lines if line)}


async def test_a_notice_comes_as_it_is_made_with_its_exact_body(desk: DeskInMemory) -> None:
    await desk.tell(NoticeType.UNDECIDED, desk.taken[KEY])
    async with opened(desk) as (_, stream), stream() as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        assert (await read_event(response))[""] == "from now on"
        await desk.finish(KEY, State.PAID)
        body = desk.notices[1].notice.body
        assert await read_event(response) == {"id": "evt-2", "event": "payment.paid", "data": body}


async def test_a_reader_goes_on_after_the_last_event_it_saw(desk: DeskInMemory) -> None:
    for _ in range(250):
        await desk.tell(NoticeType.UNDECIDED, desk.taken[KEY])
    desk.pages.clear()
    async with opened(desk) as (_, stream), stream("evt-3") as response:
        assert (await read_event(response))[""] == "resumed"
        seen = [(await read_event(response))["id"] for _ in range(247)]
    assert seen == [f"evt-{number}" for number in range(4, 251)]
    assert max(desk.pages) == 100


async def test_an_unknown_last_event_means_from_now_on_and_is_said_so(desk: DeskInMemory) -> None:
    await desk.tell(NoticeType.UNDECIDED, desk.taken[KEY])
    async with opened(desk) as (_, stream), stream("evt-of-another-daemon") as response:
        assert (await read_event(response))[""] == "unknown Last-Event-ID, from now on"
        await desk.finish(KEY, State.PAID)
        assert (await read_event(response))["id"] == "evt-2"


async def test_a_quiet_stream_has_a_heartbeat(desk: DeskInMemory) -> None:
    async with opened(desk, Limits(heartbeat_seconds=0.01)) as (_, stream), stream() as response:
        await read_event(response)
        assert await read_event(response) == {"": ""}
        assert await read_event(response) == {"": ""}


async def test_a_stream_ends_cleanly_when_the_intake_stops(desk: DeskInMemory) -> None:
    async with opened(desk) as (door, stream), stream() as response:
        await read_event(response)
        await desk.waiting.wait()
        await door.stop()
        assert await response.content.read() == b""


async def test_a_stream_ends_with_a_comment_when_the_store_fails(desk: DeskInMemory) -> None:
    async with opened(desk) as (_, stream), stream() as response:
        await read_event(response)
        await desk.waiting.wait()
        desk.full = True
        await desk.tell(NoticeType.UNDECIDED, desk.taken[KEY])
        assert (await response.content.read()).startswith(b": the store cannot be read")


async def test_a_stream_too_many_is_refused_until_one_ends(desk: DeskInMemory) -> None:
    async with opened(desk, Limits(streams=1)) as (_, stream):
        async with stream() as response:
            await read_event(response)
            await desk.waiting.wait()
            async with stream() as second:
                assert (second.status, second.headers["Retry-After"]) == (503, "10")
        while True:
            async with stream() as third:
                if third.status == 200:
                    break
            await asyncio.sleep(0)
