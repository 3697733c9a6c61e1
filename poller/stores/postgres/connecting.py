"""The way to whichever of the servers takes writes, and what is known of it: whose life it is in.

A server that crashes, and a standby that is promoted, begin another life: what was committed without waiting for
the disk or for a standby may not be in it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import asyncpg  # type: ignore[import-untyped]

from poller.ports import StoreUnavailableError
from poller.stores.postgres.address import READ_WRITE, WEAK, Address, Server
from poller.stores.postgres.connection import Connection

STAGGER_S = 0.5  # after which the next server is tried beside one that has not answered

# Statistics survive a clean stop alone, so their beginning tells a crash; each promotion begins a timeline.
_LOOK = (
    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', CASE WHEN pg_is_in_recovery() "
    "THEN NULL ELSE pg_walfile_name(pg_current_wal_lsn()) END, (SELECT stats_reset::text FROM pg_stat_bgwriter)"
)
T = TypeVar("T")


class Life(NamedTuple):
    """Of a database: no two are the same, and a later timeline has taken over from the earlier ones."""

    timeline: int
    since: str


class Servers:
    """Those of one store, as all of its connections know them; `life` is the latest that any of them has met.

    Those in `on_new_life` are told of it then, since what they wait for may never answer.
    """

    def __init__(self, address: Address, command_timeout: float) -> None:
        """Raises StoreUnavailableError where the certificates that the url names cannot be read."""
        self.address = address
        self.life: Life | None = None
        self.on_new_life: list[Callable[[Life], None]] = []
        needs_it = any(self._is_verified(server) for server in address.servers)
        self._verified = _verified(address) if needs_it else None
        self._command_timeout = command_timeout
        self._order = deque(address.servers)

    async def connect(self, seconds: float, settings: Mapping[str, str]) -> tuple[Connection, Life | None]:
        """A connection to the first that will do, the one that did last time being asked first.

        Raises StoreUnavailableError, TimeoutError and the driver's errors.
        """
        async with asyncio.timeout(seconds):
            server, connection, life = await self._first(settings, seconds)
        try:
            self._met(server, life)
        except BaseException:
            connection.terminate()
            raise
        return connection, life

    async def _first(self, settings: Mapping[str, str], seconds: float) -> tuple[Server, Connection, Life | None]:
        waiting, faults = deque(self._order), list[BaseException]()
        trying: set[asyncio.Task[tuple[Server, Connection, Life | None]]] = set()
        try:
            while waiting or trying:
                if waiting:
                    trying.add(asyncio.create_task(self._reach(waiting.popleft(), settings, seconds)))
                patience = STAGGER_S if waiting else None
                done, _ = await asyncio.wait(trying, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    trying.remove(task)
                    if (fault := task.exception()) is None:
                        return task.result()
                    faults.append(fault)
        finally:
            for task in trying:
                task.cancel()
            for ended in await asyncio.gather(*trying, return_exceptions=True):
                if not isinstance(ended, BaseException):
                    ended[1].terminate()  # another was quicker
        raise min(faults, key=_says_little)

    async def _reach(
        self, server: Server, settings: Mapping[str, str], seconds: float
    ) -> tuple[Server, Connection, Life | None]:
        try:
            connection: Connection = await asyncpg.connect(
                self.address.url,
                host=server.host,
                port=server.port,
                password=self.address.password,
                ssl=self._tls(server),
                timeout=seconds,
                command_timeout=self._command_timeout,
                target_session_attrs="any",
                server_settings=dict(settings),
            )
        except (asyncpg.UndefinedObjectError, asyncpg.CantChangeRuntimeParamError) as error:
            raise StoreUnavailableError(
                f"PostgreSQL at {server} does not know what [store] url asks of it ({error}): take it out there"
            ) from error
        except ConnectionError as error:
            if "rejected SSL" in str(error):
                raise StoreUnavailableError(
                    f"PostgreSQL at {server} offers no TLS: set ssl = on there; where nobody else is on the way "
                    "to it, sslmode=disable in [store] url goes without"
                ) from error
            raise
        try:
            return server, connection, await self._look(server, connection, settings)
        except BaseException:
            connection.terminate()
            raise

    async def _look(self, server: Server, connection: Connection, settings: Mapping[str, str]) -> Life | None:
        [(is_standby, is_read_only, segment, since)] = await connection.fetch(_LOOK)
        wants_it_so = settings.get("default_transaction_read_only") == "on"
        reads_only = is_read_only and not wants_it_so and self.address.target == READ_WRITE
        if (is_standby and self.address.target != "any") or reads_only:
            raise StoreUnavailableError(
                f"PostgreSQL at {server} takes no writes (it is a standby, or set read-only), and none of the "
                "others can be reached: promote a standby, or start the primary"
            )
        return None if segment is None else Life(int(segment[:8], 16), since)

    def _met(self, server: Server, life: Life | None) -> None:
        known = self.life
        if life is not None and known is not None and life.timeline < known.timeline:
            self._order.rotate(-1)
            raise StoreUnavailableError(
                f"PostgreSQL at {server} has been superseded by a standby that was promoted (timeline "
                f"{life.timeline}, not {known.timeline}): stop it, and make it a standby of the new primary; "
                "where it is the right one, restart this daemon"
            )
        self._order.rotate(-self._order.index(server))
        if life is not None and life != known:
            self.life = life
            for tell in self.on_new_life:
                tell(life)

    def _tls(self, server: Server) -> ssl.SSLContext | str | None:
        if self._is_verified(server):
            return self._verified
        return self.address.mode if self.address.tls is None else self.address.tls

    def _is_verified(self, server: Server) -> bool:
        """Whether the server has to show a certificate that is believed, where nobody gave another context."""
        mode = self.address.mode
        return self.address.tls is None and mode not in WEAK and not (mode is None and server.is_here)


def _says_little(fault: BaseException) -> int:
    """Of what is wrong with several servers; a dead one beside a live standby says little."""
    if isinstance(fault, OSError | asyncpg.CannotConnectNowError) and not isinstance(fault, ssl.SSLError):
        return 2
    return int(isinstance(fault, StoreUnavailableError))


def _verified(address: Address) -> ssl.SSLContext:
    """Believes the CAs that are named, or the system's, and the server's own name."""
    try:
        context = ssl.create_default_context(cafile=address.authority)
        context.check_hostname = address.mode != "verify-ca"
        if address.identity is not None:
            context.load_cert_chain(*address.identity)
    except OSError as error:  # an SSLError is one
        raise StoreUnavailableError(
            f"the certificates that [store] url names cannot be used ({error}): correct sslrootcert, sslcert or "
            "sslkey"
        ) from error
    return context
