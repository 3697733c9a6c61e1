"""The running daemon, asked over its intake."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import click
from yarl import URL

from poller.cli import service
from poller.cli.failing import Failed, NeedsAPerson
from poller.cli.refusals import DaemonError, RefusedError, UnreachableError, no_order, refused, unreached
from poller.config import ClientSettings, ConfigError, Listen, load_for_client

PAGE = 500  # of the 1,000 that the intake gives at most
ANSWER_S = 15.0  # how long the daemon may take to answer, beside a wait that it was asked for
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # where it listens on all, it is asked on loopback

T = TypeVar("T")


class DaemonClient:
    """A conversation with the daemon, as an async context manager. Every call raises DaemonError.

    `config` is the file that the settings are from; an answer may take `answer_s` seconds.
    """

    def __init__(self, settings: ClientSettings, config: Path, *, answer_s: float = ANSWER_S) -> None:
        self.config = config
        self.listen = settings.intake.listen
        self.park_uuids = settings.park_uuids
        self._settings = settings
        self._answer_s = answer_s

    async def __aenter__(self) -> Self:
        path, token = self.listen.unix_path, self._settings.intake.token
        # Long polls of many orders hold a connection each, so their number is not limited here.
        connector = aiohttp.UnixConnector(path, limit=0) if path else aiohttp.TCPConnector(limit=0)
        headers = {"Authorization": f"Bearer {token}"} if token else None
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
        if len(self.park_uuids) != 1:
            known = ", ".join(self.park_uuids) or "none is configured"
            raise click.UsageError(f"say which lot with --park ({known})")
        return self.park_uuids[0]

    async def get(self, path: str, query: Mapping[str, object] | None = None, *, patience: float = 0.0) -> Any:
        """Ask for a document. `patience` is in seconds, on top of the usual time for an answer."""
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return await self._ask("GET", f"{path}?{urlencode(given)}" if given else path, patience=patience)

    async def post(self, path: str, document: object = None) -> Any:
        """Ask for a change."""
        return await self._ask("POST", path, document)

    async def order(
        self, park_uuid: str, pay_partner: str, part: str = "", query: Mapping[str, object] | None = None
    ) -> Any:
        """An order, as soon as it is final where `query` has `wait` seconds, or a part of it, as `history`."""
        patience = float(str((query or {}).get("wait", 0)))
        with self._about_order(park_uuid, pay_partner):
            return await self.get(order_path(park_uuid, pay_partner, part), query, patience=patience)

    async def act(self, park_uuid: str, pay_partner: str, action: str) -> Any:
        """Do something to an order: `poll`, `cancel` or `reopen`."""
        with self._about_order(park_uuid, pay_partner):
            return await self.post(order_path(park_uuid, pay_partner, action))

    async def readiness(self) -> Any:
        """`/readyz`, whether it is ready or not; no token is needed."""
        return await self._ask("GET", "/readyz", also=503)

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

    @asynccontextmanager
    async def stream(
        self, path: str, headers: Mapping[str, str], quiet_s: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """An answer without an end; it may say nothing for `quiet_s` seconds."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._answer_s, sock_read=quiet_s)
        with self._reaching():
            async with self._session.get(self._url(path), headers=headers, timeout=timeout) as response:
                if response.status != 200:
                    raise refused(self._settings, self.config, response.status, await response.read())
                yield response.content

    async def _ask(
        self, method: str, path: str, document: object = None, patience: float = 0.0, also: int = 200
    ) -> Any:
        with self._reaching():
            async with self._session.request(
                method,
                self._url(path),
                json=document,
                timeout=aiohttp.ClientTimeout(total=self._answer_s + patience),
                allow_redirects=False,
            ) as response:
                status, body = response.status, await response.read()
        if not 200 <= status < 300 and status != also:
            raise refused(self._settings, self.config, status, body)
        try:
            return json.loads(body)
        except ValueError:
            raise refused(self._settings, self.config, status, body) from None

    def _url(self, path: str) -> URL:
        return URL(f"http://{_authority(self.listen)}{path}", encoded=True)

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            raise UnreachableError(f"the daemon at {self.listen} does not answer: look at its log") from None
        except (aiohttp.ClientError, OSError) as error:
            raise unreached(self.listen, self.config, error) from None

    @contextmanager
    def _about_order(self, park_uuid: str, pay_partner: str) -> Iterator[None]:
        try:
            yield
        except RefusedError as error:
            if error.status != 404:
                raise
            raise RefusedError(404, no_order(pay_partner, park_uuid, self.park_uuids)) from None


def order_path(park_uuid: str, pay_partner: str, part: str = "") -> str:
    """The path of an order, its two names percent-encoded as one segment each."""
    path = f"/v1/orders/{quote(park_uuid, safe='')}/{quote(pay_partner, safe='')}"
    return f"{path}/{part}" if part else path


def talk(config: Path, conversation: Callable[[DaemonClient], Awaitable[T]]) -> T:
    """Have a conversation with the daemon that the configuration file names, and end the command if it fails."""

    async def have() -> T:
        async with DaemonClient(settings, config) as client:
            return await conversation(client)

    try:
        settings = load_for_client(config, os.environ)
        return asyncio.run(have())
    except ConfigError as error:
        raise NeedsAPerson(*error.faults, *service.remedies(error.faults)) from None
    except DaemonError as error:
        raise Failed(str(error)) from None


def _authority(listen: Listen) -> str:
    if listen.unix_path is not None:
        return "localhost"
    return str(Listen(ANY_ADDRESS.get(listen.host, listen.host), listen.port))
