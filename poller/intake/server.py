"""The intake as a server: its routes, and listening on TCP or on a socket file."""

from __future__ import annotations

import asyncio
import errno
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from aiohttp import web

from poller.intake.answers import answer
from poller.intake.connection import Connection, Limits, Lobby
from poller.intake.deliveries import DeliveryHandlers
from poller.intake.desk_port import Desk
from poller.intake.events import EventHandler
from poller.intake.guard import HostCheck, TokenCheck, guard
from poller.intake.notify import NotifyHandler
from poller.intake.openapi import OpenApiHandler
from poller.intake.orders import OrderHandlers
from poller.intake.page import PageHandler
from poller.intake.problems import CONTENT_TYPE, Problem, answer_errors
from poller.intake.summary import SummaryHandler

BACKLOG = 128
SOCKET_MODE = 0o660


class Intake:
    """A running intake."""

    def __init__(
        self,
        *,
        runner: web.AppRunner,
        listener: asyncio.Server,
        lobby: Lobby,
        token_check: TokenCheck,
        address: tuple[str, int] | str,
        socket_inode: int | None = None,
    ) -> None:
        self._runner = runner
        self._listener = listener
        self._lobby = lobby
        self._token_check = token_check
        self._socket_inode = socket_inode
        self.address = address  # host and port as bound, or the path of the socket file

    def set_token(self, token: str | None) -> None:
        """Ask for this token from now on; None asks for none."""
        self._token_check.change(token)

    async def stop(self) -> None:
        """Take nothing new on, end long polls and streams with what stands, let the rest finish.

        To stop twice does no harm.
        """
        self._listener.close()
        if isinstance(self.address, str):
            _remove_own(Path(self.address), self._socket_inode)
        self._lobby.stop()
        await self._runner.cleanup()


async def start(
    desk: Desk,
    *,
    host: str | None = None,
    port: int | None = None,
    unix_path: str | None = None,
    token: str | None = None,
    limits: Limits | None = None,
    pages: Iterable[web.RouteDef] = (),
) -> Intake:
    """Listen on `host` and `port` (0 or None = any free one), or on a socket file of mode 0660.

    `token` None asks for none. `pages` are routes beside the intake's own, behind the same guard.
    Raises OSError where the address cannot be had, with EADDRINUSE where another process listens there.
    """
    lobby = Lobby(limits or Limits())
    token_check = TokenCheck(token)
    host_check = HostCheck(host) if unix_path is None else None
    app = build(desk, lobby.limits, token_check, host_check, pages)
    runner = web.AppRunner(app, shutdown_timeout=lobby.limits.drain_seconds)
    await runner.setup()
    try:
        listener, address, inode = await _listen(runner, lobby, host, port or 0, unix_path)
    except BaseException:
        await runner.cleanup()
        raise
    return Intake(
        runner=runner,
        listener=listener,
        lobby=lobby,
        token_check=token_check,
        address=address,
        socket_inode=inode,
    )


async def _listen(
    runner: web.AppRunner, lobby: Lobby, host: str | None, port: int, unix_path: str | None
) -> tuple[asyncio.Server, tuple[str, int] | str, int | None]:
    loop = asyncio.get_running_loop()
    server = cast("web.Server", runner.server)  # there since `setup`

    def connect() -> Connection:
        return Connection(server, lobby, loop)

    if unix_path is not None:
        sock, inode = _bind(Path(unix_path))
        listener = await loop.create_unix_server(connect, sock=sock, backlog=BACKLOG)
        return listener, unix_path, inode
    listener = await loop.create_server(connect, host, port, backlog=BACKLOG)
    bound = listener.sockets[0].getsockname()
    return listener, (str(bound[0]), int(bound[1])), None


def build(
    desk: Desk,
    limits: Limits,
    token_check: TokenCheck,
    host_check: HostCheck | None,
    pages: Iterable[web.RouteDef] = (),
) -> web.Application:
    """The application: every route of the intake behind its guard."""
    app = web.Application(
        middlewares=[answer_errors(), guard(token_check, host_check)], client_max_size=limits.body_bytes
    )
    orders, deliveries = OrderHandlers(desk, limits), DeliveryHandlers(desk)

    async def healthz(request: web.Request) -> web.Response:
        return answer(desk.health())

    async def readyz(request: web.Request) -> web.Response:
        ready, state = desk.readiness()
        return answer(state, 200 if ready else 503)

    order = "/v1/orders/{park_uuid:[^/]+}/{pay_partner:[^/]+}"
    app.router.add_routes(
        [
            web.post("/v1/orders", orders.submit, expect_handler=_expect),
            web.get("/v1/orders", orders.list_orders),
            web.get(order, orders.show),
            web.get(f"{order}/history", orders.history),
            web.post(f"{order}/poll", orders.poll, expect_handler=_expect),
            web.post(f"{order}/cancel", orders.cancel, expect_handler=_expect),
            web.post(f"{order}/reopen", orders.reopen, expect_handler=_expect),
            web.post("/v1/notify", NotifyHandler(desk, limits).notify, expect_handler=_expect),
            web.get("/v1/deliveries", deliveries.list_deliveries),
            web.post("/v1/deliveries/{event_id:[^/]+}/retry", deliveries.retry, expect_handler=_expect),
            web.get("/v1/events", EventHandler(desk, limits).stream, allow_head=False),
            web.get("/v1/summary", SummaryHandler(desk).show),
            web.get("/", PageHandler().show),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
            web.get("/openapi.json", OpenApiHandler().show),
            *pages,
        ]
    )
    return app


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Answer `Expect: 100-continue`; aiohttp asks this before any middleware."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        problem = Problem(417, "the only expectation that is met is 100-continue; leave Expect out")
        raise web.HTTPExpectationFailed(text=problem.body().decode(), content_type=CONTENT_TYPE)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0
    return None


def _bind(path: Path) -> tuple[socket.socket, int]:
    """A bound socket file and its inode. One that was left behind is replaced, one that is listened on is not."""
    if path.is_socket():
        _remove_stale(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(str(path))
        path.chmod(SOCKET_MODE)  # before anyone can connect: it does not listen yet
    except BaseException:
        sock.close()
        raise
    return sock, path.stat().st_ino


def _remove_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
    raise OSError(errno.EADDRINUSE, "another process listens on this socket file", str(path))


def _remove_own(path: Path, inode: int | None) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if stat.S_ISSOCK(status.st_mode) and status.st_ino == inode:
        path.unlink(missing_ok=True)
