"""What a service manager hears of the real process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

from poller.simulator import SimulatedPlatform, WebhookReceiver
from tests.acceptance.processes import APP_SECRET, PARK, PATIENCE_S, WEBHOOK_SECRET, Process, Site


async def test_the_manager_hears_ready_alive_and_stopping_and_ready_does_not_wait_for_the_platform(
    tmp_path: Path,
) -> None:
    async with SimulatedPlatform({PARK: APP_SECRET}) as platform:
        await platform.outage("hang")
        site = Site.make(tmp_path / "site", platform.url, None)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.setblocking(False)
            environ = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
            daemon = await Process.start("run", "--config", str(site.config), env=environ)
            try:
                assert (await _hear(manager)).startswith("READY=1")
                assert await _hear(manager) == "WATCHDOG=1"
                daemon.signal(signal.SIGTERM)
                while (said := await _hear(manager)) == "WATCHDOG=1":
                    continue
                assert said.startswith("STOPPING=1")
                assert await daemon.end() == 0
            finally:
                await daemon.kill()


async def test_a_log_that_cannot_be_written_stops_no_order(tmp_path: Path) -> None:
    async with (
        SimulatedPlatform({PARK: APP_SECRET}) as platform,
        WebhookReceiver(WEBHOOK_SECRET) as receiver,
    ):
        site = Site.make(tmp_path / "site", platform.url, receiver.url)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.setblocking(False)
            full = os.open("/dev/full", os.O_WRONLY)
            daemon = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "poller", "run", "--config", str(site.config)),
                stdout=full,
                env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")},
            )
            os.close(full)
            try:
                assert (await _hear(manager)).startswith("READY=1")
                async with site.session() as session:
                    async with session.post("/v1/orders", json={"pay_partner": "settle-1s-1"}) as answer:
                        assert answer.status == 201
                    async with asyncio.timeout(PATIENCE_S):
                        await receiver.received(1)
                daemon.terminate()
                assert await daemon.wait() == 0
            finally:
                if daemon.returncode is None:
                    daemon.kill()
                    await daemon.wait()


async def _hear(manager: socket.socket) -> str:
    async with asyncio.timeout(PATIENCE_S):
        return (await asyncio.get_running_loop().sock_recv(manager, 4096)).decode()
