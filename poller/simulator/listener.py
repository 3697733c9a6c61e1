"""A port that can be listened on, refused, and listened on again."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

_CLOSING_S: Final = 0.05  # for handlers whose connection is gone already
_BACKLOG: Final = 1024

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Listener:
    """Serves `handler` at `host`:`port`; port 0 takes a free one. A handler is cancelled when its client goes."""

    def __init__(self, handler: Handler, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._handler = handler
        self._socket: socket.socket | None = None
        self._web: web.Server | None = None
        self._server: asyncio.Server | None = None

    @property
    def origin(self) -> str:
        """`http://HOST:PORT`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def listen(self) -> None:
        """Take connections; nothing happens where that is so already. Raises OSError where the port is taken."""
        if self._server:
            return
        bound = self._socket or self._bind()
        self._web = web.Server(self._handler, handler_cancellation=True, access_log=None)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._web, sock=bound, backlog=_BACKLOG)

    async def refuse(self) -> None:
        """Close every connection and refuse new ones. The port stays taken: bound, but not listened on."""
        await self.close()
        self._bind()

    async def close(self) -> None:
        """Close every connection and give the port free."""
        server, serving, bound = self._server, self._web, self._socket
        self._server = self._web = self._socket = None  # first: whoever is cancelled below can listen again
        if server and serving:
            server.close()
            for connection in serving.connections:
                connection.force_close()
            await asyncio.sleep(0)
            await serving.shutdown(_CLOSING_S)
            await server.wait_closed()
        elif bound:
            bound.close()

    def _bind(self) -> socket.socket:
        family, kind, protocol, _, address = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            bound.setblocking(False)
        except OSError:
            bound.close()
            raise
        self._socket = bound
        self.port = bound.getsockname()[1]
        return bound


def hang_up(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection without a reply."""
    if request.transport:
        request.transport.close()
    return web.Response()
