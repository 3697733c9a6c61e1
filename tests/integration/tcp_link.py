"""A TCP connection's way to a server, which can be held up, cut, and cut at a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Link:
    """Passes everything on between whoever connects to `port` and the server, as long as it is whole."""

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.delay = 0.0  # seconds that what comes from the server takes
        self.cut_at: bytes | None = None  # cut once this was passed on to the server, before its answer is
        self._server_port = server_port
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def hold_up(self) -> None:
        """Let nothing through; connections stay."""
        self._flows.clear()

    def let_through(self) -> None:
        self._flows.set()

    def cut(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._writers |= {writer, there_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, there_writer, to_server=True))
                group.create_task(self._pass_on(there_reader, writer, to_server=False))
        finally:
            self._writers -= {writer, there_writer}
            writer.transport.abort()
            there_writer.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_server: bool
    ) -> None:
        try:
            while some := await reader.read(65_536):
                await self._flows.wait()
                if not to_server:
                    await asyncio.sleep(self.delay)
                writer.write(some)
                await writer.drain()
                if to_server and self.cut_at is not None and self.cut_at in some:
                    self.cut_at = None
                    self.hold_up()
        except ConnectionError:
            pass
        writer.transport.abort()


@asynccontextmanager
async def linked(server_port: int) -> AsyncIterator[Link]:
    link = Link(server_port)
    server = await asyncio.start_server(link.connected, "127.0.0.1", 0)
    link.port = server.sockets[0].getsockname()[1]
    try:
        yield link
    finally:
        server.close()
        link.let_through()
        link.cut()
        await asyncio.sleep(0)
