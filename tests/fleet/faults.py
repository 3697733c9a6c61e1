"""What befalls the fleet: a kill, a stop that outlasts the lease, a failover."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.chaos.spans import Span
from tests.fleet.members import Member
from tests.fleet.plan import Fault, Plan
from tests.fleet.platform import Platform
from tests.integration.postgres_cluster import PostgresCluster

Say = Callable[[str], None]


@dataclass(slots=True)
class Stopped:
    """A daemon between SIGSTOP and SIGCONT, and the connections to the platform that it had then."""

    member: Member
    span: Span
    ports: frozenset[int]


@dataclass(slots=True)
class Happened:
    """Monotonic times. `failover` is from the primary's death until the standby takes writes."""

    killed: list[Member] = field(default_factory=list)
    stopped: list[Stopped] = field(default_factory=list)
    failover: Span | None = None
    in_flight: list[int] = field(default_factory=list)  # as each fault came
    moments: list[tuple[float, str]] = field(default_factory=list)


class Faults:
    """`in_flight` says how many orders are acknowledged and have not been told the end of."""

    def __init__(
        self,
        plan: Plan,
        members: Sequence[Member],
        cluster: PostgresCluster,
        platform: Platform,
        *,
        in_flight: Callable[[], int],
        say: Say,
    ) -> None:
        self.happened = Happened()
        self._plan = plan
        self._cluster = cluster
        self._platform = platform
        self._in_flight = in_flight
        self._say = say
        self._rng = plan.rng("faults")
        self._victims = self._rng.sample(list(members), 2)

    async def run(self) -> None:
        """All that were planned: the kill and the stop overlap, the failover comes when all that lives is back."""
        await self._platform.record.queried(self._plan.orders // 10)
        if Fault.KILL in self._plan.faults:
            self._kill(self._victims[0])
            await self._calm()
        if Fault.STOP in self._plan.faults:
            await self._stop(self._victims[1])
            await self._calm()
        if Fault.FAILOVER in self._plan.faults:
            await self._fail_over()
            await self._calm()

    async def _calm(self) -> None:
        await asyncio.sleep(self._rng.uniform(0.1, 0.2) * self._plan.lease)

    def _kill(self, victim: Member) -> None:
        self._begin(f"kill -9 of {victim.name}")
        victim.signal(signal.SIGKILL)
        self.happened.killed.append(victim)

    async def _stop(self, victim: Member) -> None:
        self._begin(f"SIGSTOP of {victim.name}")
        victim.signal(signal.SIGSTOP)
        stopped = Stopped(victim, Span(time.monotonic()), victim.connections_to(self._platform.port))
        self.happened.stopped.append(stopped)
        await asyncio.sleep(self._plan.stopped_for)
        stopped.span.close(time.monotonic())
        victim.signal(signal.SIGCONT)
        self._note(f"SIGCONT of {victim.name} after {stopped.span.end - stopped.span.start:.1f} s")

    async def _fail_over(self) -> None:
        self._begin("kill -9 of the primary")
        self.happened.failover = Span(time.monotonic())
        await asyncio.to_thread(self._cluster.kill_primary)
        await asyncio.to_thread(self._cluster.promote)
        self.happened.failover.close(time.monotonic())
        self._note("the standby takes writes")

    def _begin(self, what: str) -> None:
        count = self._in_flight()
        self.happened.in_flight.append(count)
        self._note(f"{what}, with {count} orders in flight")

    def _note(self, what: str) -> None:
        self.happened.moments.append((time.monotonic(), what))
        self._say(what)
