"""`poller check` where the store is in PostgreSQL: could a daemon use it? Nothing there is changed."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from poller.cli import main
from poller.stores.postgres import PostgresStore, lines, schema
from poller.stores.postgres.schema import Expands
from tests.integration.command_processes import configure
from tests.integration.postgres_server import beside, schema_for, shared_server

SCHEMAS = "SELECT count(*) FROM pg_namespace WHERE nspname = $1"


@pytest.fixture
def name(tmp_path: Path) -> str:
    return schema_for(tmp_path)


@pytest.fixture
def url(name: str) -> str:
    return shared_server().url(name)


async def check(folder: Path, url: str) -> tuple[int, dict[str, Any]]:
    """The exit code of the whole check, whose platform is reached, and what it says of the store."""
    with socket.create_server(("127.0.0.1", 0)) as platform:
        port = platform.getsockname()[1]
        config = configure(folder, url=f"http://127.0.0.1:{port}/p", more=f'[store]\nurl = "{url}"\n')
        command = ["check", "--json", "--config", str(config)]
        result = await asyncio.to_thread(CliRunner().invoke, main, command)
    findings = {line["what"]: line for line in map(json.loads, result.stdout.splitlines())}
    return result.exit_code, findings["store"]


async def made(url: str) -> None:
    await (await PostgresStore.open(url)).close()


@asynccontextmanager
async def somebody(url: str, name: str, *rights: str) -> AsyncIterator[str]:
    """The url of a user who has these rights alone."""
    user = f"user_{name}"
    async with beside(url) as owner:
        await owner.execute(f"CREATE ROLE {user} LOGIN")
        try:
            for right in rights:
                await owner.execute(f"{right} TO {user}")
            yield url.replace("//poller@", f"//{user}@")
        finally:
            await owner.execute(f"DROP OWNED BY {user}")
            await owner.execute(f"DROP ROLE {user}")


def reached() -> str:
    return (
        f"PostgreSQL at 127.0.0.1:{shared_server().port}/postgres is reached, and this user may do what is needed"
    )


async def test_where_there_are_no_tables_yet_they_will_be_made_and_are_not_made_now(
    tmp_path: Path, url: str, name: str
) -> None:
    code, store = await check(tmp_path, url)
    assert (code, store["ok"]) == (0, True)
    assert store["found"] == f"{reached()}; its tables will be made at the first start"
    async with beside(url) as other:
        assert await other.fetchval(SCHEMAS, name) == 0


async def test_the_version_of_the_tables_is_told(tmp_path: Path, url: str) -> None:
    await made(url)
    code, store = await check(tmp_path, url)
    assert (code, store["ok"]) == (0, True)
    assert (
        store["found"] == f"{reached()}; its tables are of version {schema.newest()}, as this program wants them"
    )


async def test_older_tables_will_be_brought_up_and_are_not_now(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(url)
    older = schema.newest()
    monkeypatch.setattr(schema, "STEPS", [*schema.STEPS, Expands(())])
    async with beside(url) as other:
        code, store = await check(tmp_path, url)
        assert (code, store["ok"]) == (0, True)
        told = f"its tables are of version {older} and will be of {schema.newest()} at the next start"
        assert store["found"] == f"{reached()}; {told}"
        assert await other.fetchval("SELECT version FROM version") == older


async def test_newer_tables_end_the_check_with_78_where_this_program_may_not_use_them(
    tmp_path: Path, url: str
) -> None:
    await made(url)
    async with beside(url) as other:
        await other.execute("UPDATE version SET version = 9999")
        code, store = await check(tmp_path, url)
        assert (code, store["ok"]) == (0, True)
        assert "version 9999, newer than this program, which may go on beside newer ones" in store["found"]
        await other.execute("UPDATE version SET usable_from = 9998")
    code, store = await check(tmp_path, url)
    assert (code, store["ok"]) == (78, False)
    assert "is of version 9999" in store["found"]
    assert store["do"] == "install the newer program again"


async def test_another_programs_tables_are_told(tmp_path: Path, url: str, name: str) -> None:
    async with beside(url) as other:
        await other.execute(f"CREATE SCHEMA {name}")
        await other.execute("CREATE TABLE orders (id int)")
    code, store = await check(tmp_path, url)
    assert (code, store["ok"]) == (1, False)
    assert "has another program's tables in it" in store["found"]
    assert store["do"] == "name another one with ?search_path=… in [store] url"


@pytest.mark.parametrize(
    ("rights", "lacking"),
    [
        (["GRANT USAGE ON SCHEMA NAME"], "permission denied for table version"),
        (
            ["GRANT USAGE ON SCHEMA NAME", "GRANT SELECT ON ALL TABLES IN SCHEMA NAME"],
            "USER may not insert, update, delete in the table orders of the schema NAME",
        ),
        (
            [
                "GRANT USAGE ON SCHEMA NAME",
                "GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA NAME",
                "GRANT DELETE ON TABLE NAME.orders",
            ],
            "USER may not delete in the table schedule of the schema NAME",
        ),
    ],
)
async def test_rights_that_the_user_lacks_are_named(
    tmp_path: Path, url: str, name: str, rights: list[str], lacking: str
) -> None:
    await made(url)
    async with somebody(url, name, *(right.replace("NAME", name) for right in rights)) as lesser:
        code, store = await check(tmp_path, lesser)
    assert (code, store["ok"]) == (1, False)
    assert lacking.replace("USER", f"user_{name}").replace("NAME", name) in store["found"]
    assert store["do"] == "make the daemon's user the owner of the store's schema"


async def test_enough_rights_are_enough_but_not_to_change_older_tables(
    tmp_path: Path, url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(url)
    enough = (
        f"GRANT USAGE, CREATE ON SCHEMA {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {name}",
    )
    async with somebody(url, name, *enough) as lesser:
        assert (await check(tmp_path, lesser))[1]["ok"]
        monkeypatch.setattr(schema, "STEPS", [*schema.STEPS, Expands(())])
        code, store = await check(tmp_path, lesser)
    assert (code, store["ok"]) == (1, False)
    assert f"user_{name} may not change the tables of the schema {name}" in store["found"]


async def test_a_user_who_may_make_no_schema_is_told_before_the_first_start(
    tmp_path: Path, url: str, name: str
) -> None:
    async with somebody(url, name) as lesser:
        code, store = await check(tmp_path, lesser)
        assert (code, store["ok"]) == (1, False)
        assert f"user_{name} may not make a schema in postgres" in store["found"]
        async with beside(url) as owner:
            await owner.execute(f"CREATE SCHEMA {name}")
            await owner.execute(f"GRANT USAGE ON SCHEMA {name} TO user_{name}")
        _, store = await check(tmp_path, lesser)
        assert f"user_{name} may not make tables in the schema {name}" in store["found"]


async def test_a_server_that_takes_no_writes_is_told(tmp_path: Path, url: str) -> None:
    code, store = await check(tmp_path, f"{url}&default_transaction_read_only=on")
    assert (code, store["ok"]) == (1, False)
    assert "takes no writes" in store["found"]
    assert store["do"].endswith(
        "name the primary in [store] url, or all servers and target_session_attrs=read-write"
    )


async def test_a_server_that_lets_nobody_in_or_has_no_such_database_is_told(tmp_path: Path, url: str) -> None:
    code, store = await check(tmp_path, url.replace("/postgres?", "/nothing?"))
    assert (code, store["ok"]) == (1, False)
    assert store["do"] == "create it, or correct [store] url"
    code, store = await check(tmp_path, url.replace("//poller@", "//nobody_here@"))
    assert (code, store["ok"]) == (1, False)
    assert store["do"] == "check the user, [store] password_file and pg_hba.conf"


async def test_a_server_that_is_away_or_says_nothing_is_told_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, store = await check(tmp_path, "postgresql://poller@127.0.0.1:1/postgres")
    assert (code, store["ok"]) == (1, False)
    assert store["do"] == "start it, or correct [store] url"
    monkeypatch.setattr(lines, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        code, store = await check(tmp_path, f"postgresql://poller@127.0.0.1:{port}/postgres")
    assert (code, store["ok"]) == (1, False)
    assert store["found"] == f"PostgreSQL at 127.0.0.1:{port}/postgres does not answer in time"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("connect_timeout=10", "does not know what [store] url asks of it"),
        ("search_path=%24user", "the url names no schema"),
        ("search_path=", "the url names no schema"),
    ],
)
async def test_what_postgresql_does_not_take_of_the_url_is_told(tmp_path: Path, asked: str, told: str) -> None:
    code, store = await check(tmp_path, f"{shared_server().database_url}?{asked}")
    assert code == 1
    assert told in store["found"]


async def test_a_schema_is_named_as_postgresql_reads_it(tmp_path: Path, name: str) -> None:
    url = f"{shared_server().database_url}?search_path={name.upper()}"
    await made(url)
    code, store = await check(tmp_path, url)
    assert (code, store["ok"]) == (0, True)
    async with beside(url) as other:
        assert await other.fetchval(SCHEMAS, name) == 1


async def test_a_url_that_the_driver_does_not_take_ends_the_check_with_78(tmp_path: Path, url: str) -> None:
    code, store = await check(tmp_path, f"{url}&gsslib=wrong")
    assert (code, store["ok"]) == (78, False)
    assert "gsslib" in store["found"]
    assert store["do"] == "correct [store] url"
