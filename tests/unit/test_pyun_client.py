"""What a query sends and what its answers come to, without a socket."""

import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aioresponses import aioresponses
from yarl import URL

from poller.core.orders import OrderKey
from poller.core.replies import Cause, InProgress, Payment, Rejected, Reply, Result, Settled, Unavailable, Unclear
from poller.core.signing import sign
from poller.outgoing import BrokenConnectionError, Failure, failure_of
from poller.pyun import Lot, PyunPlatform

ENDPOINT = "https://platform.example/gate/1.0/parking/internal/payment"
ANY = re.compile(re.escape(ENDPOINT))
SECRET = "planted-secret"
KEY = OrderKey("49f0cc52-e8c7-41e3-b54d-af666b8cc11a", "111112")
FULL = OrderKey("full", "粤B660PP +&=%")
WHERE = ConnectionKey("platform.example", 443, True, True, None, None, None)


@pytest.fixture
async def platform() -> AsyncIterator[PyunPlatform]:
    lots = {KEY.park_uuid: Lot(SECRET), "full": Lot(SECRET, "op1234567723122", "api-debug")}
    platform = PyunPlatform(ENDPOINT, lots, timeout=1.0)
    yield platform
    await platform.close()


@pytest.fixture
def web() -> Iterator[aioresponses]:
    with aioresponses() as web:
        yield web


async def test_a_query_is_a_get_to_the_endpoint_with_the_lots_parameters_and_their_sign(
    platform: PyunPlatform, web: aioresponses
) -> None:
    web.get(ANY, payload={"code": "1001", "status": "0"})
    assert await platform.query(KEY) == InProgress(Reply("1001", status="0"))
    ((method, url),) = web.requests
    signed = {"park_uuid": KEY.park_uuid, "pay_partner": KEY.pay_partner}
    assert method == "GET"
    assert url.with_query(None) == URL(ENDPOINT)
    assert dict(url.query) == {**signed, "sign": sign(signed.items(), SECRET)}


async def test_app_id_and_api_type_are_sent_and_signed_where_the_lot_has_them(
    platform: PyunPlatform, web: aioresponses
) -> None:
    web.get(ANY, payload={"code": "1001", "status": "0"})
    await platform.query(FULL)
    ((_, url),) = web.requests
    signed = {
        "park_uuid": "full",
        "pay_partner": "粤B660PP +&=%",
        "app_id": "op1234567723122",
        "api_type": "api-debug",
    }
    assert dict(url.query) == {**signed, "sign": sign(signed.items(), SECRET)}


async def test_redirects_are_not_to_be_followed_and_time_is_bounded_in_all(
    platform: PyunPlatform, web: aioresponses
) -> None:
    web.get(ANY, payload={"code": "500"})
    await platform.query(KEY)
    (((_, _), (call,)),) = web.requests.items()
    assert call.kwargs["allow_redirects"] is False
    assert call.kwargs["timeout"].total == 1.0


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
    platform: PyunPlatform, web: aioresponses, status: int, body: str, expected: Result
) -> None:
    web.get(ANY, status=status, body=body, headers={"Retry-After": "7", "Location": "https://elsewhere.example/"})
    assert await platform.query(KEY) == expected


async def test_a_body_of_exactly_the_cap_is_read(platform: PyunPlatform, web: aioresponses) -> None:
    body = '{"code":"1001","status":"1"}'
    web.get(ANY, body=body + " " * (65_536 - len(body)))
    assert await platform.query(KEY) == Settled(True, Reply("1001", status="1"))


async def test_lots_can_be_replaced_while_it_runs(platform: PyunPlatform, web: aioresponses) -> None:
    assert platform.knows("full")
    platform.configure({"new": Lot("other-secret")}, timeout=3.0)
    assert platform.knows("new")
    assert not platform.knows("full")
    assert await platform.query(FULL) == Unclear("the lot is not configured any more")
    assert not web.requests
    web.get(ANY, payload={"code": "400"})
    assert isinstance(await platform.query(OrderKey("new", "1")), Rejected)
    (((_, url), (call,)),) = web.requests.items()
    assert url.query["sign"] == sign([("park_uuid", "new"), ("pay_partner", "1")], "other-secret")
    assert call.kwargs["timeout"].total == 3.0


async def test_closing_it_unused_or_twice_is_harmless() -> None:
    platform = PyunPlatform(ENDPOINT, {}, timeout=1.0)
    await platform.close()
    await platform.close()


def test_a_secret_is_in_no_repr() -> None:
    lot = Lot(SECRET, "op1234567723122")
    platform = PyunPlatform(ENDPOINT, {"full": lot}, timeout=1.0)
    assert SECRET not in repr(lot) + repr(platform)
    assert "op1234567723122" in repr(lot)


def expired() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "certificate has expired"
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), Unavailable(Cause.TIMEOUT, "no whole reply in time")),
        (aiohttp.ConnectionTimeoutError(ENDPOINT), Unavailable(Cause.TIMEOUT, "no whole reply in time")),
        (
            aiohttp.ClientConnectorDNSError(WHERE, socket.gaierror(-2, "Name or service not known")),
            Unavailable(Cause.UNREACHABLE, "the host name could not be resolved"),
        ),
        (
            aiohttp.ClientConnectorError(WHERE, ConnectionRefusedError(111, "Connect call failed")),
            Unavailable(Cause.UNREACHABLE, "no connection: Connection refused"),
        ),
        (
            aiohttp.ClientConnectorCertificateError(WHERE, expired()),
            Unavailable(
                Cause.TLS,
                "the certificate is not believed: certificate has expired; or the clock of this machine is wrong",
            ),
        ),
        (
            aiohttp.ClientConnectorSSLError(WHERE, ssl.SSLError(1, "[SSL: X] x")),
            Unavailable(Cause.TLS, "TLS failed: handshake failed; or the clock of this machine is wrong"),
        ),
        *(
            (error, Unavailable(Cause.UNREACHABLE, "the connection broke before the reply was there"))
            for error in (
                BrokenConnectionError(),
                aiohttp.ServerDisconnectedError(),
                aiohttp.ClientOSError(104, "reset"),
                ConnectionResetError(),
            )
        ),
        (aiohttp.ClientPayloadError(ENDPOINT), Unclear("the body of the reply was broken off or garbled")),
        (
            aiohttp.ClientResponseError(aiohttp.RequestInfo(URL(ENDPOINT), "GET", {}, URL(ENDPOINT)), ()),  # type: ignore[arg-type]
            Unclear("the reply was not valid HTTP"),
        ),
    ],
)
async def test_a_failure_is_a_result_whose_text_holds_nothing_of_the_url(
    platform: PyunPlatform, web: aioresponses, error: Exception, expected: Result
) -> None:
    web.get(ANY, exception=error)
    assert await platform.query(KEY) == expected
    assert "platform.example" not in repr(expected)


async def test_a_defect_is_no_result(platform: PyunPlatform, web: aioresponses) -> None:
    web.get(ANY, exception=AssertionError("a defect"))
    with pytest.raises(AssertionError, match="a defect"):
        await platform.query(KEY)


def test_a_host_name_of_impossible_labels_cannot_be_reached() -> None:
    assert failure_of(UnicodeError("label too long"))[0] is Failure.UNREACHABLE
