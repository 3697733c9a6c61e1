"""A query on a new connection waits for its place in the rate again: many may have waited to connect."""

from __future__ import annotations

import asyncio

from poller.core.orders import OrderKey
from poller.core.replies import InProgress
from poller.pyun import Lot, PyunPlatform
from poller.simulator import AfterSeconds, Settles, SimulatedPlatform

PARK, SECRET = "lot", "planted"


async def test_nothing_goes_out_on_a_new_connection_before_its_place_and_a_kept_one_needs_none() -> None:
    async with SimulatedPlatform({PARK: SECRET}, script=lambda *_: Settles(AfterSeconds(3600.0))) as simulated:
        waiting, allowed, passed = asyncio.Event(), asyncio.Event(), 0

        async def connected() -> None:
            nonlocal passed
            passed += 1
            waiting.set()
            await allowed.wait()

        platform = PyunPlatform(simulated.url, {PARK: Lot(SECRET)}, timeout=10.0, connected=connected)
        try:
            query = asyncio.create_task(platform.query(OrderKey(PARK, "1")))
            await waiting.wait()
            assert len(simulated.record) == 0
            allowed.set()
            assert isinstance(await query, InProgress)
            assert isinstance(await platform.query(OrderKey(PARK, "2")), InProgress)
            assert (passed, len(simulated.record)) == (1, 2)
        finally:
            await platform.close()
