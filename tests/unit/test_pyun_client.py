"""What the failures of an exchange come to, and what of a client needs no server."""

import socket
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.http_exceptions import HttpProcessingError

from poller.core.orders import OrderKey
from poller.core.replies import Cause, Result, Unavailable, Unclear
from poller.outgoing import Failure, failure_of
from poller.pyun import Lot, PyunPlatform
from poller.pyun.exchange import Exchange, Response

ENDPOINT = "https://platform.example/gate/1.0/parking/internal/payment"
SECRET = "planted-secret"
KEY = OrderKey("49f0cc52-e8c7-41e3-b54d-af666b8cc11a", "111112")
WHERE = ConnectionKey("platform.example", 443, True, True, None, None, None)


@pytest.fixture
async def platform() -> AsyncIterator[PyunPlatform]:
    platform = PyunPlatform(ENDPOINT, {KEY.park_uuid: Lot(SECRET)}, timeout=1.0)
    yield platform
    await platform.close()


def let_every_exchange_raise(error: Exception, patch: pytest.MonkeyPatch) -> None:
    async def get(self: Exchange, query: str, cap: int, seconds: float) -> Response:
        raise error

    patch.setattr("poller.pyun.exchange.Exchange.get", get)


async def test_closing_it_unused_or_twice_is_harmless() -> None:
    platform = PyunPlatform(ENDPOINT, {}, timeout=1.0)
    await platform.close()
    await platform.close()


def test_a_secret_is_in_no_repr() -> None:
    lot = Lot(SECRET, "op1234567723122")
    platform = PyunPlatform(ENDPOINT, {"full": lot}, timeout=1.0)
    assert SECRET not in repr(lot) + repr(platform) + repr(vars(platform))
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
                aiohttp.ServerDisconnectedError(ENDPOINT),
                aiohttp.ClientOSError(104, ENDPOINT),
                ConnectionResetError(ENDPOINT),
            )
        ),
        *(
            (error, Unclear("the body of the reply was broken off or garbled"))
            for error in (aiohttp.ClientPayloadError(ENDPOINT), HttpProcessingError(message=ENDPOINT))
        ),
        (aiohttp.ClientError(ENDPOINT), Unclear("the reply was not valid HTTP")),
    ],
)
async def test_a_failure_is_a_result_whose_text_holds_nothing_of_the_url(
    platform: PyunPlatform, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: Result
) -> None:
    let_every_exchange_raise(error, monkeypatch)
    assert await platform.query(KEY) == expected
    assert "platform.example" not in repr(expected)


async def test_a_defect_is_no_result(platform: PyunPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    let_every_exchange_raise(AssertionError("a defect"), monkeypatch)
    with pytest.raises(AssertionError, match="a defect"):
        await platform.query(KEY)


def test_a_host_name_of_impossible_labels_cannot_be_reached() -> None:
    assert failure_of(UnicodeError("label too long"))[0] is Failure.UNREACHABLE
