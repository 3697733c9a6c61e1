"""Responses that nobody asked for, on a connection that is kept."""

from __future__ import annotations

import asyncio

from poller.core.orders import OrderKey
from poller.core.replies import InProgress, Settled
from poller.pyun import Lot, PyunPlatform

IN_PROGRESS = b'{"code":"1001","status":"0"}'
PAID = b'{"code":"1001","status":"1"}'


def response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def test_a_response_that_nobody_asked_for_is_no_orders_answer() -> None:
    """A server sends another order's "paid" while the connection is idle: it must not reach the next order."""
    stray_sent, connections = asyncio.Event(), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(response(IN_PROGRESS))
                await writer.drain()
                if connections == 1:
                    loop = asyncio.get_running_loop()
                    loop.call_later(0.05, writer.write, response(PAID))
                    loop.call_later(0.1, stray_sent.set)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    platform = PyunPlatform(f"http://{host}:{port}/payment", {"lot": Lot("planted")}, timeout=5.0)
    try:
        results = [await platform.query(OrderKey("lot", "1"))]
        await stray_sent.wait()
        results += [await platform.query(OrderKey("lot", number)) for number in ("2", "3", "4")]
    finally:
        await platform.close()
        server.close()
        await server.wait_closed()
    assert not any(isinstance(result, Settled) for result in results)
    assert all(isinstance(result, InProgress) for result in results)
    assert connections == 2
