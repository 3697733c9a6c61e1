"""The whole job on this machine: a simulated platform, the daemon, a webhook receiver, orders of every kind.

What came out is held against the simulator's own record, not against the daemon's word.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import statistics
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from poller import daemon, logs
from poller.config import (
    Config,
    IntakeSettings,
    Listen,
    LogSettings,
    PlatformSettings,
    StoreSettings,
    WebhookSettings,
)
from poller.core.cadence import Cadence
from poller.intake import Intake
from poller.pyun import Lot
from poller.simulator import FORMS, ReceivedNotice, Record, SimulatedPlatform, WebhookReceiver, describe

PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
RATE = 200  # queries a second
MEAN_SETTLE_S = 3.0
CADENCE = Cadence(initial_delay=0.2, min_interval=0.5, age_fraction=0.1, max_interval=5.0)
BATCH = 500
PATIENCE_S = 120.0  # for the last result, and for each thousand orders as much again
PLAIN_WIDTH = 120  # where the output is no terminal
LISTED = 50  # up to so many orders have a line each in the table


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one order: by the world's record, by the daemon, and by the receiver."""

    number: str
    scenario: str
    expected: str | None
    state: str | None
    polls: int
    notices: int
    news_after: float | None  # seconds from settling at the platform to the receiver's 2xx

    @property
    def correct(self) -> bool:
        return self.expected is not None and self.state == self.expected and self.notices == 1


def run(orders: int, seed: int) -> int:
    """Run the demo and print its table. Returns 0 only if every order ended right and was told once."""
    logs.configure("error", "auto", stream_is_terminal=False, journal=False)
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    rows, record = asyncio.run(_play(orders, seed, console))
    console.print(_table(rows))
    wrong = [row for row in rows if not row.correct]
    console.print(
        f"{len(rows) - len(wrong)} of {len(rows)} results correct and told once; {len(record)} queries, "
        f"at most {record.max_queries_in_window()} in any second (allowed {RATE}), "
        f"at most {record.max_concurrent_for_one_order()} at once for one order"
    )
    return 1 if wrong or record.max_queries_in_window() > RATE else 0


async def _play(orders: int, seed: int, console: Console) -> tuple[list[Row], Record]:
    secret, webhook_secret = secrets.token_hex(16), "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    numbers = _numbers(orders)
    with tempfile.TemporaryDirectory(prefix="poller-demo-") as folder:
        async with (
            SimulatedPlatform({PARK: secret}, seed=seed, mean_settle_s=MEAN_SETTLE_S) as platform,
            WebhookReceiver(webhook_secret) as receiver,
            asyncio.TaskGroup() as group,
        ):
            config = _config(Path(folder), platform.url, secret, receiver.url, webhook_secret)
            stop, up = asyncio.Event(), asyncio.get_running_loop().create_future()
            served = group.create_task(
                daemon.serve(config, reload=lambda: config, stop=stop, hangup=asyncio.Event(), ready=up.set_result)
            )
            try:
                door: Intake = await up
                async with aiohttp.ClientSession(f"http://127.0.0.1:{door.address[1]}") as session:
                    await _submit(session, numbers)
                    await _watch(receiver, len(numbers), console)
                    states = await _states(session)
            finally:
                stop.set()
            await served
        return _rows(numbers, states, platform.record, list(receiver.notices.values())), platform.record


def _numbers(orders: int) -> list[str]:
    kinds = [form for form, _ in FORMS if form != "pending"]
    named = [f"{form}-{count:04}" for count, form in enumerate(kinds, start=1)]
    return (named + [f"order-{count:06}" for count in range(len(named) + 1, orders + 1)])[:orders]


def _config(folder: Path, platform_url: str, secret: str, webhook_url: str, webhook_secret: str) -> Config:
    return Config(
        path=folder / "poller.toml",
        platform=PlatformSettings(platform_url, RATE, max_concurrency=32, timeout=5.0),
        lots={PARK: Lot(secret)},
        cadence=CADENCE,
        intake=IntakeSettings(Listen("127.0.0.1", 0)),
        webhook=WebhookSettings(webhook_url, webhook_secret, timeout=5.0, give_up_after=3600.0),
        store=StoreSettings(f"sqlite:///{folder}/poller.db", history_days=90),
        log=LogSettings("error", "auto"),
    )


async def _submit(session: aiohttp.ClientSession, numbers: Sequence[str]) -> None:
    for start in range(0, len(numbers), BATCH):
        batch = [
            {"pay_partner": number, "metadata": {"lane": f"exit-{count % 4 + 1}"}}
            for count, number in enumerate(numbers[start : start + BATCH])
        ]
        async with session.post("/v1/orders", json=batch) as response:
            answers = await response.json()
        refused = [answer for answer in answers if answer["status"] != 201]
        if refused:
            raise RuntimeError(f"an order was refused: {refused[0]}")


async def _watch(receiver: WebhookReceiver, orders: int, console: Console) -> None:
    """Show how many results have arrived, until all have or patience ends."""
    columns = (TextColumn("results"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task("results", total=orders)
        try:
            async with asyncio.timeout(PATIENCE_S * (1 + orders / 1000)):
                while receiver.received_count < orders:
                    await receiver.received(receiver.received_count + 1)
                    progress.update(task, completed=receiver.received_count)
        except TimeoutError:
            console.print(f"gave up waiting after {receiver.received_count} of {orders} results")


async def _states(session: aiohttp.ClientSession) -> dict[str, tuple[str, int]]:
    states: dict[str, tuple[str, int]] = {}
    query = {"limit": "1000"}
    while True:
        async with session.get("/v1/orders", params=query) as response:
            page = await response.json()
        states |= {order["pay_partner"]: (order["state"], order["polls"]) for order in page["orders"]}
        if page["next"] is None:
            return states
        query["after"] = page["next"]


def _rows(
    numbers: Sequence[str], states: dict[str, tuple[str, int]], record: Record, notices: Sequence[ReceivedNotice]
) -> list[Row]:
    told: dict[str, list[ReceivedNotice]] = defaultdict(list)
    for notice in notices:
        told[json.loads(notice.body)["data"]["pay_partner"]].append(notice)
    expected = record.expected()
    rows = []
    for number in numbers:
        scenario, settled_at = record.scenario((PARK, number)), record.settled_at((PARK, number))
        received_at = next((notice.received_at for notice in told[number] if notice.received_at), None)
        state, polls = states.get(number, (None, 0))
        rows.append(
            Row(
                number,
                describe(scenario) if scenario else "never asked about",
                expected.get((PARK, number)),
                state,
                polls,
                sum(len(notice.tries) for notice in told[number]),
                received_at - settled_at if received_at is not None and settled_at is not None else None,
            )
        )
    return rows


def _table(rows: Sequence[Row]) -> Table:
    return _one_by_one(rows) if len(rows) <= LISTED else _by_outcome(rows)


def _one_by_one(rows: Sequence[Row]) -> Table:
    table = Table(
        "order", "at the platform", "should be", "is", "queries", "told", "news after", "", title="Results"
    )
    for row in rows:
        news = f"{row.news_after:.2f} s" if row.news_after is not None else ""
        verdict = "[green]ok[/]" if row.correct else "[red]WRONG[/]"
        told = f"{row.notices}×"
        table.add_row(row.number, row.scenario, row.expected, row.state, str(row.polls), told, news, verdict)
    return table


def _by_outcome(rows: Sequence[Row]) -> Table:
    table = Table("should be", "orders", "correct", "queries", "news after, mean", "worst", title="Results")
    for outcome, orders in sorted(Counter(str(row.expected) for row in rows).items()):
        of_it = [row for row in rows if str(row.expected) == outcome]
        news = [row.news_after for row in of_it if row.news_after is not None]
        table.add_row(
            outcome,
            str(orders),
            str(sum(row.correct for row in of_it)),
            str(sum(row.polls for row in of_it)),
            f"{statistics.mean(news):.2f} s" if news else "",
            f"{max(news):.2f} s" if news else "",
        )
    for row in rows:
        if not row.correct:
            table.add_row(f"[red]WRONG[/] {row.number}", row.scenario, f"{row.expected} / {row.state}")
    return table
