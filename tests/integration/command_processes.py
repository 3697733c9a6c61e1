"""`poller` as a process of its own: started as it is typed, with what it printed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
SECRET = "s3cr3t-of-the-lot"

Start = Callable[..., Coroutine[Any, Any, Process]]


def configure(folder: Path, *, url: str = "http://127.0.0.1:1/p", listen: str = "", more: str = "") -> Path:
    (folder / "park-1.secret").write_text(SECRET)
    (folder / "park-1.secret").chmod(0o600)
    path = folder / "poller.toml"
    path.write_text(
        f'[platform]\nurl = "{url}"\n[[parks]]\npark_uuid = "{PARK}"\napp_secret_file = "park-1.secret"\n'
        f"[polling]\ninitial_delay_seconds = 0\n"
        f'[intake]\nlisten = "{listen or f"unix:{folder}/poller.sock"}"\n{more}'
    )
    return path


@asynccontextmanager
async def starting() -> AsyncIterator[Start]:
    """Starts `poller` with these words; what still runs at the end is killed."""
    started: list[Process] = []

    async def begin(*words: str | Path, **more: str) -> Process:
        unset = {"STATE_DIRECTORY", "CREDENTIALS_DIRECTORY"}
        environ = {name: value for name, value in os.environ.items() if name not in unset} | more
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "poller", *map(str, words), stdout=PIPE, stderr=PIPE, env=environ
        )
        started.append(process)
        return process

    try:
        yield begin
    finally:
        for process in started:
            if process.returncode is None:
                process.kill()
            await process.communicate()


async def finished(process: Process) -> tuple[int, str, str]:
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def event(process: Process, name: str) -> dict[str, Any]:
    """The next log line of that name; every line before it must be JSON, too."""
    assert process.stdout is not None
    while line := await process.stdout.readline():
        record: dict[str, Any] = json.loads(line)
        if record["event"] == name:
            return record
    raise AssertionError(f"the log ended without {name}: {await finished(process)}")
