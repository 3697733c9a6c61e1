"""One run: the ground, the witnesses, the load, the faults, the time to finish, the verdict."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass

import aiohttp

from poller.simulator import WebhookReceiver
from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET
from tests.chaos.evidence import FINAL, Evidence, Mailbox, logged
from tests.chaos.faults import Weather, keep_watch, moods
from tests.chaos.ground import Ground
from tests.chaos.lives import Lives
from tests.chaos.load import Gate, states
from tests.chaos.plan import RATE, WEATHER, Plan, fates
from tests.chaos.spans import Span
from tests.chaos.verdict import Verdict, judge
from tests.chaos.witness import Witness

ANSWER_S = 20.0
STALL_S = 90.0  # without news this long, none will come: the longest pause between two deliveries is 60 s
PROGRESS_S = 10.0

Say = Callable[[str], None]


@dataclass(slots=True)
class Run:
    """What is there at once while a plan is played."""

    plan: Plan
    ground: Ground
    platform: Witness
    receiver: WebhookReceiver
    lives: Lives
    gate: Gate
    weather: Weather
    mailbox: Mailbox
    blocked: list[Span]

    def progress(self) -> str:
        return (
            f"{self.lives.kills()} kills, {len(self.lives.all)} lives, {self.weather.faults} cuts and full disks, "
            f"{len(self.gate.orders)} orders handed in, {self.gate.acknowledged()} acknowledged, "
            f"{self.told()} told, {len(self.platform.record)} queries"
        )

    def told(self) -> int:
        """How many ends have been received."""
        return sum(told.type in FINAL and told.received_at is not None for told in self.mailbox.told())


async def play(plan: Plan, ground: Ground, say: Say) -> tuple[Run, Verdict]:
    """Play a plan on ground that was prepared for it. `say` is told how it goes, a line at a time."""
    async with (
        Witness({PARK: APP_SECRET}, seed=plan.seed, host=ground.host) as platform,
        WebhookReceiver(WEBHOOK_SECRET, host=ground.host) as receiver,
    ):
        ground.configure(platform.url, receiver.url)
        run = Run(
            plan,
            ground,
            platform,
            receiver,
            Lives(ground, fates(plan)),
            Gate(plan, ground.door),
            Weather(plan, ground),
            Mailbox(receiver),
            [],
        )
        async with asyncio.TaskGroup() as group:
            watching = [group.create_task(keep_watch(run.blocked)), group.create_task(_report(run, say))]
            living = group.create_task(run.lives.run())
            await _stir(run, group)
            say("no more faults: the rest has to come now")
            await _settle(run)
            async with ground.door.session(ANSWER_S) as session:
                final = await _states(session)
            run.lives.end()
            await living
            for task in watching:
                task.cancel()
        return run, judge(_evidence(run, final))


async def _stir(run: Run, group: asyncio.TaskGroup) -> None:
    """Faults and load until the plan has been played and the gate is rid of its orders."""
    handing_in = group.create_task(run.gate.run())
    mood = group.create_task(moods(run.plan, run.receiver))
    raining = group.create_task(run.weather.run())
    await run.lives.spent.wait()
    if run.plan.kinds - WEATHER:
        run.weather.end()
    await raining
    mood.cancel()
    run.gate.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STALL_S):
            await asyncio.shield(handing_in)
    handing_in.cancel()


async def _settle(run: Run) -> None:
    """Wait until every order has been told, or nothing has come for too long."""
    told, since = -1, time.monotonic()
    while told < run.gate.acknowledged() and time.monotonic() - since < STALL_S:
        await asyncio.sleep(0.25)
        if (now := run.told()) != told:
            told, since = now, time.monotonic()


async def _states(session: aiohttp.ClientSession) -> dict[str, str]:
    """The daemon's word; nothing where it cannot be had, so that every order counts as lost."""
    try:
        return await states(session)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return {}


async def _report(run: Run, say: Say) -> None:
    while True:
        await asyncio.sleep(PROGRESS_S)
        say(run.progress())


def _evidence(run: Run, final: dict[str, str]) -> Evidence:
    record, wire, disk = run.platform.record, run.ground.wire, run.ground.disk
    expected = {key[1]: outcome for key, outcome in record.expected().items()}
    return Evidence(
        rate=RATE,
        handed=run.gate.orders,
        states=final,
        expected=expected,
        spoken={key[1]: frozenset(map(str, words)) for key, words in record.spoken().items()},
        settled={number: record.settled_at((PARK, number)) for number in expected},
        told=run.mailbox.told(),
        lives=run.lives.all,
        asked=run.platform.asked(),
        logged=logged(run.ground.log),
        forged=run.receiver.forged,
        cuts=wire.cuts if wire else [],
        full=disk.full if disk else [],
        blocked=run.blocked,
    )
