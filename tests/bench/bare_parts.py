"""What the same job costs by bare parts: aiohttp's server and client, one table of SQLite, lines of JSON.

`python -m tests.bench.bare_parts FOLDER URL` takes orders on, each with a sync of the disk before the answer,
asks about them at URL as the bare loop does, writes down how they end, tells the webhook there, and writes that
down. It does nothing else of what the daemon does: no rate, no checks, no lists, no history, no second try, no
restart. So it shows how much of the daemon's cost is that of its parts. `-` for a folder keeps nothing, `-` for a
URL asks nobody. It prints its port and serves until SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sqlite3
import sys
import threading
import time
from collections import deque
from pathlib import Path
from queue import SimpleQueue

import aiohttp
import uvloop
from aiohttp import web

from poller.core.cadence import Cadence
from tests.bench.bare import poll

TAKE_ON = "INSERT INTO orders (number, state) VALUES (?, 'pending')"
END = "UPDATE orders SET state = 'paid' WHERE number = ?"
TOLD = "UPDATE orders SET told = 1 WHERE number = ?"

Job = tuple[str, str, asyncio.Future[None]]


class GroupCommit:
    """One thread that commits what waits in one transaction, synced."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[Job] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._connection = sqlite3.connect(folder / "bare.db", isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE orders (id INTEGER PRIMARY KEY, number TEXT UNIQUE, state TEXT, told INTEGER)"
        )
        self._log = (folder / "log").open("ab", buffering=0)
        threading.Thread(target=self._run, daemon=True).start()

    async def do(self, statement: str, number: str) -> None:
        """Run one statement; it is on disk on return."""
        future: asyncio.Future[None] = self._loop.create_future()
        if not self._jobs:
            self._loop.call_soon(self._bell.put, None)
        self._jobs.append((statement, number, future))
        await future

    def log(self, event: str, number: str) -> None:
        """One line, in one write."""
        line = json.dumps({"event": event, "timestamp": time.time(), "pay_partner": number})
        self._log.write(f"{line}\n".encode())

    def _run(self) -> None:
        while True:
            self._bell.get()
            jobs = [self._jobs.popleft() for _ in range(len(self._jobs))]
            self._connection.execute("BEGIN IMMEDIATE")
            for statement, number, _ in jobs:
                self._connection.execute(statement, (number,))
            self._connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_resolve, jobs)


def _resolve(jobs: list[Job]) -> None:
    for _, _, future in jobs:
        future.set_result(None)


class Parts:
    """The handler of new orders, and what becomes of one."""

    def __init__(self, store: GroupCommit | None, url: str | None, session: aiohttp.ClientSession) -> None:
        self._store = store
        self._url = url
        self._session = session
        self._cadence = Cadence()
        self._followed: set[asyncio.Task[None]] = set()

    async def take_on(self, request: web.Request) -> web.Response:
        number = (await request.json())["pay_partner"]
        if self._store is not None:
            await self._store.do(TAKE_ON, number)
            self._store.log("order.accepted", number)
        if self._url is not None:
            task = asyncio.create_task(self._follow(self._url, number))
            self._followed.add(task)
            task.add_done_callback(self._followed.discard)
        return web.json_response({"pay_partner": number, "state": "pending"}, status=201)

    async def _follow(self, url: str, number: str) -> None:
        assert self._store is not None
        began = time.monotonic()
        pause = self._cadence.initial_delay
        while True:
            await asyncio.sleep(pause)
            if await poll(self._session, f"{url}/x", number) != "0":
                break
            pause = self._cadence.gap(time.monotonic() - began, random.random())
        await self._store.do(END, number)
        self._store.log("order.final", number)
        notice = json.dumps({"data": {"pay_partner": number}}, separators=(",", ":"))
        async with self._session.post(f"{url}/notices", data=notice) as response:
            await response.read()
        await self._store.do(TOLD, number)


async def serve(folder: str, url: str) -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as session:
        store = None if folder == "-" else GroupCommit(Path(folder))
        parts = Parts(store, None if url == "-" else url, session)
        application = web.Application()
        application.router.add_post("/v1/orders", parts.take_on)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await done.wait()
        await runner.cleanup()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:3]))
