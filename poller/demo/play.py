"""The whole job on this machine: a simulated platform, the daemon, a webhook receiver, orders of every kind.

What came out is held against the simulator's own record, not against the daemon's word.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import signal
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

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
from poller.core.orders import State
from poller.demo.results import EXPLAINED, FATES, PARK, Row, fate_of, rows_of, table_of
from poller.intake import Intake
from poller.pyun import Lot
from poller.simulator import FORMS, Record, SimulatedPlatform, WebhookReceiver

RATE = 200  # queries a second
MEAN_SETTLE_S = 3.0
CADENCE = Cadence(initial_delay=0.2, min_interval=0.5, age_fraction=0.1, max_interval=5.0)
BATCH = 500
PATIENCE_S = 120.0  # for the last result, and for each thousand orders as much again
PLAIN_WIDTH = 120  # where the output is no terminal
GIVE_UP_AFTER_S = 0.1  # taken over by a reload once only those orders wait that never settle

Played = tuple[list[Row], Record]


def run(orders: int, seed: int) -> int:
    """Run the demo and print its table.

    Returns 0 only if every order ended right and was told once, 128 and the signal's number where one ended it.
    """
    logs.configure("error", "auto", stream_is_terminal=False, journal=False)
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    ended_by: list[int] = []
    try:
        rows, record = asyncio.run(_until_a_signal(_play(orders, seed, console), ended_by))
    except asyncio.CancelledError:
        return 128 + ended_by[0]
    console.print(table_of(rows))
    wrong = [row for row in rows if not row.correct]
    console.print(EXPLAINED)
    console.print(
        f"{len(rows) - len(wrong)} of {len(rows)} results correct and told once; {len(record)} queries, "
        f"at most {record.max_queries_in_window()} in any second (allowed {RATE}), "
        f"at most {record.max_concurrent_for_one_order()} at once for one order"
    )
    return 1 if wrong or record.max_queries_in_window() > RATE else 0


async def _until_a_signal(playing: Coroutine[None, None, Played], ended_by: list[int]) -> Played:
    """Let the demo play; a signal cancels it, so that it takes its folder away, and is noted."""
    task = asyncio.ensure_future(playing)

    def end(number: int) -> None:
        ended_by.append(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end, number)
    return await task


async def _play(orders: int, seed: int, console: Console) -> Played:
    secret, webhook_secret = secrets.token_hex(16), "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
    numbers = _numbers(orders)
    with tempfile.TemporaryDirectory(prefix="poller-demo-") as folder:
        async with (
            SimulatedPlatform({PARK: secret}, seed=seed, mean_settle_s=MEAN_SETTLE_S) as platform,
            WebhookReceiver(webhook_secret) as receiver,
            asyncio.TaskGroup() as group,
        ):
            config = _config(Path(folder), platform.url, secret, receiver.url, webhook_secret)
            impatient = replace(config, cadence=replace(CADENCE, give_up_after=GIVE_UP_AFTER_S))
            stop, give_up, up = asyncio.Event(), asyncio.Event(), asyncio.get_running_loop().create_future()
            served = group.create_task(
                daemon.serve(config, reload=lambda: impatient, stop=stop, hangup=give_up, ready=up.set_result)
            )
            try:
                door: Intake = await up
                async with aiohttp.ClientSession(f"http://127.0.0.1:{door.address[1]}") as session:
                    await _submit(session, numbers)
                    await _cancel(session, numbers)
                    await _watch(receiver, numbers, console, give_up)
                    states = await _states(session)
            finally:
                stop.set()
            await served
        return rows_of(numbers, states, platform.record, list(receiver.notices.values())), platform.record


def _numbers(orders: int) -> list[str]:
    kinds = [form for form, _ in FORMS if form != "pending"]
    named = [f"{form}-{count:04}" for count, form in enumerate(kinds, start=1)]
    named += [f"{form}-{count:04}" for count, form in enumerate(FATES, start=len(named) + 1)]
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


async def _cancel(session: aiohttp.ClientSession, numbers: Sequence[str]) -> None:
    """Cancel the orders that are for it, as an operator would, once they have been asked about."""
    for number in [one for one in numbers if fate_of(one) is State.CANCELLED]:
        polls = 0
        while not polls:
            await asyncio.sleep(CADENCE.initial_delay)
            async with session.get(f"/v1/orders/{PARK}/{number}") as response:
                polls = (await response.json())["polls"]
        async with session.post(f"/v1/orders/{PARK}/{number}/cancel") as response:
            response.raise_for_status()


async def _watch(
    receiver: WebhookReceiver, numbers: Sequence[str], console: Console, give_up: asyncio.Event
) -> None:
    """Show how many results have arrived, until all have or patience ends; the last to come are given up on."""
    orders, settling = len(numbers), sum(fate_of(number) is not State.EXPIRED for number in numbers)
    columns = (TextColumn("results"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=False) as progress:
        task = progress.add_task("results", total=orders)
        try:
            async with asyncio.timeout(PATIENCE_S * (1 + orders / 1000)):
                while receiver.received_count < orders:
                    await receiver.received(receiver.received_count + 1)
                    progress.update(task, completed=receiver.received_count)
                    if receiver.received_count >= settling:
                        give_up.set()
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
