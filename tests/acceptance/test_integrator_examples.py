"""The README's page for the integrator: each example, as it stands there, against real daemon and simulator."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import aiohttp
import pytest

from poller.simulator import SimulatedPlatform
from tests.acceptance.processes import APP_SECRET, PARK, Process, Site, free_port
from tests.acceptance.readme_examples import (
    CALLBACK,
    JAVA,
    PYTHON,
    PYTHON_RECEIVER,
    SHELL,
    Example,
    environment,
    text_of,
)

pytestmark = pytest.mark.timeout(120)

WAITING = [pytest.param(example, id=example.file) for example in (SHELL, PYTHON, JAVA)]
RECEIVING = [pytest.param(example, id=example.file) for example in (PYTHON_RECEIVER, JAVA)]


@pytest.fixture
async def platform() -> AsyncIterator[SimulatedPlatform]:
    async with SimulatedPlatform({PARK: APP_SECRET}) as platform:
        yield platform


@asynccontextmanager
async def ended_after(*processes: Process) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await asyncio.gather(*(process.kill() for process in processes))


async def outcome(lane: Process) -> tuple[int, str]:
    """Its exit code and all it printed, but for curl's own complaints."""
    code = await lane.end()
    return code, "".join(lane.lines)


@pytest.mark.parametrize("example", WAITING)
async def test_the_lane_that_waits_opens_for_paid_alone(
    example: Example, tmp_path: Path, platform: SimulatedPlatform
) -> None:
    example.skip_unless_runnable()
    site = Site.make(tmp_path / "site", platform.url, None)
    numbers = ("paid-after-2-queries", "failed-after-2-queries", "reject")
    async with site.running():
        lanes = [
            await example.run(tmp_path, number, f"{lane}", POLLER=site.url) for lane, number in enumerate(numbers)
        ]
        async with ended_after(*lanes):
            paid, failed, rejected = [await outcome(lane) for lane in lanes]
    assert paid[0] == failed[0] == rejected[0] == 0, [lane.stderr for lane in lanes]
    opened, booked = paid[1].splitlines()
    assert opened == "lane 0: barrier open"
    assert booked.startswith("booked: paid-after-2-queries paid ")
    assert not booked.endswith(" -")
    assert failed[1].startswith("booked: failed-after-2-queries failed ")
    assert failed[1].count("\n") == 1
    assert rejected[1] == "booked: reject rejected -\n"


@pytest.mark.parametrize("example", WAITING)
async def test_the_lane_leaves_what_comes_late_to_the_sites_own_rule_and_books_it(
    example: Example, tmp_path: Path, platform: SimulatedPlatform
) -> None:
    example.skip_unless_runnable()
    site = Site.make(tmp_path / "site", platform.url, None, undecided_after_seconds=1)
    number = 'paid-after-0-queries-"A\\5"/2 粤B'
    async with site.running() as daemon, site.session() as session:
        await platform.outage("503")
        await session.post("/v1/orders", json={"pay_partner": number, "metadata": {"lane": "4"}})
        await daemon.logged("order.undecided")
        lane = await example.run(tmp_path, number, "4", POLLER=site.url)
        async with ended_after(lane):
            await lane.until(lambda: bool(lane.lines))
            await platform.recover()
            await session.post("/v1/notify", json={"parking_order": number})
            code, printed = await outcome(lane)
    assert code == 0, lane.stderr
    ruled, booked = printed.splitlines()
    assert ruled == "lane 4: no result yet, the site's own rule decides"
    assert booked.startswith(f"booked: {number} paid ")


@pytest.mark.parametrize("example", WAITING)
async def test_the_lane_hands_in_again_after_a_lost_answer_and_503_and_gives_up_where_it_is_at_fault(
    example: Example, tmp_path: Path, platform: SimulatedPlatform
) -> None:
    example.skip_unless_runnable()
    site = Site.make(tmp_path / "site", platform.url, None)
    answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", _unavailable()]
    all_given = asyncio.Event()

    async def fail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answers.pop(0))
        await writer.drain()
        writer.close()
        if not answers:
            all_given.set()
            listener.close()

    listener = await asyncio.start_server(fail, "127.0.0.1", site.port)
    lane = await example.run(tmp_path, "paid-after-1-queries-1", "7", POLLER=site.url)
    async with ended_after(lane):
        async with asyncio.timeout(30):
            await all_given.wait()
            await listener.wait_closed()
        async with site.running(), site.session() as session:
            code, printed = await outcome(lane)
            assert code == 0, lane.stderr
            assert printed.startswith("lane 7: barrier open\nbooked: paid-after-1-queries-1 paid ")
            async with session.get("/v1/orders") as answer:
                assert len((await answer.json())["orders"]) == 1
            other_lane = await example.run(tmp_path, "paid-after-1-queries-1", "8", POLLER=site.url)
            code, printed = await outcome(other_lane)
            assert code != 0
            assert printed == ""
            assert "refused: this pay_partner is known with other metadata" in "".join(other_lane.stderr)


@pytest.mark.parametrize("example", RECEIVING)
async def test_the_receiver_verifies_keeps_each_notice_before_2xx_and_drops_repeats(
    example: Example, tmp_path: Path, platform: SimulatedPlatform
) -> None:
    example.skip_unless_runnable()
    port = free_port()
    url = f"http://127.0.0.1:{port}/payments"
    site = Site.make(tmp_path / "site", platform.url, url, undecided_after_seconds=1.5)
    settings = {"PORT": str(port), "WEBHOOK_SECRET_FILE": str(site.folder / "webhook.secret")}
    numbers = ("paid-after-0-queries-late", "paid-after-0-queries", "failed-after-0-queries")
    late, *others = [
        {
            "pay_partner": number,
            "metadata": {"lane": f"{lane}", "notes": ["1, 2", {"late": True}], "plate": '粤B"\\'},
        }
        for lane, number in enumerate(numbers)
    ]
    async with site.running() as daemon, site.session() as session, AsyncExitStack() as stack:
        receiver = await example.run(tmp_path, **settings)
        await stack.enter_async_context(ended_after(receiver))
        await platform.outage("503")
        await session.post("/v1/orders", json=late)
        await daemon.logged("order.undecided")
        await platform.recover()
        await session.post("/v1/notify", json={"parking_order": numbers[0]})
        await daemon.logged("order.final")
        await session.post("/v1/orders", json=others)
        sent = await daemon.logged("delivery.sent", 4)
        await receiver.until(lambda: len(receiver.lines) >= 2)
        assert sorted(receiver.lines) == [
            "lane 0: no result yet, the site's own rule decides\n",
            "lane 1: barrier open\n",
        ]
        assert await forged(url) == [401, 401]
        await receiver.kill()
        again = await example.run(tmp_path, **settings)
        await stack.enter_async_context(ended_after(again))
        for notice in sent:
            async with session.post(f"/v1/deliveries/{notice['event_id']}/retry") as answer:
                assert answer.status == 202
        await daemon.logged("delivery.sent", 8)
        spoil_storage(tmp_path)
        await session.post("/v1/orders", json={"pay_partner": "paid-after-0-queries-4", "metadata": {"lane": "4"}})
        await daemon.logged("delivery.failed")
        assert again.lines == []


def spoil_storage(folder: Path) -> None:
    """Take away where the receiver of the folder keeps notices."""
    inbox = folder / "inbox"
    if inbox.exists():
        inbox.rename(folder / "gone")
        inbox.touch()
    else:
        with closing(sqlite3.connect(folder / "books.db")) as books:
            books.execute("DROP TABLE notice")


async def forged(url: str) -> list[int]:
    """What the receiver says to a notice without a signature, and to one with a wrong one."""
    body = json.dumps({"type": "payment.paid", "data": {"metadata": {"lane": "9"}}})
    headers = {"webhook-id": "evt_1", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"}
    statuses = []
    async with aiohttp.ClientSession() as session:
        for given in ({}, headers):
            async with session.post(url, data=body, headers=given) as answer:
                statuses.append(answer.status)
    return statuses


async def test_a_forwarded_callback_has_its_order_asked_about_at_once(
    tmp_path: Path, platform: SimulatedPlatform
) -> None:
    CALLBACK.skip_unless_runnable()
    site = Site.make(tmp_path / "site", platform.url, None, initial_delay_seconds=600)
    async with site.running() as daemon, site.session() as session:
        await session.post("/v1/orders", json={"pay_partner": "paid-after-0-queries-1"})
        callback = {"park_uuid": PARK, "parking_order": "paid-after-0-queries-1", "value": 500}
        (tmp_path / "callback.json").write_text(json.dumps(callback))
        (tmp_path / CALLBACK.file).write_text(text_of(CALLBACK.file))
        command = f"sh {CALLBACK.file} <callback.json"
        forwarding = await Process.launch("sh", "-c", command, env=environment(POLLER=site.url), cwd=tmp_path)
        code, printed = await outcome(forwarding)
        assert code == 0
        assert json.loads(printed)["orders"][0]["pay_partner"] == "paid-after-0-queries-1"
        await daemon.logged("order.final")


def _unavailable() -> bytes:
    body = json.dumps({"status": 503, "detail": "not on disk, try again"}).encode()
    head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
