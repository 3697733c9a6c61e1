"""The one way in which an order changes, and who is told that it did."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from poller.bell import Bell
from poller.core.documents import notice_body
from poller.core.orders import Change, NoticeType, Order, OrderKey, State
from poller.metrics import Metrics
from poller.ports import Clock, HeldElsewhereError, Making, Recorded, Store, StoreUnavailableError
from poller.timeline import Timeline
from poller.trouble import StoreTrouble

LOOK_EVERY_S = 1.0  # a hint of another daemon's change may be missed


class Outlet(Protocol):
    """Who tells of the notices."""

    def reserve(self) -> bool:
        """Keep a place for sending a notice that is about to be made; False where it has to wait its turn."""

    def release(self) -> None:
        """Let go of a place that was kept, once what was made has been taken or nothing was."""

    def take(self, recorded: Recorded) -> None:
        """Tell of what is handed over, and look into the store for what is not."""

    def look_again(self) -> None:
        """There may be notices in the store to tell of."""


class Ledger:
    """Poller, deadlines and operators all change an order here: recorded once, with its notice, then told."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        timeline: Timeline,
        trouble: StoreTrouble,
        metrics: Metrics,
        outlet: Outlet,
        webhook: bool,
        is_shared: bool = False,
    ) -> None:
        self.webhook = webhook
        self.look_every = LOOK_EVERY_S if is_shared else float("inf")  # others change orders, too
        self._store = store
        self._clock = clock
        self._timeline = timeline
        self._trouble = trouble
        self._metrics = metrics
        self._outlet = outlet
        self._waiting: dict[OrderKey, set[asyncio.Event]] = {}
        self._bells: dict[Bell, None] = {}  # rung in the order in which they came

    def add_bell(self, bell: Bell) -> None:
        """Have `bell` rung whenever a notice may have been made."""
        self._bells[bell] = None

    def remove_bell(self, bell: Bell) -> None:
        self._bells.pop(bell, None)

    async def change(self, key: OrderKey, change: Callable[[Order, datetime], Change | None]) -> Order:
        """Apply a pure transition, which is given the order and the wall clock; durable when it returns.

        Raises what the transition raises, UnknownOrderError and StoreUnavailableError; then nothing changed.
        """
        at = self._clock.wall()
        made: list[tuple[State, Change]] = []

        def noting(order: Order) -> Change | None:
            changed = change(order, at)
            made.clear()  # the store may have undone it, to do it once more
            if changed is not None:
                made.append((order.state, changed))
            return changed

        making = Making(
            event_id=self._clock.new_event_id(),
            at=at,
            run=self._timeline.run(),
            due=self._timeline.schedule(),
            webhook=self.webhook,
            body=lambda kind, order: self._body(kind, order, at),
            tell=True,
            send=self._outlet.reserve(),
        )
        try:
            recorded = await self._store.change(key, noting, making)
        except HeldElsewhereError:
            raise
        except StoreUnavailableError as error:
            self._trouble.met(error, "recording a change of an order")
            raise
        else:
            self._outlet.take(recorded)
        finally:
            if making.send:
                self._outlet.release()
        self._trouble.over()
        for before, changed in made:
            self._count(before, changed, making.run)
        self._ring_bells()
        for event in self._waiting.get(key, ()):
            event.set()
        return recorded.order

    def ring(self) -> None:
        """Wake everyone who waits for notices."""
        self._outlet.look_again()
        self._ring_bells()

    def _ring_bells(self) -> None:
        for bell in self._bells:
            bell.ring()

    def hear(self) -> None:
        """Another daemon has changed orders: everyone who waits looks again."""
        self.ring()
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def wait_final(self, key: OrderKey, seconds: float) -> Order | None:
        """The order as soon as it is final, or as it stands after so many seconds; None if unknown."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        event = asyncio.Event()
        self._waiting.setdefault(key, set()).add(event)
        try:
            while True:
                order = await self._store.get(key)
                if order is None or order.state is not State.PENDING:
                    return order
                try:
                    async with asyncio.timeout_at(min(deadline, loop.time() + self.look_every)):
                        await event.wait()
                except TimeoutError:
                    if loop.time() >= deadline:
                        return await self._store.get(key)
                event.clear()
        finally:
            waiting = self._waiting[key]
            waiting.discard(event)
            if not waiting:
                del self._waiting[key]

    def _count(self, before: State, changed: Change, run: float) -> None:
        after = changed.order
        if changed.notice is NoticeType.UNDECIDED:
            self._metrics.told_undecided()
        elif changed.notice is NoticeType.CONFLICT:
            self._metrics.conflicting()
        elif before is not State.PENDING and after.state is State.PENDING:
            self._metrics.reopened()
        elif before is State.PENDING and after.state is not State.PENDING:
            self._metrics.ended(after.state, run - after.opened_run)

    def _body(self, kind: NoticeType, order: Order, at: datetime) -> str:
        next_poll_at = self._timeline.wall_at(order.due) if order.due is not None else None
        return notice_body(kind, order, at, next_poll_at)
