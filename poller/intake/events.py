"""`/v1/events`: each notice as it is made, as Server-Sent Events (the HTML standard, section 9.2)."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from aiohttp import web

from poller.intake.connection import Connection, Limits, connection_of
from poller.intake.desk_port import Desk
from poller.intake.problems import Problem
from poller.ports import Delivery, StoreUnavailableError

PAGE = 100  # notices in memory for one reader
RETRY_MS = 2000  # how soon a browser comes back

_HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class EventHandler:
    """The handler of streams, on one desk; at most `limits.streams` at once."""

    def __init__(self, desk: Desk, limits: Limits) -> None:
        self._desk = desk
        self._limits = limits
        self._streams = 0

    async def stream(self, request: web.Request) -> web.StreamResponse:
        if self._streams >= self._limits.streams:
            raise Problem(503, "too many streams; close one and try again", headers={"Retry-After": "10"})
        self._streams += 1
        try:
            return await self._stream(request)
        finally:
            self._streams -= 1

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        after, comment = await self._start(request.headers.get("Last-Event-ID"))
        response = web.StreamResponse(headers=_HEADERS)
        with suppress(ConnectionError):  # the client has gone
            await response.prepare(request)
            await response.write(f": {comment}\nretry: {RETRY_MS}\n\n".encode())
            connection = connection_of(request)
            try:
                await self._follow(connection, response, after)
            except StoreUnavailableError:
                await response.write(b": the store cannot be read now, come again\n\n")
            response.force_close()
        return response

    async def _start(self, last_event_id: str | None) -> tuple[int, str]:
        """The id of the notice after which to start, and what to say of it."""
        comment = "from now on"
        if last_event_id:
            last = await self._desk.delivery(last_event_id) if last_event_id.isprintable() else None
            if last is not None:
                return last.notice.id, "resumed"
            comment = "unknown Last-Event-ID, from now on"
        newest = await self._desk.deliveries(None, None, 1, None, None)
        return (newest[0].notice.id if newest else 0), comment

    async def _follow(self, connection: Connection, response: web.StreamResponse, after: int) -> None:
        """Write until the client goes or the intake stops."""
        loop = asyncio.get_running_loop()
        beat = self._limits.heartbeat_seconds
        quiet_until = loop.time() + beat
        async with connection.patience():
            while True:
                page = await self._desk.deliveries(None, None, PAGE, None, after)
                if page:
                    await response.write(b"".join(_event(delivery) for delivery in page))
                    after = page[-1].notice.id
                    quiet_until = loop.time() + beat
                    continue
                await self._desk.next_notice(after, max(quiet_until - loop.time(), 0.0))
                if loop.time() >= quiet_until:
                    await response.write(b":\n\n")
                    quiet_until = loop.time() + beat


def _event(delivery: Delivery) -> bytes:
    notice = delivery.notice
    return f"id: {notice.event_id}\nevent: {notice.type.value}\ndata: {notice.body}\n\n".encode()
