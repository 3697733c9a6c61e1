"""The one way in which an order changes, and the bell that rings when it did."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime

from poller.core.documents import notice_body
from poller.core.orders import Change, NoticeType, Order, OrderKey, State
from poller.ports import Clock, Making, Store
from poller.timeline import Timeline


class Bell:
    """Wakes whoever waits for something to have happened; rings are never missed and may be false."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake all who wait, and end the wait of the next who comes."""
        self._rung.set()

    async def wait(self, seconds: float | None) -> None:
        """Return at a ring since the last wait, or after so many seconds (None: only at a ring)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        self._rung.clear()


class Ledger:
    """Poller, deadlines and operators all change an order here: recorded once, with its notice, then told."""

    def __init__(self, store: Store, clock: Clock, timeline: Timeline, *, webhook: bool) -> None:
        self.webhook = webhook
        self._store = store
        self._clock = clock
        self._timeline = timeline
        self._waiting: dict[OrderKey, set[asyncio.Event]] = {}
        self._bells: set[Bell] = set()

    def add_bell(self, bell: Bell) -> None:
        """Have `bell` rung whenever a notice may have been made."""
        self._bells.add(bell)

    def remove_bell(self, bell: Bell) -> None:
        self._bells.discard(bell)

    async def change(self, key: OrderKey, change: Callable[[Order, datetime], Change | None]) -> Order:
        """Apply a pure transition, which is given the order and the wall clock; durable when it returns.

        Raises what the transition raises, UnknownOrderError and StoreUnavailableError; then nothing changed.
        """
        at = self._clock.wall()
        making = Making(
            event_id=self._clock.new_event_id(),
            at=at,
            run=self._timeline.run(),
            due=self._timeline.schedule(),
            webhook=self.webhook,
            body=lambda kind, order: self._body(kind, order, at),
        )
        order = await self._store.change(key, lambda order: change(order, at), making)
        self.ring()
        for event in self._waiting.get(key, ()):
            event.set()
        return order

    def ring(self) -> None:
        """Wake everyone who waits for notices."""
        for bell in self._bells:
            bell.ring()

    async def wait_final(self, key: OrderKey, seconds: float) -> Order | None:
        """The order as soon as it is final, or as it stands after so many seconds; None if unknown."""
        deadline = asyncio.get_running_loop().time() + seconds
        event = asyncio.Event()
        self._waiting.setdefault(key, set()).add(event)
        try:
            while True:
                order = await self._store.get(key)
                if order is None or order.state is not State.PENDING:
                    return order
                try:
                    async with asyncio.timeout_at(deadline):
                        await event.wait()
                except TimeoutError:
                    return await self._store.get(key)
                event.clear()
        finally:
            waiting = self._waiting[key]
            waiting.discard(event)
            if not waiting:
                del self._waiting[key]

    def _body(self, kind: NoticeType, order: Order, at: datetime) -> str:
        next_poll_at = self._timeline.wall_at(order.due) if order.due is not None else None
        return notice_body(kind, order, at, next_poll_at)
