"""One run: the cluster, the fleet, the witnesses, the load, the faults, the time to finish, the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from poller.simulator import WebhookReceiver
from tests.acceptance.processes import PARK, WEBHOOK_SECRET
from tests.chaos.evidence import TOLD_IN_LOG, Evidence, Mailbox
from tests.chaos.faults import keep_watch
from tests.chaos.load import states
from tests.chaos.spans import Span
from tests.fleet import audit
from tests.fleet.faults import Faults, Happened
from tests.fleet.gate import Gate
from tests.fleet.members import PLACES, Member, member
from tests.fleet.plan import Plan
from tests.fleet.platform import Platform
from tests.fleet.verdict import Seen, Verdict, Way, judge
from tests.integration.postgres_cluster import PostgresCluster, cluster

SCHEMA = "fleet"
PROGRESS_S = 10.0
LOOK_S = 0.25
STALL_S = 60.0  # beyond the distance of two queries; without news that long, none will come

Say = Callable[[str], None]


@dataclass(slots=True)
class Run:
    """What is there at once while a plan is played. `took` is how long each part took, in seconds."""

    plan: Plan
    cluster: PostgresCluster
    platform: Platform
    receiver: WebhookReceiver
    members: list[Member]
    gate: Gate
    blocked: list[Span] = field(default_factory=list)
    happened: Happened = field(default_factory=Happened)
    took: dict[str, float] = field(default_factory=dict)

    def told(self) -> int:
        """How many ends have been received: nothing else is told in such a run."""
        return self.receiver.received_count

    def in_flight(self) -> int:
        return self.gate.acknowledged() - self.told()

    def progress(self) -> str:
        return (
            f"{self.gate.acknowledged()} orders acknowledged, {self.told()} told, "
            f"{len(self.platform.record)} queries"
        )


async def play(plan: Plan, say: Say, folder: Path | None = None) -> tuple[Run, Verdict]:
    """Play a plan. `say` is told how it goes, a line at a time; `folder` is where the daemons' logs stay."""
    with cluster(synchronous=True) as database:
        async with _stage(plan, database, folder) as run, asyncio.TaskGroup() as group:
            watching = [group.create_task(keep_watch(run.blocked)), group.create_task(_report(run, say))]
            await _take_on(run)
            await _stir(run, group, say)
            say("no more faults: the rest has to come now")
            await _settle(run)
            final = await _states(run)
            lines = await audit.read(database.url(SCHEMA))
            await asyncio.gather(*(one.end() for one in run.members))
            for task in watching:
                task.cancel()
            return run, judge(_seen(run, final, audit.judge(lines)))


@asynccontextmanager
async def _stage(plan: Plan, database: PostgresCluster, folder: Path | None) -> AsyncIterator[Run]:
    async with (
        Platform(plan) as platform,
        WebhookReceiver(WEBHOOK_SECRET) as receiver,
        AsyncExitStack() as stack,
    ):
        where = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="poller-fleet-")))
        store = database.url(SCHEMA)
        members = [
            await stack.enter_async_context(
                member(where / f"daemon-{number}", plan, store, platform.url, receiver.url)
            )
            for number in range(1, plan.daemons + 1)
        ]
        await asyncio.gather(*(one.ready() for one in members))
        await audit.begin(store)
        yield Run(plan, database, platform, receiver, members, Gate(plan, members))


async def _take_on(run: Run) -> None:
    began = time.monotonic()
    await run.gate.hand_in_all(run.plan.orders)
    run.platform.all_in_flight()
    run.took["taking on"] = time.monotonic() - began


async def _stir(run: Run, group: asyncio.TaskGroup, say: Say) -> None:
    """Faults, and orders that come meanwhile."""
    faults = Faults(run.plan, run.members, run.cluster, run.platform, in_flight=run.in_flight, say=say)
    run.happened = faults.happened
    began = time.monotonic()
    handing_in = group.create_task(run.gate.run())
    await faults.run()
    run.gate.close()
    await handing_in
    run.took["faults"] = time.monotonic() - began


async def _settle(run: Run) -> None:
    """Wait until every order has been told, or nothing has come for too long."""
    began = since = time.monotonic()
    told = -1
    while told < run.gate.acknowledged() and time.monotonic() - since < run.plan.interval + STALL_S:
        await asyncio.sleep(LOOK_S)
        if (now := run.told()) != told:
            told, since = now, time.monotonic()
    run.took["the rest"] = time.monotonic() - began


async def _states(run: Run) -> dict[str, str]:
    """The fleet's word, by one that lives; nothing where it cannot be had, so that every order counts as lost."""
    for one in run.members:
        if not one.is_killed:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                return await states(one.session)
    return {}


async def _report(run: Run, say: Say) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        say(run.progress())


def _seen(run: Run, final: dict[str, str], judged: audit.Audit) -> Seen:
    ways, unaware = [], []
    for stopped in run.happened.stopped:
        knew = [at for at in stopped.member.logged_at("lease.lost") if at >= stopped.span.end]
        if not knew:
            unaware.append(stopped.member.name)
        until = knew[0] if knew else stopped.span.end
        ways.append(Way(Span(stopped.span.start, until), stopped.ports, stopped.span.end))
    return Seen(
        evidence=_evidence(run, final),
        queries=list(run.platform.record.queries()),
        asked=list(run.platform.asked()),
        ports=run.platform.ports,
        ways=ways,
        unaware=unaware,
        audit=judged,
        places=PLACES,
        in_flight=max(run.happened.in_flight, default=run.plan.orders),
        in_flight_wanted=run.plan.orders,
        moments=run.happened.moments,
    )


def _evidence(run: Run, final: dict[str, str]) -> Evidence:
    record = run.platform.record
    expected = {key[1]: outcome for key, outcome in record.expected().items()}
    return Evidence(
        rate=run.plan.rate,
        handed=run.gate.orders,
        states=final,
        expected=expected,
        spoken={key[1]: frozenset(map(str, words)) for key, words in record.spoken().items()},
        settled={number: record.settled_at((PARK, number)) for number in expected},
        told=Mailbox(run.receiver).told(),
        lives=[one.life for one in run.members],
        logged=frozenset(record["event_id"] for one in run.members for record in one.records(*TOLD_IN_LOG)),
        forged=run.receiver.forged,
        blocked=run.blocked,
    )
