"""What has to be done now and then: time written down, old history let go, a jumping clock told of."""

from __future__ import annotations

import asyncio

import structlog

from poller.bell import LONGEST_WAIT_S, Bell
from poller.core.orders import State
from poller.liveness import Liveness
from poller.metrics import Metrics
from poller.ports import Clock, Store, StoreUnavailableError
from poller.timeline import Timeline
from poller.trouble import StoreTrouble

STAMP_EVERY_S = 60.0
PRUNE_STEP = 100  # orders in one transaction, so that nobody waits for it
PRUNE_PAUSE_S = 0.05
STEP_S = 2.0  # a wall clock that is off by more than this since the last look was set

log = structlog.get_logger()


class Housekeeping:
    """`history` is for how many seconds of running time a final order keeps its history."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        timeline: Timeline,
        liveness: Liveness,
        trouble: StoreTrouble,
        metrics: Metrics,
        history: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._timeline = timeline
        self._liveness = liveness
        self._trouble = trouble
        self._metrics = metrics
        self._history = history
        self._bell = Bell()
        self._stopping = False
        self._wall_ahead = self._ahead()

    def configure(self, history: float) -> None:
        """Take new settings over."""
        self._history = history

    def stop(self) -> None:
        self._stopping = True
        self._bell.ring()

    async def run(self) -> None:
        """Runs until `stop`."""
        due = self._timeline.run() + STAMP_EVERY_S
        while not self._stopping:
            self._liveness.turn("housekeeping")
            self._look_at_the_clock()
            if self._timeline.run() >= due or self._trouble.current is not None:
                due = self._timeline.run() + STAMP_EVERY_S
                try:
                    await self._tidy()
                except StoreUnavailableError as error:
                    self._trouble.met(error, "housekeeping")
            await self._bell.wait(LONGEST_WAIT_S)

    async def _tidy(self) -> None:
        if self._trouble.current is not None or await self._store.orders(State.PENDING, None, 1, None):
            await self._store.flush()  # with it goes the running time, from which the orders' ages are told
            self._trouble.over()
        while not self._stopping and await self._store.prune(self._timeline.run() - self._history, PRUNE_STEP):
            self._liveness.turn("housekeeping")
            await asyncio.sleep(PRUNE_PAUSE_S)

    def _look_at_the_clock(self) -> None:
        ahead = self._ahead()
        if abs(ahead - self._wall_ahead) > STEP_S:
            self._metrics.clock_stepped()
            log.warning("clock.stepped", by_s=round(ahead - self._wall_ahead, 1), affects="times shown to people")
        self._wall_ahead = ahead

    def _ahead(self) -> float:
        return self._clock.wall().timestamp() - self._clock.monotonic()
