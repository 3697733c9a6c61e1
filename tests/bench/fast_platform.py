"""The platform and the lot's webhook in one process, faster than any client: bytes in, bytes out, nothing checked.

`python -m tests.bench.fast_platform` listens on a free port of loopback, prints it, and ends at SIGTERM. What it
saw is at `/stats`. It believes every signature: the simulator is for what is right, this is for what is fast.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections import Counter
from typing import cast

import uvloop

HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/json;charset=UTF-8\r\n"
    b"Content-Length: %d\r\n\r\n%s"
)
BODY = (
    '{"code":"1001","message":"请求成功","hint":"","seqno":"20261124101530000042","status":"%s",'
    '"pay_serial":"%s","pay_origin":"AP","pay_origin_desc":"支付宝代扣"}'
)


def _response(body: str) -> bytes:
    encoded = body.encode()
    return HEAD % (len(encoded), encoded)


IN_PROGRESS = _response(BODY % ("0", ""))
PAID = _response(BODY % ("1", "2026112410153000004212345678"))
RECEIVED = b"HTTP/1.1 204 No Content\r\n\r\n"


class Seen:
    """What came in: counts, and of each order when it was first told as settled and when its notice came."""

    def __init__(self) -> None:
        self.queries: Counter[bytes] = Counter()
        self.asked = 0
        self.first_at: float | None = None
        self.last_at: float | None = None
        self.settled_at: dict[bytes, float] = {}
        self.notice_at: dict[bytes, float] = {}
        self.connections = 0

    def query(self, number: bytes) -> bytes:
        """One query; the whole response."""
        self.asked += 1
        self.last_at = now = time.monotonic()
        if self.first_at is None:
            self.first_at = now
        if number.startswith(b"never"):
            return IN_PROGRESS
        if number.startswith(b"after"):
            self.queries[number] += 1
            settled = self.queries[number] >= int(number[5 : number.index(b"-")])
        else:
            settled = now * 1000 >= int(number[2 : number.index(b"-")])
        if not settled:
            return IN_PROGRESS
        self.settled_at.setdefault(number, now)
        return PAID

    def notice(self, body: bytes) -> None:
        """One notice to the webhook."""
        start = body.index(b'"pay_partner":"') + 15
        self.notice_at.setdefault(body[start : body.index(b'"', start)], time.monotonic())

    def stats(self) -> bytes:
        """Everything, times in seconds of `time.monotonic()`."""
        delays = [
            at - self.settled_at[number] for number, at in self.notice_at.items() if number in self.settled_at
        ]
        news = [
            at - int(number[2 : number.index(b"-")]) / 1000
            for number, at in self.settled_at.items()
            if number.startswith(b"at")
        ]
        return json.dumps(
            {
                "asked": self.asked,
                "settled": len(self.settled_at),
                "notices": len(self.notice_at),
                "first_at": self.first_at,
                "last_at": self.last_at,
                "settled_to_notice_s": sorted(delays),
                "settled_to_asked_s": sorted(news),
                "connections": self.connections,
            }
        ).encode()


class Connection(asyncio.Protocol):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._seen.connections += 1

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = _content_length(head)
            if len(self._buffer) < end + 4 + length:
                return
            body = self._buffer[end + 4 : end + 4 + length]
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(self._answer(head, body))

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"POST"):
            self._seen.notice(body)
            return RECEIVED
        target = head[4 : head.index(b" ", 4)]
        if target == b"/stats":
            stats = self._seen.stats()
            return HEAD % (len(stats), stats)
        start = target.index(b"pay_partner=") + 12
        end = target.find(b"&", start)
        return self._seen.query(target[start:] if end < 0 else target[start:end])


def _content_length(head: bytes) -> int:
    lower = head.lower()
    start = lower.find(b"content-length:")
    if start < 0:
        return 0
    end = lower.find(b"\r\n", start)
    return int(head[start + 15 : end if end >= 0 else None])


async def serve() -> None:
    """Until SIGTERM."""
    loop, seen, done = asyncio.get_running_loop(), Seen(), asyncio.Event()
    server = await loop.create_server(lambda: Connection(seen), "127.0.0.1", 0, backlog=1024)
    loop.add_signal_handler(signal.SIGTERM, done.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    await done.wait()
    server.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve())
