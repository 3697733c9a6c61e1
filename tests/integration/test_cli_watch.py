"""`poller watch` where there is no terminal: lines, or objects, of what happens."""

from __future__ import annotations

import asyncio
import json
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from poller.simulator import SimulatedPlatform
from tests.integration.command_processes import PARK, SECRET, Start, configure, event, finished, starting


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with starting() as begin:
        yield begin


@pytest.fixture
async def platform() -> AsyncIterator[SimulatedPlatform]:
    async with SimulatedPlatform({PARK: SECRET}) as simulated:
        yield simulated


async def next_line(process: Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(20):
        return (await process.stdout.readline()).decode()


async def next_object(process: Process, kind: str) -> dict[str, Any]:
    """The next object of that type."""
    while line := await next_line(process):
        document: dict[str, Any] = json.loads(line)
        if document["type"] == kind:
            return document
    raise AssertionError(f"it ended without {kind}: {await finished(process)}")


async def test_watch_streams_an_object_for_each_notice_and_loses_none_over_a_restart(
    platform: SimulatedPlatform, start: Start, tmp_path: Path
) -> None:
    path = configure(tmp_path, url=platform.url)
    daemon = await start("run", "--config", path)
    await event(daemon, "daemon.started")
    watch = await start("watch", "--json", "--config", path)
    assert (await next_object(watch, "platform.up"))["data"]["status"] == "up"
    await next_object(watch, "store.available")
    handed_in = ("settle-0s-1", "settle-2s-2", "--metadata", '{"lane":3}')
    await finished(await start("submit", *handed_in, "--config", path))
    paid = await next_object(watch, "payment.paid")
    assert (paid["data"]["pay_partner"], paid["data"]["metadata"]) == ("settle-0s-1", {"lane": 3})
    assert paid["event_id"].startswith("evt_")
    daemon.kill()
    assert "no daemon listens" in (await next_object(watch, "daemon.gone"))["data"]["error"]
    daemon = await start("run", "--config", path)
    await event(daemon, "order.final")
    assert (await next_object(watch, "payment.paid"))["data"]["pay_partner"] == "settle-2s-2"
    watch.send_signal(signal.SIGTERM)
    code, _, errors = await finished(watch)
    assert (code, errors) == (0, "")


async def test_watch_writes_a_line_for_each_thing_and_ends_with_ctrl_c(
    platform: SimulatedPlatform, start: Start, tmp_path: Path
) -> None:
    path = configure(tmp_path, url=platform.url)
    await event(await start("run", "--config", path), "daemon.started")
    watch = await start("watch", "--config", path)
    assert "the platform is up since" in await next_line(watch)
    assert await next_line(watch)
    await finished(await start("submit", "fail-0s-1", "--metadata", '{"plate":"粤B660PP"}', "--config", path))
    assert (await next_line(watch)).endswith("Z  fail-0s-1  failed  plate 粤B660PP\n")
    watch.send_signal(signal.SIGINT)
    assert await finished(watch) == (0, "", "")


async def test_watch_of_no_daemon_fails_at_once(start: Start, tmp_path: Path) -> None:
    code, output, errors = await finished(await start("watch", "--config", configure(tmp_path)))
    assert (code, output) == (1, "")
    assert errors.startswith(f"poller: no daemon listens on unix:{tmp_path}/poller.sock: start it with ")
