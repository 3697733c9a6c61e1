"""What a notice's request has and what its answers come to, without a socket."""

import base64
import hashlib
import hmac
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta, timezone

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import HttpProcessingError
from aioresponses import aioresponses
from yarl import URL

from poller import __version__
from poller.core.delivery import Gone, NotReceived, Received, ReceiverAnswer
from poller.webhook import WebhookReceiver

HOST = "gate.example"
URL_KEY = "planted-key"
ENDPOINT = f"https://{HOST}/payments?key={URL_KEY}"
ELSEWHERE = "https://elsewhere.example/"
ANY = re.compile("https://")
KEY = b"planted secret of the webhook"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BODY = '{"type":"payment.paid","data":{"plate":"粤B660PP"}}'
NOW = datetime(2026, 11, 24, 8, 0, 0, 999_999, tzinfo=UTC)
WHERE = ConnectionKey(HOST, 443, True, True, None, None, None)


class StillClock:
    """Only the wall clock is looked at, and it stands."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def monotonic(self) -> float:
        raise AssertionError

    def wall(self) -> datetime:
        return self.now

    def jitter(self) -> float:
        raise AssertionError

    def new_event_id(self) -> str:
        raise AssertionError


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    receiver = WebhookReceiver(ENDPOINT, SECRET, timeout=5.0, clock=StillClock())
    yield receiver
    await receiver.close()


@pytest.fixture
def web() -> Iterator[aioresponses]:
    with aioresponses() as web:
        yield web


def signature(key: bytes, event_id: str, seconds: int, body: str) -> str:
    """As Standard Webhooks 1.0 has it: an HMAC-SHA256 of id, timestamp and body, in base64 after `v1,`."""
    signed = f"{event_id}.{seconds}.{body}".encode()
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


# What a request has.


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=8))])
async def test_a_notice_is_one_signed_post_of_the_body_to_the_url(web: aioresponses, zone: timezone) -> None:
    web.post(ANY)
    receiver = WebhookReceiver(ENDPOINT, SECRET, timeout=5.0, clock=StillClock(NOW.astimezone(zone)))
    assert await receiver.send("evt_1", BODY) == Received(200)
    await receiver.close()
    (((method, url), (call,)),) = web.requests.items()
    assert (method, url) == ("POST", URL(ENDPOINT))
    assert call.kwargs["data"] == BODY.encode()
    seconds = int(NOW.timestamp())
    assert dict(call.kwargs["headers"]) == {
        "User-Agent": f"poller/{__version__}",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "webhook-id": "evt_1",
        "webhook-timestamp": str(seconds),
        "webhook-signature": signature(KEY, "evt_1", seconds, BODY),
    }


async def test_redirects_are_not_to_be_followed_and_time_is_bounded_in_all_and_not_rounded_up(
    receiver: WebhookReceiver, web: aioresponses
) -> None:
    web.post(ANY)
    await receiver.send("evt_1", BODY)
    (((_, _), (call,)),) = web.requests.items()
    assert call.kwargs["allow_redirects"] is False
    assert call.kwargs["timeout"].total == 5.0
    assert call.kwargs["timeout"].ceil_threshold > 5.0


async def test_url_secret_and_timeout_can_be_replaced_while_it_runs(
    receiver: WebhookReceiver, web: aioresponses
) -> None:
    web.post(ANY, repeat=True)
    await receiver.send("evt_1", BODY)
    receiver.configure(ELSEWHERE, base64.b64encode(b"another").decode(), timeout=7.0)
    await receiver.send("evt_2", BODY)
    (_, ((_, url), (call,))) = web.requests.items()
    assert url == URL(ELSEWHERE)
    assert call.kwargs["timeout"].total == 7.0
    sent = call.kwargs["headers"]["webhook-signature"]
    assert sent == signature(b"another", "evt_2", int(NOW.timestamp()), BODY)


# What the answers come to.


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {}, Received(200)),
        (204, {"Retry-After": "7"}, Received(204)),
        (299, {}, Received(299)),
        (410, {"Retry-After": "7"}, Gone()),
        (199, {}, NotReceived("HTTP status 199", 199)),
        (300, {}, NotReceived("HTTP status 300", 300)),
        (302, {"Location": ELSEWHERE}, NotReceived("HTTP status 302", 302)),
        (308, {"Location": ELSEWHERE}, NotReceived("HTTP status 308", 308)),
        (404, {}, NotReceived("HTTP status 404", 404)),
        (429, {"Retry-After": "7"}, NotReceived("HTTP status 429", 429, 7.0)),
        (503, {"Retry-After": "Tue, 24 Nov 2026 08:00:10 GMT"}, NotReceived("HTTP status 503", 503, 9.000001)),
        (
            503,
            {"Retry-After": "Tue, 24 Nov 2026 08:00:10 GMT", "Date": "Tue, 24 Nov 2026 07:59:50 GMT"},
            NotReceived("HTTP status 503", 503, 20.0),
        ),
    ],
)
@pytest.mark.parametrize("body", ["", "x" * 4096, "x" * 4097])
async def test_the_status_decides_whatever_the_body_and_another_place_is_never_asked(
    receiver: WebhookReceiver,
    web: aioresponses,
    *,
    status: int,
    headers: dict[str, str],
    expected: ReceiverAnswer,
    body: str,
) -> None:
    web.post(ANY, status=status, headers=headers, body=body)
    assert await receiver.send("evt_1", BODY) == expected
    assert list(web.requests) == [("POST", URL(ENDPOINT))]


def expired() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, f"certificate verify failed: {HOST}")
    error.verify_message = "certificate has expired"
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(ENDPOINT), "no whole reply in time"),
        (aiohttp.ConnectionTimeoutError(ENDPOINT), "no whole reply in time"),
        (
            aiohttp.ClientConnectorDNSError(WHERE, socket.gaierror(-2, "Name or service not known")),
            "the host name could not be resolved",
        ),
        (UnicodeError(f"label too long: {HOST}"), "the host name could not be resolved"),
        (
            aiohttp.ClientConnectorError(WHERE, ConnectionRefusedError(111, f"Connect call failed {HOST}")),
            "no connection: Connection refused",
        ),
        (
            aiohttp.ClientConnectorCertificateError(WHERE, expired()),
            "the certificate is not believed: certificate has expired; or the clock of this machine is wrong",
        ),
        (
            aiohttp.ClientConnectorSSLError(WHERE, ssl.SSLError(1, f"[SSL: X] {HOST}")),
            "TLS failed: handshake failed; or the clock of this machine is wrong",
        ),
        *(
            (error, "the connection broke before the reply was there")
            for error in (
                aiohttp.ServerDisconnectedError(ENDPOINT),
                aiohttp.ClientOSError(104, ENDPOINT),
                ConnectionResetError(ENDPOINT),
            )
        ),
        *(
            (error, "the body of the reply was broken off or garbled")
            for error in (aiohttp.ClientPayloadError(ENDPOINT), HttpProcessingError(message=ENDPOINT))
        ),
        (
            aiohttp.ClientResponseError(
                aiohttp.RequestInfo(URL(ENDPOINT), "POST", {}, URL(ENDPOINT)),  # type: ignore[arg-type]
                (),
                message=ENDPOINT,
            ),
            "the reply was not valid HTTP",
        ),
    ],
)
async def test_a_failure_is_a_notice_not_received_whose_text_holds_nothing_of_the_url(
    receiver: WebhookReceiver, web: aioresponses, error: Exception, text: str
) -> None:
    web.post(ANY, exception=error)
    answer = await receiver.send("evt_1", BODY)
    assert answer == NotReceived(text)
    assert HOST not in repr(answer)
    assert URL_KEY not in repr(answer)
    assert [len(calls) for calls in web.requests.values()] == [1]


async def test_a_defect_is_no_answer(receiver: WebhookReceiver, web: aioresponses) -> None:
    web.post(ANY, exception=AssertionError("a defect"))
    with pytest.raises(AssertionError, match="a defect"):
        await receiver.send("evt_1", BODY)


async def test_closing_it_unused_or_twice_is_harmless() -> None:
    receiver = WebhookReceiver(ENDPOINT, SECRET, timeout=1.0, clock=StillClock())
    await receiver.close()
    await receiver.close()


async def test_a_secret_is_in_no_repr(receiver: WebhookReceiver, web: aioresponses) -> None:
    web.post(ANY, status=500)
    answer = await receiver.send("evt_1", BODY)
    shown = repr(receiver) + repr(vars(receiver)) + repr(answer)
    for secret in (SECRET, SECRET.removeprefix("whsec_"), KEY.decode()):
        assert secret not in shown
    assert URL_KEY not in repr(receiver) + repr(answer)
