"""Requests to the intake, as fast as it answers, over so many connections: bytes in, bytes out."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import uvloop

from tests.bench.figures import percentile


@dataclass(frozen=True, slots=True)
class Answered:
    """`requests_per_s`, and the times to an answer in seconds, in rising order."""

    requests_per_s: float
    times: Sequence[float]

    @property
    def p99_ms(self) -> float:
        return 1000 * percentile(self.times, 0.99)


def post(port: int, bodies: Sequence[object], connections: int, every: float = 0.0) -> Answered:
    """Post each body as an order, or as a batch of orders; `every` seconds at the soonest over each connection."""
    requests = iter([_request(port, body) for body in bodies])
    return uvloop.run(_post(port, requests, connections, every))


async def _post(port: int, requests: Iterator[bytes], connections: int, every: float) -> Answered:
    times: list[float] = []

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in requests:
            began = time.monotonic()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith((b"HTTP/1.1 201", b"HTTP/1.1 200")), head
            await reader.readexactly(_length(head))
            times.append(time.monotonic() - began)
            await asyncio.sleep(max(began + every - time.monotonic(), 0.0)) if every else None
        writer.close()

    started = time.monotonic()
    await asyncio.gather(*(work() for _ in range(connections)))
    return Answered(len(times) / (time.monotonic() - started), sorted(times))


def _request(port: int, body: object) -> bytes:
    text = json.dumps(body).encode()
    head = f"POST /v1/orders HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text


def _length(head: bytes) -> int:
    lower = head.lower()
    start = lower.index(b"content-length:") + 15
    return int(lower[start : lower.index(b"\r\n", start)])
