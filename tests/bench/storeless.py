"""The intake over a desk in memory: `python -m tests.bench.storeless` prints its port and serves until SIGTERM."""

from __future__ import annotations

import asyncio
import signal

import uvloop

from poller import intake
from tests.bench.scripted import PARK
from tests.integration.desk_in_memory import DeskInMemory


async def serve() -> None:
    done = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, done.set)
    door = await intake.start(DeskInMemory([PARK]), host="127.0.0.1", port=0)
    print(door.address[1], flush=True)
    await done.wait()
    await door.stop()


if __name__ == "__main__":
    uvloop.run(serve())
