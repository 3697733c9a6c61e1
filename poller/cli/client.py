"""The running daemon, asked over its intake."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import click
from yarl import URL

from poller.cli.failing import Failed, NeedsAPerson
from poller.config import ClientSettings, ConfigError, Listen, load_for_client

PAGE = 500  # of the 1,000 that the intake gives at most
ANSWER_S = 15.0  # how long the daemon may take to answer, beside a wait that it was asked for
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where it listens on all, it is asked on loopback

T = TypeVar("T")


class DaemonError(Exception):
    """The daemon could not be asked, or refused. The message is one line for people."""


class NotRunningError(DaemonError):
    """Nothing listens where the daemon would."""


class DaemonClient:
    """A conversation with the daemon, as an async context manager. Every call raises DaemonError."""

    def __init__(self, settings: ClientSettings) -> None:
        self._listen = settings.intake.listen
        self._token = settings.intake.token
        self._park_uuids = settings.park_uuids

    async def __aenter__(self) -> Self:
        path = self._listen.unix_path
        # Long polls of many orders hold a connection each, so their number is not limited here.
        connector = aiohttp.UnixConnector(path, limit=0) if path else aiohttp.TCPConnector(limit=0)
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else None
        self._session = aiohttp.ClientSession(connector=connector, headers=headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    def park(self, given: str | None) -> str:
        """The lot that is meant: the one given or the only one configured. Raises click.UsageError."""
        if given is not None:
            return given
        if len(self._park_uuids) != 1:
            known = ", ".join(self._park_uuids) or "none is configured"
            raise click.UsageError(f"say which lot with --park ({known})")
        return self._park_uuids[0]

    async def get(self, path: str, query: Mapping[str, object] | None = None, *, patience: float = 0.0) -> Any:
        """Ask for a document. `patience` is in seconds, on top of the usual time for an answer."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return await self._ask("GET", f"{path}?{urlencode(given)}" if given else path, patience=patience)

    async def post(self, path: str, document: object = None) -> Any:
        """Ask for a change."""
        return await self._ask("POST", path, document)

    async def pages(self, member: str, query: Mapping[str, object], limit: int | None) -> AsyncIterator[Any]:
        """The items of `/v1/MEMBER`, page by page, at most `limit`."""
        left, after = limit, None
        while left is None or left > 0:
            page = await self.get(f"/v1/{member}", {**query, "limit": min(left or PAGE, PAGE), "after": after})
            for item in page[member]:
                yield item
            after = page["next"]
            if after is None:
                return
            left = None if left is None else left - len(page[member])

    async def _ask(self, method: str, path: str, document: object = None, patience: float = 0.0) -> Any:
        try:
            async with self._session.request(
                method,
                URL(f"http://{_authority(self._listen)}{path}", encoded=True),
                json=document,
                timeout=aiohttp.ClientTimeout(total=ANSWER_S + patience),
                allow_redirects=False,
            ) as response:
                status, body = response.status, await response.read()
        except TimeoutError:
            raise DaemonError(f"the daemon at {self._listen} does not answer") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _unreached(self._listen, error) from None
        return _document(self._listen, status, body)


def order_path(park_uuid: str, pay_partner: str, action: str = "") -> str:
    """The path of an order, its two names percent-encoded as one segment each."""
    path = f"/v1/orders/{quote(park_uuid, safe='')}/{quote(pay_partner, safe='')}"
    return f"{path}/{action}" if action else path


def talk(config: Path, conversation: Callable[[DaemonClient], Awaitable[T]]) -> T:
    """Have a conversation with the daemon that the configuration file names, and end the command if it fails."""

    async def have() -> T:
        async with DaemonClient(settings) as client:
            return await conversation(client)

    try:
        settings = load_for_client(config, os.environ)
        return asyncio.run(have())
    except ConfigError as error:
        raise NeedsAPerson(*error.faults) from None
    except DaemonError as error:
        raise Failed(str(error)) from None


def _authority(listen: Listen) -> str:
    if listen.unix_path is not None:
        return "localhost"
    return str(Listen(ANY_ADDRESS.get(listen.host, listen.host), listen.port))


def _unreached(listen: Listen, error: Exception) -> DaemonError:
    cause = getattr(error, "os_error", error)
    if isinstance(cause, PermissionError):
        return DaemonError(
            f"the daemon's socket file {listen.unix_path} may not be used by this user: join its group"
        )
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError):
        return NotRunningError(f"no daemon listens on {listen}: start it with `poller run`")
    return DaemonError(f"the daemon at {listen} cannot be asked: {str(error) or type(error).__name__}")


def _document(listen: Listen, status: int, body: bytes) -> Any:
    try:
        document = json.loads(body)
    except ValueError:
        raise DaemonError(f"what listens on {listen} is not poller's daemon (HTTP {status})") from None
    if 200 <= status < 300:
        return document
    detail = document.get("detail") if isinstance(document, dict) else None
    raise DaemonError(" ".join(str(detail or f"the daemon refused: HTTP {status}").split()))
