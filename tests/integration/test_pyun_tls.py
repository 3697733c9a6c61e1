"""The platform's adapter and certificates that must not be believed, made here by the openssl command."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from poller.core.orders import OrderKey
from poller.core.replies import Cause, Reply, Settled, Unavailable
from poller.pyun import Lot, PyunPlatform
from tests.integration.certificates import Authority, server_context

KEY = OrderKey("lot", "111112")
PAID = b'{"code":"1001","status":"1"}'


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.found()
    return authority


@asynccontextmanager
async def serving(context: ssl.SSLContext, seen: list[bytes]) -> AsyncIterator[str]:
    """An HTTPS server on localhost that says paid; `seen` are the requests that got through."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 28\r\nConnection: close\r\n\r\n" + PAID)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listener:
        yield f"https://localhost:{listener.sockets[0].getsockname()[1]}/gate"


async def query(url: str, context: ssl.SSLContext | None) -> object:
    platform = PyunPlatform(url, {"lot": Lot("planted-secret")}, timeout=10.0, ssl_context=context)
    try:
        return await platform.query(KEY)
    finally:
        await platform.close()


async def test_a_certificate_of_a_trusted_authority_is_believed(authority: Authority) -> None:
    seen: list[bytes] = []
    async with serving(authority.issue("localhost", 1), seen) as url:
        assert await query(url, authority.trusted()) == Settled(True, Reply("1001", status="1"))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("name", "days", "reason"),
    [("localhost", -1, "certificate has expired"), ("elsewhere.example", 1, "Hostname mismatch")],
)
async def test_an_expired_certificate_or_one_of_another_name_is_named_so_and_nothing_is_sent(
    authority: Authority, name: str, days: int, reason: str
) -> None:
    seen: list[bytes] = []
    async with serving(authority.issue(name, days), seen) as url:
        result = await query(url, authority.trusted())
    assert isinstance(result, Unavailable)
    assert result.cause is Cause.TLS
    assert reason in result.error
    assert "clock" in result.error
    assert seen == []


async def test_a_self_signed_certificate_is_not_believed_by_default(authority: Authority) -> None:
    seen: list[bytes] = []
    context = server_context(authority.certificate, authority.folder / "ca.key")
    async with serving(context, seen) as url:
        result = await query(url, None)
    assert isinstance(result, Unavailable)
    assert result.cause is Cause.TLS
    assert "self-signed certificate" in result.error
    assert seen == []


async def test_a_server_without_tls_is_named_so(authority: Authority) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listener:
        result = await query(f"https://localhost:{listener.sockets[0].getsockname()[1]}/gate", authority.trusted())
    assert isinstance(result, Unavailable)
    assert result.cause is Cause.TLS
    assert "TLS failed" in result.error
