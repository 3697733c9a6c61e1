"""How things stand, read from the parts whenever somebody asks for the metrics."""

from __future__ import annotations

import asyncio

from prometheus_client import Gauge

from poller.metrics import Metrics
from poller.polling import Poller
from poller.ports import Clock, Counts, StoreUnavailableError
from poller.stores import KeptStore
from poller.timeline import Timeline
from poller.trouble import StoreTrouble

KEPT_S = 3.0  # the store is not counted more often
PATIENCE_S = 1.0  # where it takes longer, what it said last is told

NOTHING = Counts(0, 0, 0, 0, None, None)


class Gauges:
    """They join the counters in the registry of `metrics`."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        store: KeptStore,
        poller: Poller,
        clock: Clock,
        timeline: Timeline,
        trouble: StoreTrouble,
    ) -> None:
        self._metrics = metrics
        self._store = store
        self._poller = poller
        self._clock = clock
        self._timeline = timeline
        self._trouble = trouble
        self._counts = NOTHING
        self._counted_at = float("-inf")
        self._make_of_the_store()
        self._make_of_the_parts()

    def _make_of_the_store(self) -> None:
        gauge = self._gauge
        self._pending = gauge("poller_orders_pending", "Orders that are not final.")
        self._undecided = gauge(
            "poller_orders_undecided",
            "Of the pending, those of which the gate was told that nothing is known yet.",
        )
        self._oldest_pending = gauge(
            "poller_oldest_pending_order_age_seconds", "Running time since the oldest pending order was opened."
        )
        self._undelivered = gauge("poller_notices_undelivered", "Notices that the webhook has not received yet.")
        self._dead = gauge(
            "poller_notices_dead", "Notices that were given up on; `poller redeliver` sends them again."
        )
        self._oldest_undelivered = gauge(
            "poller_oldest_undelivered_notice_age_seconds",
            "Running time since the oldest undelivered notice was made, or last asked to be sent again.",
        )

    def _make_of_the_parts(self) -> None:
        gauge = self._gauge
        gauge("poller_orders_in_memory", "Orders due soon; the store has the rest.").set_function(
            self._poller.held
        )
        gauge("poller_queries_in_flight", "Queries in the air.").set_function(self._poller.in_flight)
        gauge("poller_platform_outage", "1 while the platform is down.").set_function(
            lambda: self._poller.outage.is_open
        )
        gauge("poller_store_unavailable", "1 while the store refuses to read or write.").set_function(
            lambda: self._trouble.current is not None
        )
        gauge("poller_store_size_bytes", "What the store takes on disk.").set_function(self._store.size_bytes)

    def _gauge(self, name: str, says: str) -> Gauge:
        return Gauge(name, says, registry=self._metrics.registry)

    async def text(self) -> bytes:
        """The metrics as they are now, in `metrics.CONTENT_TYPE`; what the store holds, as of a moment ago."""
        await self._count()
        counts, now = self._counts, self._timeline.run()
        self._pending.set(counts.pending)
        self._undecided.set(counts.undecided)
        self._undelivered.set(counts.undelivered)
        self._dead.set(counts.dead)
        self._oldest_pending.set(_age(counts.oldest_opened_run, now))
        self._oldest_undelivered.set(_age(counts.oldest_made_run, now))
        return self._metrics.text()

    async def _count(self) -> None:
        now = self._clock.monotonic()
        if now - self._counted_at < KEPT_S:
            return
        self._counted_at = now
        try:
            async with asyncio.timeout(PATIENCE_S):
                self._counts = await self._store.counts()
        except StoreUnavailableError as error:
            self._trouble.met(error, "counting for the metrics")
        except TimeoutError:
            return  # it is busy, or its disk hangs, which the engine's watch finds out


def _age(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(now - since, 0.0)
