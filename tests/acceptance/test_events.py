"""The stream of notices across deaths of the daemon: nothing missed, nothing twice."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import aiohttp
import pytest

from poller.simulator import AfterSeconds, Settles, SimulatedPlatform
from tests.acceptance.processes import APP_SECRET, PARK, Process, Site

pytestmark = pytest.mark.timeout(120)


class Reader:
    """A reader of `/v1/events` that comes back with the last id it saw, as a browser does."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.seen: list[tuple[str, str, str]] = []  # id, type and order's number of each notice

    async def read(self, count: int, ready: asyncio.Event | None = None) -> None:
        """Read until `count` notices have been seen in all, or the stream ends."""
        last = {"Last-Event-ID": self.seen[-1][0]} if self.seen else {}
        async with self._site.session() as session, session.get("/v1/events", headers=last) as response:
            assert response.status == 200
            while len(self.seen) < count:
                try:
                    block = await response.content.readuntil(b"\n\n")
                except aiohttp.ClientPayloadError:
                    return
                if not block.endswith(b"\n\n"):
                    return  # cut off: a reader drops what is not whole
                if ready is not None:
                    ready.set()
                lines = [line for line in block.decode().split("\n") if line and not line.startswith(":")]
                fields = dict(line.split(": ", 1) for line in lines)
                if "data" in fields:
                    number = json.loads(fields["data"])["data"]["pay_partner"]
                    self.seen.append((fields["id"], fields["event"], number))


async def hand_in(site: Site, numbers: range) -> None:
    async with site.session() as session:
        batch = [{"pay_partner": f"{number}"} for number in numbers]
        async with session.post("/v1/orders", json=batch) as answer:
            assert {item["status"] for item in await answer.json()} == {201}


async def finals(daemon: Process, count: int) -> list[str]:
    return [record["event_id"] for record in await daemon.logged("order.final", count)]


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
async def test_a_reader_misses_nothing_and_sees_nothing_twice_over_a_restart(
    tmp_path: Path, ending: signal.Signals
) -> None:
    """Notices of before, while nobody read, of the daemon's last moments, and of after the restart."""
    scenario = Settles(AfterSeconds(0.1))
    async with SimulatedPlatform({PARK: APP_SECRET}, script=lambda _, __: scenario) as platform:
        site = Site.make(tmp_path / "site", platform.url, None, initial_delay_seconds=0.2)
        reader = Reader(site)
        made: list[str] = []
        async with site.running() as daemon:
            await hand_in(site, range(5))
            made += await finals(daemon, 5)  # before anybody read: a new reader starts from now on
            before = set(made)
            ready = asyncio.Event()
            reading = asyncio.create_task(reader.read(1000, ready))
            await ready.wait()
            await hand_in(site, range(5, 45))
            await daemon.logged("order.final", 20)
            daemon.signal(ending)
            await daemon.end()
            await reading
            cut = len(reader.seen)
        async with site.running() as daemon:
            await hand_in(site, range(45, 60))
            await daemon.logged("order.accepted", 15)
            async with asyncio.timeout(30):
                await reader.read(55)
            assert await _deliveries(site) == [*sorted(before, key=made.index), *(one[0] for one in reader.seen)]
    assert 0 < cut < 55
    assert len({number for _, _, number in reader.seen}) == 55
    assert {kind for _, kind, _ in reader.seen} == {"payment.paid"}


async def _deliveries(site: Site) -> list[str]:
    """The ids of all notices that the daemon keeps, oldest first."""
    async with site.session() as session, session.get("/v1/deliveries", params={"limit": 1000}) as answer:
        return [one["event_id"] for one in reversed((await answer.json())["deliveries"])]
