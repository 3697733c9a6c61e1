"""The bare aiohttp loop that everything is held against: no store, no log, no notice, no rate, no schedule.

`python -m tests.bench.bare URL CONNECTIONS ORDERS QUERIES` asks about each of so many orders so many times, over
so many connections, as fast as it can, and prints one JSON with its seconds and its processor time. It signs its
queries and reads `status`, since without that it would not be asking.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque

import aiohttp

from poller.core.signing import sign
from tests.bench import scripted


async def poll(session: aiohttp.ClientSession, url: str, number: str) -> str:
    """Ask once; the `status`."""
    params = [("park_uuid", scripted.PARK), ("pay_partner", number)]
    params.append(("sign", sign(params, scripted.APP_SECRET)))
    async with session.get(url, params=params) as response:
        return str((await response.json())["status"])


async def loop(url: str, connections: int, numbers: list[str]) -> None:
    """Ask about every number until it is settled, the others in between."""
    waiting = deque(numbers)

    async def work() -> None:
        while waiting:
            number = waiting.popleft()
            if await poll(session, url, number) == "0":
                waiting.append(number)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as session:
        await asyncio.gather(*(work() for _ in range(connections)))


def main(url: str, connections: int, orders: int, queries: int) -> None:
    """Run it and print what it took."""
    numbers = [scripted.after(queries, index) for index in range(orders)]
    started, cpu = time.monotonic(), time.process_time()
    asyncio.run(loop(url, connections, numbers))
    seconds, used = time.monotonic() - started, time.process_time() - cpu
    print(json.dumps({"polls": orders * queries, "seconds": seconds, "cpu": used}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
