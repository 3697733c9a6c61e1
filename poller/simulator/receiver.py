"""A webhook receiver over a real socket: the lot's own software, with its moods."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from poller.simulator.listener import Listener, hang_up

_HEADERS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


@dataclass(slots=True)
class Try:
    """One well-signed attempt at a notice. `status` is None while unanswered, and for one left hanging."""

    arrived: float
    status: int | None = None


@dataclass(slots=True)
class ReceivedNotice:
    """Everything that came under one `webhook-id`; times are monotonic seconds, `number` counts the ids."""

    id: str
    number: int
    body: bytes
    tries: list[Try] = field(default_factory=list)
    received_at: float | None = None  # the first try that was answered with 2xx
    changed: bool = False  # another body came under the same id

    @property
    def arrivals(self) -> list[float]:
        return [a_try.arrived for a_try in self.tries]


@dataclass(frozen=True, slots=True)
class Answers:
    """With that status, `delay_s` seconds late."""

    status: int = 204
    delay_s: float = 0.0
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Hangs:
    """Takes the attempt and never answers."""


@dataclass(frozen=True, slots=True)
class HangsUp:
    """Closes the connection without an answer."""


Mood = Answers | Hangs | HangsUp


class WebhookReceiver:
    """A receiver as an async context manager; `secret` is Standard Webhooks' `whsec_…`. Port 0 takes a free one.

    What is not well signed is answered with 401 and counted in `forged`.
    """

    def __init__(self, secret: str, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.notices: dict[str, ReceivedNotice] = {}
        self.forged = 0
        self.attempts = 0
        self._webhook = Webhook(secret)
        self._listener = Listener(self._handle, host, port)
        self._mood: Mood = Answers()
        self._left: int | None = None
        self._received = 0
        self._changed = asyncio.Event()

    @property
    def url(self) -> str:
        """Where notices go, known once it listens."""
        return f"{self._listener.origin}/payments"

    async def __aenter__(self) -> Self:
        await self._listener.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._listener.close()

    def behave(self, mood: Mood, *, times: int | None = None) -> None:
        """Be like that for the next `times` attempts, or until told otherwise (None)."""
        self._mood, self._left = mood, times

    def recover(self) -> None:
        """Answer 204 at once."""
        self.behave(Answers())

    async def refuse(self) -> None:
        """Close every connection and refuse new ones, until `accept`."""
        await self._listener.refuse()

    async def accept(self) -> None:
        """Listen again on the same port."""
        await self._listener.listen()

    @property
    def received_count(self) -> int:
        """How many distinct notices were answered with 2xx."""
        return self._received

    async def received(self, count: int) -> list[ReceivedNotice]:
        """Wait until `count` distinct notices were answered with 2xx; all of them, in the order of that."""
        await self._until(lambda: self._received >= count)
        done = [(notice.received_at, notice) for notice in self.notices.values() if notice.received_at is not None]
        return [notice for _, notice in sorted(done, key=lambda pair: pair[0])]

    async def attempted(self, count: int) -> None:
        """Wait until `count` well-signed attempts have come, answered or not."""
        await self._until(lambda: self.attempts >= count)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        arrived = time.monotonic()
        body = await request.read()
        try:
            self._webhook.verify(body, {name: request.headers.get(name, "") for name in _HEADERS})
        except (WebhookVerificationError, ValueError):
            self.forged += 1
            return web.Response(status=401)
        notice, attempt = self._note(request.headers["webhook-id"], body, arrived)
        match self._next_mood():
            case Hangs():
                await asyncio.Event().wait()
                raise AssertionError("unreachable")
            case HangsUp():
                return hang_up(request)
            case Answers(status, delay_s, retry_after):
                if delay_s:
                    await asyncio.sleep(delay_s)
                self._answered(notice, attempt, status)
                headers = {"Retry-After": retry_after} if retry_after else None
                return web.Response(status=status, headers=headers)

    def _next_mood(self) -> Mood:
        mood = self._mood
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self.recover()
        return mood

    def _note(self, event_id: str, body: bytes, arrived: float) -> tuple[ReceivedNotice, Try]:
        notice = self.notices.get(event_id)
        if notice is None:
            notice = self.notices[event_id] = ReceivedNotice(event_id, len(self.notices), body)
        notice.changed |= body != notice.body
        attempt = Try(arrived)
        notice.tries.append(attempt)
        self.attempts += 1
        self._changed.set()
        return notice, attempt

    def _answered(self, notice: ReceivedNotice, attempt: Try, status: int) -> None:
        attempt.status = status
        if 200 <= status < 300 and notice.received_at is None:
            notice.received_at = time.monotonic()
            self._received += 1
            self._changed.set()
