"""`poller` in a terminal."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Terminal:
    """A `poller` whose terminal is ours."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    output: str = ""

    async def shows(self, text: str) -> None:
        """Read until the text has been written."""
        async with asyncio.timeout(20):
            while text not in self.output:
                data = await self.reader.read(65536)
                assert data, f"it ended without {text!r}: {self.output}"
                self.output += data.decode()

    async def end(self) -> int:
        """Read to the end; the exit code."""
        async with asyncio.timeout(20):
            while data := await self._rest():
                self.output += data.decode()
            return await self.process.wait()

    async def _rest(self) -> bytes:
        try:
            return await self.reader.read(65536)
        except OSError:  # Linux' way to say that nobody has the terminal open any more
            return b""


@asynccontextmanager
async def terminal(*words: str | Path, width: int = 80, height: int = 24, **more: str) -> AsyncIterator[Terminal]:
    """Start `poller` with these words in a terminal of that size; it is killed at the end if it still runs."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES", "NO_COLOR"}}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "poller", *map(str, words)),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environ, "TERM": "xterm", **more},
    )
    os.close(theirs)
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", buffering=0)
    )
    try:
        yield Terminal(process, reader)
    finally:
        transport.close()
        if process.returncode is None:
            process.kill()
            await process.wait()
