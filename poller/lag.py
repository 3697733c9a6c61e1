"""How late the event loop is: whatever it does takes that much longer than it should."""

from __future__ import annotations

import asyncio

from poller.metrics import Metrics

EVERY_S = 5.0  # seldom enough to let an idle machine sleep


async def measure_lag(metrics: Metrics) -> None:
    """Until it is cancelled, ask the loop for a turn now and then and see how late that comes."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + EVERY_S
        await asyncio.sleep(EVERY_S)
        metrics.lagged(loop.time() - due)
