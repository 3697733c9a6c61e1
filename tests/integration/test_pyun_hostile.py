"""The platform's adapter against servers that misbehave, over real sockets."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from poller.core.orders import OrderKey
from poller.core.replies import Cause, Rejected, Reply, Result, Settled, Unavailable, Unclear, error_of
from poller.core.signing import sign
from poller.pyun import Lot, PyunPlatform

SECRET = "planted-secret"
KEY = OrderKey("lot", "111112")
PAID = b'{"code":"1001","status":"1"}'
IS_PAID = Settled(True, Reply("1001", status="1"))
SHORT_S = 0.3
PACE_S = 0.01  # of a server that drips

Answer = Callable[["Visit"], Awaitable[None]]


class Visit:
    """One request as the server sees it; `head` is its text to the empty line."""

    def __init__(self, server: "Server", head: bytes, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.head = head
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, body: bytes, status: str = "200 OK", headers: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        await self.send(head.encode() + body)


class Server:
    """Hands every request to `answer`; keeps the connection unless that ends it."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.visits: list[Visit] = []
        self.connections = 0
        self.hung_up = asyncio.Event()
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while not writer.is_closing():
                visit = Visit(self, await reader.readuntil(b"\r\n\r\n"), writer)
                self.visits.append(visit)
                await self.answer(visit)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            self.hung_up.set()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Server]:
    server = Server(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/gate"
    try:
        yield server
    finally:
        listener.close()
        await server.end()
        await listener.wait_closed()


@asynccontextmanager
async def asking(url: str, timeout: float = 10.0) -> AsyncIterator[PyunPlatform]:
    platform = PyunPlatform(url, {"lot": Lot(SECRET, "op 1")}, timeout=timeout)
    try:
        yield platform
    finally:
        await platform.close()


async def result_of(answer: Answer, timeout: float = 10.0) -> Result:
    """What one query comes to. Whatever it is, it says nothing of the secret and was asked once."""
    async with serving(answer) as server, asking(server.url, timeout) as platform:
        result = await platform.query(KEY)
        assert len(server.visits) == 1
        assert SECRET not in repr(result)
        assert "sign" not in repr(result)
        return result


async def test_the_request_line_is_percent_encoded_to_the_byte_and_carries_nothing_else() -> None:
    number = "粤 B+&=%/?#'\"~"

    async def answer(visit: Visit) -> None:
        await visit.reply(PAID, headers="Set-Cookie: a=b\r\nContent-Type: text/html; charset=nonsense\r\n")

    async with serving(answer) as server, asking(server.url) as platform:
        assert await platform.query(OrderKey("lot", number)) == IS_PAID
        assert await platform.query(KEY) == IS_PAID
    signed = sign([("park_uuid", "lot"), ("pay_partner", number), ("app_id", "op 1")], SECRET)
    line, *headers = server.visits[0].head.decode("ascii").split("\r\n")
    encoded = "%E7%B2%A4%20B%2B%26%3D%25%2F%3F%23%27%22~"
    assert line == f"GET /gate?park_uuid=lot&pay_partner={encoded}&app_id=op%201&sign={signed} HTTP/1.1"
    assert "Accept-Encoding: identity" in headers
    assert b"cookie" not in server.visits[1].head.lower()


async def test_queries_share_a_connection() -> None:
    async def answer(visit: Visit) -> None:
        await visit.reply(PAID)

    async with serving(answer) as server, asking(server.url) as platform:
        for _ in range(5):
            assert await platform.query(KEY) == IS_PAID
    assert (server.connections, len(server.visits)) == (1, 5)


async def test_a_query_on_a_kept_connection_that_breaks_is_not_sent_again() -> None:
    async def answer(visit: Visit) -> None:
        if len(visit.server.visits) == 1:
            await visit.reply(PAID)
        else:
            visit.writer.close()

    async with serving(answer) as server, asking(server.url) as platform:
        assert await platform.query(KEY) == IS_PAID
        assert await platform.query(KEY) == Unavailable(
            Cause.UNREACHABLE, "the connection broke before the reply was there"
        )
        assert (server.connections, len(server.visits)) == (1, 2)


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert await result_of(lambda visit: visit.reply(PAID)) == IS_PAID


# Slow.


async def drip_body(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + PAID)
    while True:
        await visit.send(b" ")
        await asyncio.sleep(PACE_S)


async def drip_headers(visit: Visit) -> None:
    await visit.send(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        await visit.send(b"x")
        await asyncio.sleep(PACE_S)


async def continue_for_ever(visit: Visit) -> None:
    while True:
        await visit.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await asyncio.sleep(PACE_S)


async def never_answer(visit: Visit) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("answer", [drip_body, drip_headers, continue_for_ever, never_answer])
async def test_however_slowly_bytes_come_the_timeout_bounds_the_whole_query(answer: Answer) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await result_of(answer, SHORT_S) == Unavailable(Cause.TIMEOUT, "no whole reply in time")
    assert SHORT_S * 0.9 <= loop.time() - started < 5.0


async def test_a_query_that_is_cancelled_ends_at_once_and_hangs_up() -> None:
    asked = asyncio.Event()

    async def answer(visit: Visit) -> None:
        asked.set()

    async with serving(answer) as server, asking(server.url) as platform:
        query = asyncio.create_task(platform.query(KEY))
        await asked.wait()
        query.cancel()
        with pytest.raises(asyncio.CancelledError):
            await query
        await server.hung_up.wait()


# Big.


@pytest.mark.parametrize(
    "framing", ["Content-Length: 1073741824", "Transfer-Encoding: chunked", "Connection: close"]
)
async def test_a_body_of_a_gigabyte_is_left_unread_past_the_cap(framing: str) -> None:
    sent = 0
    hung_up = asyncio.Event()
    block = b" " * 65536

    async def answer(visit: Visit) -> None:
        nonlocal sent
        chunk = b"10000\r\n" + block + b"\r\n" if "chunked" in framing else block
        try:
            await visit.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode())
            while sent < 2**30:
                await visit.send(chunk)
                sent += len(block)
        finally:
            hung_up.set()

    async with serving(answer) as server, asking(server.url) as platform:
        assert await platform.query(KEY) == Unclear("HTTP status 200, a body of more than 65536 bytes")
        await hung_up.wait()
    assert sent < 2**26  # what socket buffers swallowed


async def test_a_compression_bomb_is_never_unpacked() -> None:
    bomb = gzip.compress(b" " * 10_000_000 + PAID)
    assert len(bomb) < 65536
    result = await result_of(lambda visit: visit.reply(bomb, headers="Content-Encoding: gzip\r\n"))
    assert result == Unclear("HTTP status 200, not one JSON object with a code")


@pytest.mark.parametrize("headers", [f"X: {'x' * 100_000}\r\n", "X: x\r\n" * 10_000])
async def test_headers_without_end_are_refused(headers: str) -> None:
    assert await result_of(lambda visit: visit.reply(PAID, headers=headers)) == Unclear(
        "the reply was not valid HTTP"
    )


# Odd.


async def test_a_redirect_to_another_host_is_not_followed() -> None:
    async with serving(lambda visit: visit.reply(PAID)) as other:
        headers = f"Location: {other.url}\r\n"
        result = await result_of(lambda visit: visit.reply(PAID, "302 Found", headers))
        assert result == Unclear(
            "HTTP status 302 with a body that says 1001 is not believed", Reply("1001", status="1")
        )
        assert other.connections == 0


@pytest.mark.parametrize(
    "body",
    [
        PAID[:-1] + b',"x":"\xff\xfe"}',
        PAID[:-1] + b',"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        PAID[:-1] + b',"status":"1"}',
        b"\xef\xbb\xbf" + PAID,
        b"<html>1001</html>",
        b"",
    ],
)
async def test_a_body_that_is_no_reply_is_not_known_yet(body: bytes) -> None:
    result = await result_of(lambda visit: visit.reply(body))
    assert result == Unclear("HTTP status 200, not one JSON object with a code")


async def test_a_number_too_big_to_count_spoils_nothing() -> None:
    body = PAID[:-1] + b',"time_cost":' + b"9" * 50_000 + b"}"
    assert await result_of(lambda visit: visit.reply(body)) == IS_PAID


async def test_the_reasons_and_headers_of_a_busy_gateway_are_read() -> None:
    headers = "Date: Tue, 24 Nov 2026 08:00:00 GMT\r\nRetry-After: Tue, 24 Nov 2026 08:00:09 GMT\r\n"
    result = await result_of(lambda visit: visit.reply(b"busy", "503 Busy", headers))
    assert result == Unavailable(Cause.BUSY, "HTTP status 503", retry_after=9.0)


async def test_http_500_with_code_400_is_rejected() -> None:
    assert await result_of(lambda visit: visit.reply(b'{"code":400}', "500 Oops")) == Rejected(Reply("400"))


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" + PAID,
        b"HTTP/1.1 200 OK\r\nContent-Length: 28\r\nContent-Length: 2\r\n\r\n" + PAID,
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n" + PAID,
        b"\x16\x03\x01\x00\x00\x00\r\n\r\n",
        b"\r\n" * 100_000 + b"x",
    ],
)
async def test_what_is_not_http_is_not_known_yet(raw: bytes) -> None:
    assert await result_of(lambda visit: visit.send(raw)) == Unclear("the reply was not valid HTTP")


# Broken off.


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nContent-Length: 28\r\n"])
async def test_a_hang_up_before_the_reply_is_an_unreachable_platform_and_is_asked_once(sent: bytes) -> None:
    async def answer(visit: Visit) -> None:
        await visit.send(sent)
        visit.writer.close()

    result = await result_of(answer)
    assert result == Unavailable(Cause.UNREACHABLE, "the connection broke before the reply was there")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1c\r\n" + PAID + b"\r\n"


@pytest.mark.parametrize(
    "parts",
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n" + PAID,),
        (CHUNKED,),
        (CHUNKED + b"not hex\r\n",),
        (CHUNKED, b"not hex\r\n"),
    ],
)
async def test_a_body_that_is_broken_off_or_garbled_is_not_known_yet_though_what_came_says_paid(
    parts: tuple[bytes, ...],
) -> None:
    async def answer(visit: Visit) -> None:
        for part in parts:
            await visit.send(part)
            await asyncio.sleep(PACE_S)
        visit.writer.close()

    result = await result_of(answer, SHORT_S)
    assert error_of(result)
    assert result.reply is None


async def test_a_reset_within_the_body_of_a_busy_gateway_leaves_its_status_standing() -> None:
    async def answer(visit: Visit) -> None:
        await visit.send(b"HTTP/1.1 503 Busy\r\nRetry-After: 4\r\nContent-Length: 29\r\n\r\n" + PAID)
        visit.writer.close()

    assert await result_of(answer) == Unavailable(Cause.BUSY, "HTTP status 503", retry_after=4.0)


async def test_a_refused_connection_is_an_unreachable_platform() -> None:
    async with serving(never_answer) as server:
        url = server.url
    async with asking(url) as platform:
        assert await platform.query(KEY) == Unavailable(Cause.UNREACHABLE, "no connection: Connection refused")
