"""Notices to a receiver over a real socket: what is sent, and what the answers mean."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from poller import __version__
from poller.core.delivery import Gone, NotReceived, Received, ReceiverAnswer
from poller.webhook import WebhookReceiver

KEY = bytes(range(24))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BODY = '{"type":"payment.paid","data":{"plate":"粤B660PP"}}'
SHORT_S = 0.3

Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class WallClock:
    """Only the wall clock is looked at; it may stand anywhere."""

    def __init__(self, now: datetime | None = None) -> None:
        self.now = now or datetime.now(UTC)

    def monotonic(self) -> float:
        raise AssertionError

    def wall(self) -> datetime:
        return self.now

    def jitter(self) -> float:
        raise AssertionError

    def new_event_id(self) -> str:
        raise AssertionError


class Gate:
    """A lot's webhook that answers as told and keeps what it got."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.answer = (status, headers, body)
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.connections: set[object] = set()
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, headers, await request.read()))
        self.connections.add(request.transport)
        status, answered, body = self.answer
        return web.Response(status=status, headers=answered, body=body)


@asynccontextmanager
async def gate(status: int = 200, headers: dict[str, str] | None = None, body: bytes = b"") -> AsyncIterator[Gate]:
    gate = Gate(status, headers or {}, body)
    app = web.Application()
    app.router.add_route("*", "/payments", gate.handle)
    async with TestServer(app) as server:
        gate.url = str(server.make_url("/payments"))
        yield gate


@asynccontextmanager
async def receiver(
    url: str, secret: str = SECRET, timeout: float = 10.0, now: datetime | None = None
) -> AsyncIterator[WebhookReceiver]:
    receiver = WebhookReceiver(url, secret, timeout=timeout, clock=WallClock(now))
    try:
        yield receiver
    finally:
        await receiver.close()


async def answered(
    status: int, headers: dict[str, str] | None = None, now: datetime | None = None
) -> ReceiverAnswer:
    async with gate(status, headers, b"thanks") as lot, receiver(lot.url, now=now) as to_gate:
        answer = await to_gate.send("evt_1", BODY)
        assert len(lot.requests) == 1
        return answer


@asynccontextmanager
async def serving(serve: Raw) -> AsyncIterator[str]:
    async def until_done(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(until_done, "127.0.0.1", 0)
    async with listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/payments?key=planted-secret"


async def answer_of(serve: Raw, timeout: float = 10.0) -> ReceiverAnswer:
    async with serving(serve) as url, receiver(url, timeout=timeout) as to_gate:
        answer = await to_gate.send("evt_1", BODY)
        assert "planted-secret" not in repr(answer)
        return answer


async def until_hung_up(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


# What is sent.


@pytest.mark.parametrize("secret", [SECRET, SECRET.removeprefix("whsec_")])
async def test_a_notice_is_posted_byte_for_byte_and_verifies_with_the_shared_secret(secret: str) -> None:
    async with gate() as lot, receiver(lot.url, secret) as to_gate:
        assert await to_gate.send("evt_1", BODY) == Received(200)
    ((method, headers, body),) = lot.requests
    assert method == "POST"
    assert body == BODY.encode()
    assert Webhook(SECRET).verify(body, headers) == json.loads(BODY)
    assert headers["webhook-id"] == "evt_1"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"] == f"poller/{__version__}"


async def test_another_body_or_another_secret_does_not_verify() -> None:
    async with gate() as lot, receiver(lot.url) as to_gate:
        await to_gate.send("evt_1", BODY)
    ((_, headers, body),) = lot.requests
    for secret, text in [(SECRET, body + b" "), (base64.b64encode(b"other").decode(), body)]:
        with pytest.raises(Exception, match="No matching signature"):
            Webhook(secret).verify(text, headers)


@pytest.mark.parametrize(
    "now", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2038, 1, 20, 1, 2, 3, 999_999, tzinfo=UTC)]
)
async def test_the_timestamp_is_the_wall_clocks_whole_second_wherever_that_stands(now: datetime) -> None:
    async with gate() as lot, receiver(lot.url, now=now) as to_gate:
        await to_gate.send("evt_1", BODY)
    ((_, headers, _),) = lot.requests
    assert headers["webhook-timestamp"] == str(int(now.timestamp()))
    assert headers["webhook-signature"] == Webhook(SECRET).sign("evt_1", now, BODY)


async def test_a_second_notice_uses_the_same_connection_and_its_own_id() -> None:
    async with gate(body=b"thanks") as lot, receiver(lot.url) as to_gate:
        for event_id in ("evt_1", "evt_2"):
            await to_gate.send(event_id, BODY)
    assert [headers["webhook-id"] for _, headers, _ in lot.requests] == ["evt_1", "evt_2"]
    assert len(lot.connections) == 1


@pytest.mark.parametrize("secret", ["", "whsec_", "not base64!", "whsec_a"])
def test_a_secret_that_is_not_base64_or_empty_is_refused_without_telling_it(secret: str) -> None:
    with pytest.raises(ValueError, match="secret is empty or not base64") as caught:
        WebhookReceiver("http://127.0.0.1:1/", secret, timeout=1.0, clock=WallClock())
    assert "not base64!" not in str(caught.value)


async def test_url_and_secret_can_be_replaced_while_it_runs() -> None:
    other = base64.b64encode(b"another key of some length").decode()
    async with gate() as old, gate() as new, receiver(old.url) as to_gate:
        await to_gate.send("evt_1", BODY)
        to_gate.configure(new.url, other, timeout=1.0)
        await to_gate.send("evt_2", BODY)
    assert len(old.requests) == 1
    ((_, headers, body),) = new.requests
    assert Webhook(other).verify(body, headers) == json.loads(BODY)


# What the answers mean.


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_received(status: int) -> None:
    assert await answered(status) == Received(status)


async def test_410_is_gone() -> None:
    assert await answered(410) == Gone()


@pytest.mark.parametrize("status", [300, 304, 400, 401, 404, 409, 429, 500, 503])
async def test_any_other_status_is_not_received(status: int) -> None:
    assert await answered(status) == NotReceived(f"HTTP status {status}", status)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed_and_not_received(status: int) -> None:
    async with gate() as elsewhere:
        answer = await answered(status, {"Location": elsewhere.url})
        assert answer == NotReceived(f"HTTP status {status}", status)
        assert elsewhere.requests == []


@pytest.mark.parametrize(
    ("wish", "seconds"),
    [("120", 120.0), ("0", 0.0), ("-3", None), ("soon", None), ("999999999", 3600.0), ("1.5", None)],
)
async def test_retry_after_in_seconds_is_handed_on(wish: str, seconds: float | None) -> None:
    assert await answered(503, {"Retry-After": wish}) == NotReceived("HTTP status 503", 503, seconds)


@pytest.mark.parametrize(("ahead", "seconds"), [(90, 90.0), (-90, 0.0), (86_400, 3600.0)])
async def test_retry_after_as_a_date_is_measured_by_the_receivers_own_clock(ahead: int, seconds: float) -> None:
    theirs = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    form = "%a, %d %b %Y %H:%M:%S GMT"
    headers = {"Date": theirs.strftime(form), "Retry-After": (theirs + timedelta(seconds=ahead)).strftime(form)}
    assert await answered(503, headers, datetime(1970, 1, 1, tzinfo=UTC)) == NotReceived(
        "HTTP status 503", 503, seconds
    )


# Receivers that misbehave.


async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await until_hung_up(reader)


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readexactly(len(BODY.encode()))


async def drip_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def not_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await until_hung_up(reader)


@pytest.mark.parametrize("serve", [never_answer, drip_headers])
async def test_however_slowly_an_answer_comes_the_timeout_bounds_the_whole_try(serve: Raw) -> None:
    assert await answer_of(serve, SHORT_S) == NotReceived("no whole reply in time")


@pytest.mark.parametrize(
    ("serve", "error"),
    [
        (hang_up, "the connection broke before the reply was there"),
        (not_http, "the reply was not valid HTTP"),
    ],
)
async def test_without_a_status_a_notice_is_not_received(serve: Raw, error: str) -> None:
    assert await answer_of(serve) == NotReceived(error)


async def test_a_refused_connection_is_not_received() -> None:
    async with serving(hang_up) as url:
        pass
    async with receiver(url) as to_gate:
        assert await to_gate.send("evt_1", BODY) == NotReceived("no connection: Connection refused")


@pytest.mark.parametrize(
    ("status", "answer"),
    [("200 OK", Received(200)), ("410 Gone", Gone()), ("500 No", NotReceived("HTTP status 500", 500))],
)
async def test_the_status_decides_though_the_body_hangs(status: str, answer: ReceiverAnswer) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 100\r\n\r\nhalf".encode())
        await until_hung_up(reader)

    assert await answer_of(hang) == answer


async def test_the_status_decides_though_the_body_breaks_off() -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(BODY.encode()))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

    assert await answer_of(break_off) == Received(200)


async def test_a_body_without_end_is_left_unread() -> None:
    sent = 0
    hung_up = asyncio.Event()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        try:
            while sent < 2**30:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536
        finally:
            hung_up.set()

    assert await answer_of(stream) == Received(200)
    await hung_up.wait()
    assert sent < 2**26
