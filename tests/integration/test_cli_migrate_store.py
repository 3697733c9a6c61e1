"""`poller migrate-store` as it is typed: what it says, how it ends, and that kill -9 costs nothing but time."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from poller.cli import main
from poller.core.orders import State, end
from poller.stores.postgres import PostgresStore, lines
from poller.stores.sqlite import SqliteStore
from tests.integration.command_processes import Start, configure, finished, starting
from tests.integration.lots_store import ASKED, ENDED, fill
from tests.integration.postgres_server import beside, schema_for, shared_server
from tests.integration.store_engines import AT, LOT, key, making, take_on

ORDERS = len(ASKED) + len(ENDED)
COUNT = "SELECT count(*) FROM orders"
WAITS = (
    "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n "
    "ON n.oid = c.relnamespace WHERE n.nspname = current_schema() AND c.relname = 'orders' AND NOT l.granted)"
)


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with starting() as begin:
        yield begin


@pytest.fixture
def url(tmp_path: Path) -> str:
    return shared_server().url(schema_for(tmp_path))


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    path = tmp_path / "poller.db"
    await fill(path)
    return path


async def typed(*words: str | Path) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["migrate-store", *map(str, words)])


async def test_it_tells_what_moved_and_the_second_time_that_there_is_nothing_to_do(path: Path, url: str) -> None:
    result = await typed(f"sqlite:///{path}", url)
    assert (result.exit_code, result.stderr) == (0, "")
    place = f"PostgreSQL at 127.0.0.1:{shared_server().port}/postgres"
    moved = [
        f"{path}: {ORDERS} orders moved to {place}, {len(ASKED)} pending",
        "with them 11 notices, 7 of which the webhook has to get",
    ]
    assert result.stdout.splitlines() == [*moved, "the file is kept, and no daemon opens it any more"]
    again = await typed(f"sqlite:///{path}", url)
    assert (again.exit_code, again.stderr) == (0, "")
    assert again.stdout.splitlines() == [f"{path} was moved to {place} before: nothing was done", *moved]


async def test_programs_get_one_object(path: Path, url: str) -> None:
    result = await typed(f"sqlite:///{path}", url, "--json")
    told = {"file": str(path), "store": url, "moved": True, "orders": ORDERS, "pending": len(ASKED)}
    assert json.loads(result.stdout) == {**told, "notices": 11, "undelivered": 7, "known": 0}


async def test_what_takes_long_says_how_far_it_has_come(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(tmp_path / "poller.db", more=600)
    monkeypatch.setattr("poller.cli.migrate_store.TELL_EVERY_S", 0.0)
    result = await typed(f"sqlite:///{tmp_path}/poller.db", url)
    total = 600 + ORDERS
    told = [500, 600 + len(ASKED), total]
    assert result.stderr.splitlines() == [f"poller: {count} of {total} orders are there" for count in told]


async def test_ctrl_c_half_way_says_that_it_goes_on(start: Start, url: str, tmp_path: Path) -> None:
    path = tmp_path / "poller.db"
    await fill(path, more=1200)
    await (await PostgresStore.open(url)).close()
    async with beside(url) as other:
        await other.execute("BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE")
        process = await start("migrate-store", f"sqlite:///{path}", url)
        async with asyncio.timeout(10), beside(url) as observer:
            while True:
                if await observer.fetchval(WAITS):
                    break
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        await other.execute("ROLLBACK")
        code, _, errors = await finished(process)
    assert (code, errors) == (130, "poller: stopped: run the same command again, and it goes on where it was\n")
    result = await typed(f"sqlite:///{path}", url)
    assert (result.exit_code, result.stdout.split()[1]) == (0, str(1200 + ORDERS))


async def test_a_postgresql_that_fails_half_way_is_told_and_the_rest_follows(
    path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await PostgresStore.open(url)).close()
    monkeypatch.setitem(lines.SETTINGS, "lock_timeout", "100")
    async with beside(url) as other:
        await other.execute("BEGIN; LOCK TABLE orders IN EXCLUSIVE MODE")
        result = await typed(f"sqlite:///{path}", url)
        await other.execute("ROLLBACK")
    assert result.exit_code == 1
    failed, again = result.stderr.splitlines()
    assert failed.startswith(
        f"poller: PostgreSQL at 127.0.0.1:{shared_server().port}/postgres is held up by a lock"
    )
    assert again == "poller: run the same command again, and it goes on where it was"
    result = await typed(f"sqlite:///{path}", url)
    assert (result.exit_code, result.stdout.split()[1]) == (0, str(ORDERS))


async def test_a_contradiction_is_told_each_time(path: Path, url: str) -> None:
    fleet = await PostgresStore.open(url)
    await take_on(fleet, "failed")
    await fleet.change(key("failed"), lambda order: end(order, State.PAID, AT), making("its"))
    await fleet.close()
    for _ in range(2):
        result = await typed(f"sqlite:///{path}", url)
        assert result.exit_code == 0
        assert "1 order had been there already and stayed as they were there" in result.stdout
        told = f"poller: failed of lot {LOT} is failed in the file and was paid in PostgreSQL, where it stays so"
        assert result.stderr == f"{told}: find out which is true\n"


async def test_the_old_daemon_refuses_the_file_with_78_and_says_where_the_orders_are(
    start: Start, path: Path, url: str, tmp_path: Path
) -> None:
    config = configure(tmp_path)
    await typed(f"sqlite:///{path}", url)
    said = f"{path} was moved to PostgreSQL at 127.0.0.1:{shared_server().port}/postgres"
    told = f"{said}, and no daemon takes it up again: name that in [store] url"
    code, _, errors = await finished(await start("run", "--config", config))
    assert (code, errors) == (78, f"poller: {told}\n")
    code, _, errors = await finished(await start("backup", tmp_path / "copy.db", "--config", config))
    assert (code, errors) == (78, f"poller: {told}\n")
    code, output, _ = await finished(await start("check", "--json", "--config", config))
    findings = {line["what"]: line for line in map(json.loads, output.splitlines())}
    assert (code, findings["store"]["ok"]) == (78, False)
    assert findings["store"]["found"].startswith(said)
    assert findings["store"]["do"] == "name that in [store] url"


async def test_a_process_that_is_killed_again_and_again_gets_it_done(
    start: Start, url: str, tmp_path: Path
) -> None:
    path = tmp_path / "poller.db"
    await fill(path, more=5000)
    await (await PostgresStore.open(url)).close()  # the tables are there
    kills, code, errors = 0, -9, ""
    async with beside(url) as other:
        while code == -9:
            there = await other.fetchval(COUNT)
            process = await start("migrate-store", f"sqlite:///{path}", url)
            ending = asyncio.create_task(process.wait())
            while not ending.done() and kills < 5 and await other.fetchval(COUNT) == there:
                await asyncio.wait({ending}, timeout=0.002)
            if not ending.done() and kills < 5:
                process.kill()
                kills += 1
            code, _, errors = await finished(process)
    assert (code, errors, kills) == (0, "", 5)
    fleet = await PostgresStore.open(url)
    counts = await fleet.counts()
    assert (counts.pending, counts.undecided, counts.undelivered, counts.dead) == (5000 + len(ASKED), 1, 7, 1)
    assert len(await fleet.orders(None, None, 10_000, None)) == 5000 + ORDERS
    assert len(await fleet.deliveries(None, None, 100)) == 11
    await fleet.close()


async def test_a_daemon_that_has_the_file_is_waited_for(start: Start, path: Path, url: str) -> None:
    store = await SqliteStore.open(path)
    process = await start("migrate-store", f"sqlite:///{path}", url)
    await take_on(store, "the last one")
    await store.close()
    code, output, errors = await finished(process)
    assert (code, errors) == (0, "")
    assert output.startswith(f"{path}: {ORDERS + 1} orders moved to PostgreSQL at ")


async def test_a_postgresql_that_is_away_is_named_and_costs_nothing(path: Path) -> None:
    result = await typed(f"sqlite:///{path}", "postgresql://poller@127.0.0.1:1/postgres")
    assert result.exit_code == 1
    assert result.stderr.startswith("poller: PostgreSQL at 127.0.0.1:1/postgres cannot be reached (")
    assert "run the same command again" not in result.stderr
    await (await SqliteStore.open(path)).close()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["postgresql://u@h/d", "sqlite:///x"], "expected sqlite:////absolute/path"),
        (["sqlite:///x", "sqlite:///y"], "expected postgresql://USER@HOST/DATABASE"),
        (["sqlite:///x", "postgresql://u@h"], "the url names no database"),
        (["sqlite:///x", "postgresql://u:hidden@h/d"], "name its file with --password-file"),
        (
            ["sqlite:///x", "postgresql://u@h/d", "--password-file", "hidden-s3cr3t-of-mine"],
            "there is no such file",
        ),
        (["sqlite:///x"], "Missing argument 'POSTGRES_URL'"),
    ],
)
async def test_wrong_usage_exits_2_and_shows_no_password(words: list[str], told: str) -> None:
    result = await typed(*words)
    assert result.exit_code == 2
    assert told in " ".join(result.stderr.split())
    assert "hidden" not in result.output


async def test_a_url_that_the_driver_does_not_take_is_wrong_usage_and_costs_nothing(path: Path, url: str) -> None:
    result = await typed(f"sqlite:///{path}", f"{url}&sslnegotiation=wrong")
    assert result.exit_code == 2
    assert "POSTGRES_URL cannot be used: " in result.stderr
    await (await SqliteStore.open(path)).close()


async def test_a_password_file_that_everybody_reads_is_refused(path: Path, url: str, tmp_path: Path) -> None:
    secret = tmp_path / "store.secret"
    secret.write_text("s3cr3t\n")
    secret.chmod(0o644)
    refused = await typed(f"sqlite:///{path}", url, "--password-file", secret)
    assert refused.exit_code == 2
    assert "can be read by everyone" in " ".join(refused.stderr.split())
    secret.chmod(0o600)
    assert (await typed(f"sqlite:///{path}", url, "--password-file", secret)).exit_code == 0
