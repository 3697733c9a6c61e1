"""Following the daemon through its restarts: each notice as it is made, and its summary."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from poller.cli.client import DaemonClient
from poller.cli.refusals import DaemonError

RETRY_S = 1.0
QUIET_S = 60.0  # a stream beats every 15 s

Summary = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """A notice: its id, and `type`, `timestamp` and `data` as the webhook gets them."""

    event_id: str
    notice: dict[str, Any]


async def notices(client: DaemonClient, after: str | None) -> AsyncGenerator[Told, None]:
    """The notices made after that one (None: from now on), until the stream ends. Raises DaemonError."""
    headers = {"Last-Event-ID": after} if after else {}
    async with client.stream("/v1/events", headers, QUIET_S) as content:
        fields: dict[str, str] = {}
        async for raw in content:
            line = raw.decode().rstrip("\r\n")
            name, _, value = line.partition(": ")
            if line:
                fields[name] = value
                continue
            if "data" in fields:
                yield Told(fields["id"], json.loads(fields["data"]))
            fields = {}


async def follow(client: DaemonClient, tell: Callable[[Told], None]) -> None:
    """Tell of every notice from now on, whether or not the daemon restarts. Ends with a DaemonError only."""
    last: str | None = None
    known = False
    while True:
        try:
            if not known:
                newest = (await client.get("/v1/deliveries", {"limit": 1}))["deliveries"]
                last, known = (newest[0]["event_id"] if newest else None), True
            async with aclosing(notices(client, last)) as made:
                async for told in made:
                    last = told.event_id
                    tell(told)
        except DaemonError as error:
            if not error.may_pass:
                raise
        await asyncio.sleep(RETRY_S)


async def summaries(
    client: DaemonClient, every: Callable[[], Coroutine[Any, Any, None]]
) -> AsyncGenerator[Summary | DaemonError, None]:
    """The daemon's summary again and again, or why there is none; `every` waits for the next time.

    The first must be there: raises DaemonError.
    """
    found: Summary | DaemonError = await client.get("/v1/summary")
    while True:
        yield found
        await every()
        try:
            found = await client.get("/v1/summary")
        except DaemonError as error:
            if not error.may_pass:
                raise
            found = error


async def together(*loops: Coroutine[Any, Any, None]) -> None:
    """Run them until one ends or fails; then none runs any more."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
