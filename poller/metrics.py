"""What the daemon counts and measures, as Prometheus has it: names, units, and nothing that names an order.

Whoever does something tells it here, in the domain's words, at the cost of a microsecond or so: every
instrument's labels are resolved once. The gauges are set by `gauges` when somebody asks.
"""

from __future__ import annotations

import platform
import time
from typing import assert_never

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, Info, ProcessCollector

from poller import __version__
from poller.core.delivery import Dead, Delivered, DeliveryDecision, TryAgain
from poller.core.orders import State
from poller.core.replies import Cause, InProgress, Rejected, Result, Settled, Unavailable, Unclear

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4

_QUERY_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LATENESS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0)
_OUTCOME_S = (1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 90.0, 180.0, 600.0, 3600.0, 21_600.0, 86_400.0)
_TRANSACTION_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0)
_LAG_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Metrics:
    """The counters and histograms of one daemon. `registry` holds them, and whatever gauges join them."""

    def __init__(self) -> None:
        # Else each has a second series, which nobody reads.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._make_of_queries()
        self._make_of_orders()
        self._make_of_the_machine()

    def describe_process(self) -> None:
        """Tell of the running process, too: its build, processor time, memory, files and garbage."""
        build = Info("poller_build", "The version of the daemon and of its Python.", registry=self.registry)
        build.info({"version": __version__, "python": platform.python_version()})
        self.registry.register(_Process(registry=None))
        GCCollector(registry=self.registry)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format; `CONTENT_TYPE` says which."""
        return prometheus_client.generate_latest(self.registry)

    # Queries.

    def _make_of_queries(self) -> None:
        queries = Counter(
            "poller_queries_total",
            "Queries to the platform, by what came back; cause says why the platform was unavailable.",
            ["result", "cause"],
            registry=self.registry,
        )
        self._paid = queries.labels("settled_paid", "")
        self._not_paid = queries.labels("settled_failed", "")
        self._in_progress = queries.labels("in_progress", "")
        self._rejected = queries.labels("rejected", "")
        self._unclear = queries.labels("unclear", "")
        self._unavailable = {cause: queries.labels("unavailable", cause.value) for cause in Cause}
        self._query = self._histogram(
            "poller_query_duration_seconds",
            "From sending a query to its whole reply, or to giving up on it.",
            _QUERY_S,
        )
        self._lateness = self._histogram(
            "poller_poll_lateness_seconds",
            "How long after it was due an order was asked about; an outage makes all of them late.",
            _LATENESS_S,
        )
        self._outages = self._counter(
            "poller_platform_outages_total", "Times that the platform was found to be down."
        )

    def queried(self, result: Result, took: float, late: float) -> None:
        """A query that was asked `late` seconds after it was due came back after `took` seconds."""
        match result:
            case InProgress():
                self._in_progress.inc()
            case Settled(paid=paid):
                (self._paid if paid else self._not_paid).inc()
            case Unavailable(cause=cause):
                self._unavailable[cause].inc()
            case Unclear():
                self._unclear.inc()
            case Rejected():
                self._rejected.inc()
            case _:
                assert_never(result)
        self._query.observe(took)
        self._lateness.observe(max(late, 0.0))

    def platform_down(self) -> None:
        """An outage has begun."""
        self._outages.inc()

    # Orders and their notices.

    def _make_of_orders(self) -> None:
        self._accepted = self._counter("poller_orders_accepted_total", "Orders taken on.")
        self._reopened = self._counter("poller_orders_reopened_total", "Orders that were final and are asked on.")
        ended = Counter(
            "poller_orders_ended_total", "Orders that became final, by state.", ["state"], registry=self.registry
        )
        self._ended: dict[State, Counter] = {
            state: ended.labels(state.value) for state in State if state is not State.PENDING
        }
        self._told_undecided = self._counter(
            "poller_orders_told_undecided_total", "Orders of which the gate was told that nothing is known yet."
        )
        self._conflicts = self._counter(
            "poller_orders_conflicting_total", "Final orders that the platform contradicted."
        )
        self._outcome = self._histogram(
            "poller_order_outcome_seconds",
            "Running time from taking an order on, or reopening it, to paid or failed.",
            _OUTCOME_S,
        )
        deliveries = Counter(
            "poller_deliveries_total",
            "Tries at sending a notice: delivered, failed (it is tried again) or dead.",
            ["result"],
            registry=self.registry,
        )
        self._delivered = deliveries.labels("delivered")
        self._failed = deliveries.labels("failed")
        self._dead = deliveries.labels("dead")

    def accepted(self, count: int) -> None:
        """So many orders were taken on."""
        self._accepted.inc(count)

    def ended(self, state: State, age: float) -> None:
        """An order became final, `age` seconds of running time after it was opened."""
        self._ended[state].inc()
        if state in (State.PAID, State.FAILED):
            self._outcome.observe(max(age, 0.0))

    def reopened(self) -> None:
        """A final order is asked about again."""
        self._reopened.inc()

    def told_undecided(self) -> None:
        """The gate is told that nothing is known yet."""
        self._told_undecided.inc()

    def conflicting(self) -> None:
        """The platform contradicted a final order."""
        self._conflicts.inc()

    def tried(self, decision: DeliveryDecision) -> None:
        """A delivery was tried."""
        match decision:
            case Delivered():
                self._delivered.inc()
            case TryAgain():
                self._failed.inc()
            case Dead():
                self._dead.inc()
            case _:
                assert_never(decision)

    # What it runs on.

    def _make_of_the_machine(self) -> None:
        transactions = Histogram(
            "poller_store_transaction_duration_seconds",
            "A transaction of the store that wrote, its commit included; durable ones wait for the disk.",
            ["durable"],
            buckets=_TRANSACTION_S,
            registry=self.registry,
        )
        self._durable, self._behind = transactions.labels("true"), transactions.labels("false")
        self._lag = self._histogram(
            "poller_event_loop_lag_seconds", "How much later than asked for the event loop took a turn.", _LAG_S
        )
        self._clock_steps = self._counter("poller_clock_steps_total", "Times that the wall clock was set.")
        self._leases_lost = self._counter(
            "poller_leases_lost_total", "Times that the others of a fleet took over what this daemon held."
        )

    def wrote(self, seconds: float, durable: bool) -> None:
        """A transaction of the store was committed. May be called in any thread."""
        (self._durable if durable else self._behind).observe(seconds)

    def lagged(self, seconds: float) -> None:
        """The event loop took a turn so much later than it was asked for."""
        self._lag.observe(max(seconds, 0.0))

    def clock_stepped(self) -> None:
        """The wall clock was set."""
        self._clock_steps.inc()

    def lease_lost(self) -> None:
        """The others have what this daemon held."""
        self._leases_lost.inc()

    def _counter(self, name: str, says: str) -> Counter:
        return Counter(name, says, registry=self.registry)

    def _histogram(self, name: str, says: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, says, buckets=buckets, registry=self.registry)


class _Process(ProcessCollector):
    """Knows when the machine started without /proc/stat, which a hardened unit hides (ProcSubset=pid)."""

    def _boot_time(self) -> float:
        return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
