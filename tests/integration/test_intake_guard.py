"""The intake over a real socket: whom it keeps out, what it bounds, and how it stops."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from poller import intake
from poller.core.orders import NewOrder, OrderKey
from poller.intake import Intake, Limits
from tests.integration.desk_in_memory import DeskInMemory

TOKEN = "a-token-of-the-lot"
ORDER = b'{"pay_partner":"1"}'


@asynccontextmanager
async def opened(desk: DeskInMemory | None = None, **options: Any) -> AsyncIterator[Intake]:
    door = await intake.start(desk or DeskInMemory(), host="127.0.0.1", port=0, **options)
    try:
        yield door
    finally:
        await door.stop()


async def status(
    door: Intake, method: str, path: str, headers: dict[str, str] | None = None, data: Any = None
) -> int:
    url = f"http://127.0.0.1:{door.address[1]}{path}"
    async with aiohttp.request(method, url, headers=headers, data=data) as response:
        body = await response.read()
        if response.status >= 400:
            assert response.headers["Content-Type"] == "application/problem+json"
            assert json.loads(body)["detail"]
        return response.status


async def until_status(door: Intake, wanted: int) -> None:
    while await status(door, "GET", "/healthz") != wanted:
        pass


class Raw:
    """A connection of bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of one answer with a Content-Length."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length"))
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def ends(self) -> bool:
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def raw(door: Intake) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection("127.0.0.1", door.address[1])
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


def post(body: bytes = ORDER, *, length: int | None = None, more: bytes = b"") -> bytes:
    head = b"POST /v1/orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head + more + b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body


async def test_without_the_token_nothing_but_the_open_paths_is_served() -> None:
    async with opened(token=TOKEN) as door:
        for path in ("/v1/orders", "/v1/events", "/v1/deliveries", "/v1/orders/lot-1/1", "/nothing"):
            assert await status(door, "GET", path) == 401
            for wrong in ("Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer \u00e9"):
                assert await status(door, "GET", path, {"Authorization": wrong}) == 401
        for path in ("/healthz", "/readyz", "/openapi.json"):
            assert await status(door, "GET", path) == 200
        assert await status(door, "GET", "/v1/orders", {"Authorization": f"Bearer {TOKEN}"}) == 200
        assert await status(door, "GET", "/v1/orders", {"Authorization": f"bearer {TOKEN}"}) == 200


async def test_a_refusal_says_how_to_authenticate_and_never_the_token() -> None:
    async with opened(token=TOKEN) as door, raw(door) as client:
        client.writer.write(b"GET /v1/orders HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await client.reader.readuntil(b"\r\n\r\n")
        assert b"WWW-Authenticate: Bearer\r\n" in head
        assert TOKEN not in repr(door)


async def test_a_token_can_be_changed_while_the_intake_runs() -> None:
    async with opened(token=TOKEN) as door:
        door.set_token("another")
        assert await status(door, "GET", "/v1/orders", {"Authorization": f"Bearer {TOKEN}"}) == 401
        assert await status(door, "GET", "/v1/orders", {"Authorization": "Bearer another"}) == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:8710", 200),
        ("127.0.0.1", 200),
        ("[::1]:8710", 200),
        ("192.168.1.20:8710", 200),
        ("LocalHost:8710", 200),
        (socket.gethostname(), 200),
        ("rebound.example:8710", 403),
        ("localhost.rebound.example", 403),
        ("127.0.0.1.rebound.example", 403),
        ("127.0.0.1:8710:1", 403),
        ("user@127.0.0.1", 403),
        ("", 403),
    ],
)
async def test_only_names_of_this_machine_are_answered_to(host: str, expected: int) -> None:
    async with opened() as door:
        assert await status(door, "GET", "/v1/orders", {"Host": host}) == expected
        assert await status(door, "GET", "/healthz", {"Host": host}) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Origin": "http://localhost:8710"}, 200),
        ({"Origin": "http://localhost"}, 403),
        ({"Origin": "https://localhost:8710"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_pages_of_other_sites_are_refused(headers: dict[str, str], expected: int) -> None:
    desk = DeskInMemory()
    await desk.submit([NewOrder(OrderKey("lot-1", "1"))])
    async with opened(desk) as door:
        sent = {"Host": "localhost:8710", **headers}
        assert await status(door, "GET", "/v1/orders", sent) == expected
        assert await status(door, "POST", "/v1/orders/lot-1/1/cancel", sent) == expected


async def test_writes_take_json_alone() -> None:
    desk = DeskInMemory()
    async with opened(desk) as door:
        for path in ("/v1/orders", "/v1/notify", "/v1/orders/lot-1/1/cancel", "/v1/deliveries/evt-1/retry"):
            for content_type in ("text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""):
                assert await status(door, "POST", path, {"Content-Type": content_type}, ORDER) == 415
            for content_type in ("text/plain; charset=utf-8", "multipart/form-data"):
                assert await status(door, "POST", path, {"Content-Type": content_type}) == 415
        coded = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        assert await status(door, "POST", "/v1/orders", coded, ORDER) == 415
        assert desk.taken == {}
        charset = {"Content-Type": "Application/JSON; charset=utf-8"}
        assert await status(door, "POST", "/v1/orders", charset, ORDER) == 201
        async with raw(door) as client:
            client.writer.write(b"POST /v1/orders/lot-1/1/cancel HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await client.answer())[0] == 200


async def test_a_body_beyond_the_limit_is_413_however_it_is_sent() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 1024 * 1024

    headers = {"Content-Type": "application/json"}
    async with opened() as door:
        assert await status(door, "POST", "/v1/orders", headers, io.BytesIO(b" " * (10 * 1024 * 1024 + 1))) == 413
        assert await status(door, "POST", "/v1/orders", headers, chunks()) == 413
        assert await status(door, "POST", "/v1/orders", headers, io.BytesIO(ORDER + b" " * 4_000_000)) == 201


async def test_bytes_that_are_not_http_are_a_problem_too() -> None:
    async with opened() as door:
        for bytes_ in (
            b"\x16\x03\x01\x02\x00\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n",
        ):
            async with raw(door) as client:
                client.writer.write(bytes_)
                code, body = await client.answer()
                assert (code, json.loads(body)["status"]) == (400, 400)


async def test_a_continuation_is_granted_and_other_expectations_are_not() -> None:
    async with opened() as door, raw(door) as client:
        client.writer.write(post(b"", length=len(ORDER), more=b"Expect: 100-continue\r\n"))
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(ORDER)
        assert (await client.answer())[0] == 201
        client.writer.write(post(more=b"Expect: a-miracle\r\n"))
        assert (await client.answer())[0] == 417


@pytest.mark.parametrize("sent", [b"G", b"GET /v1/orders HTTP/1.1\r\nHost: localh", post(b"", length=100)])
async def test_a_request_that_drips_in_is_cut_with_408(sent: bytes) -> None:
    async with opened(limits=Limits(request_seconds=0.05, linger_seconds=0.05)) as door, raw(door) as client:
        client.writer.write(sent)
        code, body = await client.answer()
        assert (code, json.loads(body)["status"]) == (408, 408)
        assert await client.ends()


async def test_a_connection_is_kept_for_the_next_request_and_closed_when_idle() -> None:
    async with opened(limits=Limits(idle_seconds=0.05, request_seconds=5)) as door, raw(door) as client:
        for _ in range(3):
            client.writer.write(post())
            assert (await client.answer())[0] in {200, 201}
        assert await client.ends()


async def test_a_connection_too_many_is_refused_until_one_ends() -> None:
    async with opened(limits=Limits(connections=1)) as door:
        async with raw(door) as first:
            first.writer.write(post())
            assert (await first.answer())[0] == 201
            async with raw(door) as second:
                assert (await second.answer())[0] == 503
                assert await second.ends()
            first.writer.write(post())
            assert (await first.answer())[0] == 200
        await until_status(door, 200)


async def test_a_client_that_reads_nothing_is_cut_off() -> None:
    desk = DeskInMemory()
    filler = {"lane": "x" * 2000}
    await desk.submit([NewOrder(OrderKey("lot-1", str(number)), filler) for number in range(1000)])
    async with opened(desk, limits=Limits(connections=1, stalled_seconds=0.05)) as door:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", door.address[1]))
            client.sendall(b"GET /v1/orders?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 4)
            await until_status(door, 503)  # the only place is taken
            await until_status(door, 200)  # and free again


async def test_stopping_ends_long_polls_with_the_order_as_it_stands() -> None:
    desk = DeskInMemory()
    await desk.submit([NewOrder(OrderKey("lot-1", "1"))])
    async with opened(desk) as door, raw(door) as client, raw(door) as idle, raw(door) as slow:
        client.writer.write(b"GET /v1/orders/lot-1/1?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await desk.waiting.wait()
        idle.writer.write(post())
        await idle.answer()
        slow.writer.write(post(b"", length=100, more=b"Expect: 100-continue\r\n"))
        await slow.reader.readuntil(b"\r\n\r\n")
        await door.stop()
        code, body = await client.answer()
        assert (code, json.loads(body)["state"]) == (200, "pending")
        assert (await slow.answer())[0] == 503
        assert await idle.ends()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", door.address[1])
        await door.stop()


async def test_a_client_that_goes_ends_its_long_poll() -> None:
    desk = DeskInMemory()
    await desk.submit([NewOrder(OrderKey("lot-1", "1"))])
    before = asyncio.all_tasks()
    async with opened(desk) as door:
        async with raw(door) as client:
            client.writer.write(b"GET /v1/orders/lot-1/1?wait=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await desk.waiting.wait()
        while asyncio.all_tasks() != before:
            await until_status(door, 200)


async def test_a_port_that_is_taken_is_an_error() -> None:
    async with opened() as door:
        with pytest.raises(OSError, match="in use"):
            await intake.start(DeskInMemory(), host="127.0.0.1", port=int(door.address[1]))


async def test_a_socket_file_serves_its_group_and_goes_with_the_intake(tmp_path: Path) -> None:
    path = tmp_path / "poller.sock"
    door = await intake.start(DeskInMemory(), unix_path=str(path))
    assert door.address == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        async with session.post("http://poller/v1/orders", json={"pay_partner": "1"}) as response:
            assert response.status == 201
        async with session.get("http://poller/v1/orders", headers={"Origin": "http://evil.example"}) as response:
            assert response.status == 403
    await door.stop()
    assert not path.exists()


async def test_a_socket_file_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "poller.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    door = await intake.start(DeskInMemory(), unix_path=str(path))
    await door.stop()


async def test_a_socket_file_that_another_process_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "poller.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        inode = path.stat().st_ino
        with pytest.raises(OSError, match="another process listens"):
            await intake.start(DeskInMemory(), unix_path=str(path))
        assert path.stat().st_ino == inode


async def test_a_plain_file_in_the_place_of_the_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "poller.sock"
    path.write_text("data")
    with pytest.raises(OSError, match="in use"):
        await intake.start(DeskInMemory(), unix_path=str(path))
    assert path.read_text() == "data"
