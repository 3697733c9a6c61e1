"""A platform that repeats all it was sent, in every part of its answers where a client might pick it up."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

PATH = "/gate/1.0/parking/internal/payment"

# An order's number begins with how it is answered.
KINDS = (
    "message",
    "reject",
    "paid",
    "busy",
    "page",
    "redirect",
    "code",
    "status",
    "nested",
    "edge",
    "cut",
    "header",
    "statusline",
    "chunk",
    "hangup",
)


class EchoingPlatform:
    """As an async context manager; `signs` holds the `sign` of each query by the order's number."""

    def __init__(self) -> None:
        self.signs: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{PATH}"

    async def refuse(self) -> None:
        """Take no more connections."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()

    async def asked(self, numbers: set[str]) -> None:
        """Wait until all these orders have been asked about."""
        while not numbers <= self.signs.keys():
            self._changed.clear()
            await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            target = head.split(" ", 2)[1]
            query = parse_qs(urlsplit(target).query)
            number, sign = query["pay_partner"][0], query["sign"][0]
            self.signs[number] = sign
            self._changed.set()
            writer.write(_answer(number.partition("-")[0], f"http://127.0.0.1:{self.port}{target}", sign))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def _answer(kind: str, url: str, sign: str) -> bytes:
    replies: dict[str, dict[str, object]] = {
        "message": {"code": "500", "message": f"cannot process {url}", "hint": f"sign={sign.lower()}"},
        "reject": {"code": 400, "message": f"bad sign {sign}", "hint": url, "seqno": sign},
        "paid": {
            **{"code": "1001", "status": "1", "message": url, "seqno": sign},
            **{"pay_serial": sign, "pay_origin": sign.lower(), "pay_origin_desc": url},
        },
        "code": {"code": sign, "message": url},
        "status": {"code": "1001", "status": sign},
        "nested": {"code": "500", "message": {sign: [url]}, "hint": [{"sign": sign}]},
        "edge": {"code": "500", "message": "x" * 185 + sign},  # where a text is cut off
    }
    raw = {
        "busy": _json({"code": "503", "message": url, "hint": sign}, "503 Service Unavailable"),
        "page": _http("404 Not Found", f"<html>{url}</html>".encode(), "Content-Type: text/html"),
        "redirect": _http("302 Found", b"", f"Location: {url}"),
        "cut": _http("200 OK", f'{{"code":"1001","status":"1","message":"{url}'.encode()),
        "header": f"HTTP/1.1 200 OK\r\nX-Echo: {url}\0\r\nContent-Length: 0\r\n\r\n".encode(),
        "statusline": f"HTTP/1.1 {sign} {url}\r\n\r\n".encode(),
        "chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{sign}-{url}\r\n".encode(),
        "hangup": b"",
    }
    return _json(replies[kind]) if kind in replies else raw[kind]


def _json(document: dict[str, object], status: str = "200 OK") -> bytes:
    return _http(status, json.dumps(document).encode(), "Content-Type: application/json")


def _http(status: str, body: bytes, header: str = "X-Nothing: 0") -> bytes:
    head = f"HTTP/1.1 {status}\r\n{header}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
