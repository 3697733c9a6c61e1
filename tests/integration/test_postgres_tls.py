"""PostgreSQL over TLS: who is believed, and what is said where nobody is. Debian's PostgreSQL has TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from poller.cli.probes import look_at_store
from poller.ports import StoreUnavailableError
from poller.stores.postgres import PostgresStore
from poller.stores.postgres.address import Server
from tests.integration.certificates import Authority
from tests.integration.postgres_server import PostgresServer, beside, schema_for, shared_server
from tests.integration.postgres_stores import opened
from tests.integration.store_engines import take_on

TLS = (
    "SELECT count(*) > 0 AND bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity USING (pid) "
    "WHERE application_name = 'poller'"
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    authority = Authority(tmp_path_factory.mktemp("authority"))
    authority.found()
    authority.issue("localhost", 2)
    return authority


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[PostgresServer]:
    """Its certificate is for `localhost`, and not for the address."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("needs a PostgreSQL that was built with TLS: apt-get install postgresql")
    server = PostgresServer(programs[-1])
    try:
        server.speak_tls(authority.folder / "server.pem", authority.folder / "server.key")
        yield server
    finally:
        server.remove()


@pytest.fixture
def url(server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """As if it were on another machine."""
    monkeypatch.setattr(Server, "is_here", False)
    return server.url(schema_for(tmp_path)).replace("127.0.0.1", "localhost")


async def test_a_certificate_of_a_believed_authority_is_believed(url: str, authority: Authority) -> None:
    async with opened(f"{url}&sslrootcert={authority.certificate}") as store:
        await take_on(store, "a")
        async with beside(f"{url}&sslmode=require") as other:
            assert await other.fetchval(TLS)


async def test_by_default_only_the_systems_authorities_are_believed(url: str) -> None:
    with pytest.raises(
        StoreUnavailableError, match=r"not believed \(.*\): name the file of its CA as sslrootcert"
    ):
        await PostgresStore.open(url)


async def test_another_machines_certificate_is_not_believed(url: str, authority: Authority) -> None:
    by_address = url.replace("localhost", "127.0.0.1") + f"&sslrootcert={authority.certificate}"
    with pytest.raises(StoreUnavailableError, match=r"not believed \(.*IP address mismatch.*the host there as"):
        await PostgresStore.open(by_address)
    async with opened(f"{by_address}&sslmode=verify-ca") as store:
        await take_on(store, "a")


async def test_a_weaker_mode_is_respected_and_told(url: str) -> None:
    async with opened(f"{url}&sslmode=require") as store:
        await take_on(store, "a")
    found = await look_at_store(f"{url}&sslmode=require", None)
    assert (found.ok, found.mend[:36]) == (True, "take sslmode out of [store] url, or ")


async def test_a_server_without_tls_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = shared_server().url(schema_for(tmp_path))
    monkeypatch.setattr(Server, "is_here", False)
    with pytest.raises(StoreUnavailableError, match=r"offers no TLS: set ssl = on there"):
        await PostgresStore.open(plain)
    async with opened(f"{plain}&sslmode=disable") as store:
        await take_on(store, "a")


async def test_a_file_of_authorities_that_is_none_is_named(tmp_path: Path) -> None:
    plain = shared_server().url(schema_for(tmp_path))
    (tmp_path / "empty.pem").touch()
    for name in ("missing.pem", "empty.pem"):
        with pytest.raises(StoreUnavailableError, match="correct sslrootcert"):
            await PostgresStore.open(f"{plain}&sslmode=verify-full&sslrootcert={tmp_path / name}")
