"""When what was noted is written: a while after the first entry, or as soon as there is much of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from poller.ports import StoreUnavailableError
from poller.stores.notes import Notes

FLUSH_S = 30.0  # what a crash may lose is asked again; writing it down more often wears the disk
CROWD = 20_000  # entries


class Behind:
    """Starts `flush` in time. Lives in the loop's thread; a failed one is tried again after `FLUSH_S`."""

    def __init__(self, notes: Notes, flush: Callable[[], asyncio.Future[None]]) -> None:
        self._notes = notes
        self._flush = flush
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._running = False
        self._failed = False
        self._stopped = False

    def noted(self) -> None:
        """Something was entered."""
        if self._stopped or self._running:
            return
        if len(self._notes) > CROWD and not self._failed:
            self._start()
        elif self._timer is None:
            self._timer = self._loop.call_later(FLUSH_S, self._start)

    def stop(self) -> None:
        """Start nothing more."""
        self._stopped = True
        self._cancel_timer()

    def _start(self) -> None:
        self._cancel_timer()
        if not self._notes or self._stopped:
            return
        self._running = True
        self._flush().add_done_callback(self._ended)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ended(self, flush: asyncio.Future[None]) -> None:
        self._running = False
        self._failed = flush.cancelled() or flush.exception() is not None
        if self._notes:
            self.noted()
        try:
            if not flush.cancelled():
                flush.result()
        except StoreUnavailableError:
            return  # the entries are still noted; whoever reads or changes an order is told
