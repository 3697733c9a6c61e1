"""The loops put together over any adapters, run in one TaskGroup, and drained without a loss."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from poller.core.cadence import Cadence
from poller.deadlines import Deadlines
from poller.desk import Desk
from poller.errands import Errands
from poller.gauges import Gauges
from poller.housekeeping import Housekeeping
from poller.ledger import Ledger
from poller.liveness import SILENCE_S, Liveness, StalledError
from poller.lookout import Lookout
from poller.metrics import Metrics
from poller.polling import Poller
from poller.ports import Clock, Fleet, Platform, Receiver, Throttle
from poller.relay import Relay
from poller.stores import KeptStore
from poller.submissions import Submissions
from poller.timeline import Timeline
from poller.trouble import StoreTrouble

DRAIN_S = 5.0  # how long queries in the air and deliveries under way may take to end
WATCH_S = 5.0
LAST_LINES_S = 0.5  # of which this is kept for telling what they brought

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Settings:
    """What the loops go by, and what a reload replaces. `give_up_after` (seconds) is the webhook's.

    `history` is for how many seconds of running time a final order keeps its history.
    """

    cadence: Cadence
    park_uuids: Sequence[str]
    max_concurrency: int
    give_up_after: float
    history: float = 90 * 86_400.0


class Engine:
    """Everything of the daemon but its doors. `receiver` is None where results go to the log alone."""

    def __init__(
        self,
        *,
        store: KeptStore,
        platform: Platform,
        receiver: Receiver | None,
        throttle: Throttle,
        clock: Clock,
        settings: Settings,
        metrics: Metrics | None = None,
    ) -> None:
        metrics = metrics or Metrics()
        fleet = store.fleet()
        self._store = store
        self._clock = clock
        self._liveness = Liveness(clock)
        trouble = StoreTrouble()
        self.timeline = Timeline(clock, store.last_stamp())
        store.keep_time(self.timeline.stamp)
        store.watch(metrics.wrote)
        self._relay = Relay(
            store=store,
            clock=clock,
            timeline=self.timeline,
            liveness=self._liveness,
            trouble=trouble,
            metrics=metrics,
            receiver=receiver,
            give_up_after=settings.give_up_after,
            lease=fleet,
        )
        self._ledger = Ledger(
            store=store,
            clock=clock,
            timeline=self.timeline,
            trouble=trouble,
            metrics=metrics,
            outlet=self._relay,
            webhook=receiver is not None,
            is_shared=fleet is not None,
        )
        self.poller = Poller(
            store=store,
            records=store,
            platform=platform,
            throttle=throttle,
            fleet=fleet,
            ledger=self._ledger,
            clock=clock,
            timeline=self.timeline,
            liveness=self._liveness,
            trouble=trouble,
            metrics=metrics,
            cadence=settings.cadence,
            max_concurrency=settings.max_concurrency,
            lots=settings.park_uuids,
        )
        self._deadlines = Deadlines(
            store=store,
            ledger=self._ledger,
            timeline=self.timeline,
            liveness=self._liveness,
            trouble=trouble,
            cadence=settings.cadence,
        )
        self._housekeeping = Housekeeping(
            store=store,
            clock=clock,
            timeline=self.timeline,
            liveness=self._liveness,
            trouble=trouble,
            metrics=metrics,
            history=settings.history,
        )
        self._submissions = Submissions(
            store=store,
            poller=self.poller,
            clock=clock,
            timeline=self.timeline,
            liveness=self._liveness,
            trouble=trouble,
            metrics=metrics,
        )
        self.desk = Desk(
            store=store,
            submissions=self._submissions,
            ledger=self._ledger,
            poller=self.poller,
            clock=clock,
            timeline=self.timeline,
            trouble=trouble,
            lookout=Lookout(store, clock, self.timeline, self.poller.outage),
            cadence=settings.cadence,
            park_uuids=settings.park_uuids,
        )
        self._errands = None if fleet is None else self._join(fleet, trouble, metrics)
        self.gauges = Gauges(
            metrics, store=store, poller=self.poller, clock=clock, timeline=self.timeline, trouble=trouble
        )

    def _join(self, fleet: Fleet, trouble: StoreTrouble, metrics: Metrics) -> Errands:
        """Have the loops go by what the fleet says."""
        errands = Errands(fleet, self.poller, self._liveness, trouble)

        def lost() -> None:
            log.warning("lease.lost", orders=self.poller.held())
            metrics.lease_lost()
            self.poller.forget_all()
            self._relay.forget_all()

        def news() -> None:
            for loop in (self.poller, self._relay, errands):
                loop.look_again()

        fleet.follow(self.timeline.advance)
        fleet.on_lost(lost)
        fleet.on_news(news)
        fleet.on_change(self._ledger.hear)
        return errands

    def configure(self, settings: Settings, receiver: Receiver | None) -> None:
        """Take new settings over while running."""
        self._ledger.webhook = receiver is not None
        self._relay.configure(receiver, settings.give_up_after)
        self._deadlines.configure(settings.cadence)
        self._housekeeping.configure(settings.history)
        self.desk.configure(settings.cadence, settings.park_uuids)
        self.poller.configure(settings.cadence, settings.max_concurrency, settings.park_uuids)

    async def run(
        self,
        stop: asyncio.Event,
        close_doors: Callable[[], Awaitable[None]],
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        """Run until `stop` is set; then close the doors, let what is under way end, and return.

        `alive` is called every few seconds as long as every loop and the store make progress; where one does
        not, StalledError is raised; where the store turns out to be damaged, StoreCorruptError. What else it
        raises is a defect of a loop, or of what is behind it.
        """
        async with asyncio.TaskGroup() as group:
            asking = [
                group.create_task(self._submissions.run()),
                group.create_task(self.poller.run()),
                group.create_task(self._deadlines.run()),
                group.create_task(self._housekeeping.run()),
            ]
            if self._errands is not None:
                asking.append(group.create_task(self._errands.run()))
            watching = group.create_task(self._watch(alive))
            telling = [group.create_task(self._relay.run())]
            await stop.wait()
            log.info("daemon.stopping", queries_in_the_air=self.poller.in_flight())
            deadline = asyncio.get_running_loop().time() + DRAIN_S
            self.poller.stop()
            self._deadlines.stop()
            self._housekeeping.stop()
            if self._errands is not None:
                self._errands.stop()
            await close_doors()
            self._submissions.stop()
            await _finish(asking, deadline - LAST_LINES_S)
            self._relay.stop()
            await _finish(telling, deadline)
            watching.cancel()

    async def _watch(self, alive: Callable[[], None]) -> None:
        while True:
            self._store.check()
            self._liveness.check()
            busy_since = self._store.busy_since()
            if busy_since is not None and self._clock.monotonic() - busy_since > SILENCE_S:
                raise StalledError("the store's writer has been in one transaction for too long: look at the disk")
            alive()
            await asyncio.sleep(WATCH_S)


async def _finish(tasks: list[asyncio.Task[None]], deadline: float) -> None:
    """Wait for tasks that were told to stop; what is late is cancelled, and taken up again at the next start."""
    _, late = await asyncio.wait(tasks, timeout=max(deadline - asyncio.get_running_loop().time(), 0.0))
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)
