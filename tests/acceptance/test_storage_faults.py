"""The daemon over disks that fail and files that are not what they should be: real processes, real files."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from poller.simulator import AfterQueries, Scenario, Settles, SimulatedPlatform, WebhookReceiver
from poller.simulator import Pending as NeverSettles
from poller.stores.sqlite import SqliteStore
from tests.acceptance.disks import LimitedFiles, SmallVolume, small_volume
from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, Process, Site
from tests.integration.store_engines import take_on

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[SmallVolume | None]:
    with small_volume(tmp_path / "volume") as volume:
        yield volume


@pytest.fixture(params=["full", "failing"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SmallVolume | LimitedFiles]:
    """Both ways in which a disk refuses; where no volume can be mounted, a limit stands in for the full one."""
    if request.param == "failing":
        yield LimitedFiles(tmp_path / "limited")
        return
    with small_volume(tmp_path / "volume") as volume:
        yield volume or LimitedFiles(tmp_path / "volume")


def script(_: str, number: str) -> Scenario:
    """`settles-N` is paid at its N-th query, anything else never."""
    return Settles(AfterQueries(int(number.split("-")[1]))) if number.startswith("settles-") else NeverSettles()


@asynccontextmanager
async def world() -> AsyncIterator[tuple[SimulatedPlatform, WebhookReceiver]]:
    async with (
        SimulatedPlatform({PARK: APP_SECRET}, script=script) as platform,
        WebhookReceiver(WEBHOOK_SECRET) as receiver,
    ):
        yield platform, receiver


async def hand_in(session: aiohttp.ClientSession, number: str) -> tuple[int, dict[str, Any]]:
    async with session.post("/v1/orders", json={"pay_partner": number}) as answer:
        return answer.status, await answer.json()


async def look_at(session: aiohttp.ClientSession, number: str) -> tuple[int, dict[str, Any]]:
    async with session.get(f"/v1/orders/{PARK}/{number}") as answer:
        return answer.status, await answer.json()


async def refused(site: Site) -> tuple[int, str]:
    """The daemon's exit code and its one line where it does not start."""
    daemon = await Process.start("run", "--config", str(site.config))
    code = await daemon.end()
    [line] = daemon.stderr
    return code, line


async def states(path: Path) -> dict[str, str]:
    """What is in the store of a daemon that has ended."""
    store = await SqliteStore.open(path)
    orders = await store.orders(None, None, 100, None)
    await store.close()
    return {order.key.pay_partner: order.state.value for order in orders}


def told_of(receiver: WebhookReceiver) -> list[str]:
    return sorted(json.loads(notice.body)["data"]["pay_partner"] for notice in receiver.notices.values())


async def test_while_the_disk_refuses_nothing_is_acknowledged_and_polling_goes_on(
    disk: SmallVolume | LimitedFiles,
) -> None:
    """And once there is room again the outcome that could not be written is, once, told under one id."""
    async with world() as (platform, receiver):
        site = Site.make(disk.folder, platform.url, receiver.url)
        async with site.running() as daemon, site.session() as session:
            assert (await hand_in(session, "never"))[0] == 201
            assert (await hand_in(session, "settles-4"))[0] == 201
            await platform.record.queried(2)
            disk.fail(daemon)
            status, problem = await hand_in(session, "settles-1")
            assert (status, problem["title"]) == (503, "Service Unavailable")
            assert disk.says in problem["detail"]
            assert "try again" in problem["detail"]
            [unwritten, *_] = await daemon.logged("store.unavailable")
            assert disk.says in unwritten["error"]
            while min(platform.record.queries_by_order().values()) < 5:  # the 4th said paid
                await platform.record.queried(len(platform.record) + 1)
            assert receiver.notices == {}
            assert (PARK, "settles-1") not in platform.record.queries_by_order()
            disk.recover(daemon)
            await receiver.received(1)
            assert (await look_at(session, "settles-1"))[0] == 404
            assert (await hand_in(session, "settles-1"))[0] == 201
            await receiver.received(2)
            daemon.signal(signal.SIGTERM)
            assert await daemon.end() == 0
        assert await states(site.folder / "poller.db") == {
            "never": "pending",
            "settles-4": "paid",
            "settles-1": "paid",
        }
        assert told_of(receiver) == ["settles-1", "settles-4"]
        assert platform.record.max_concurrent_for_one_order() == 1


async def test_kill_9_on_a_full_disk_loses_nothing_that_was_acknowledged(
    volume: SmallVolume | None, tmp_path: Path
) -> None:
    """The log that the kill leaves behind holds what was taken on before and nothing of what was refused."""
    async with world() as (platform, receiver):
        disk = volume or LimitedFiles(tmp_path / "limited")
        site = Site.make(disk.folder, platform.url, receiver.url)
        async with site.running() as daemon, site.session() as session:
            assert (await hand_in(session, "settles-3"))[0] == 201
            await platform.record.queried(1)
            disk.fail(daemon)
            assert (await hand_in(session, "settles-2"))[0] == 503
            await daemon.logged("store.unavailable")
            disk.recover(daemon)
            await daemon.kill()
        assert (site.folder / "poller.db-wal").stat().st_size > 0
        async with site.running(), site.session() as session:
            await receiver.received(1)
            assert (await look_at(session, "settles-2"))[0] == 404
        assert told_of(receiver) == ["settles-3"]


async def test_a_daemon_on_a_disk_that_cannot_be_written_says_so_and_does_not_start(
    volume: SmallVolume | None, tmp_path: Path
) -> None:
    if volume is None:
        if not os.geteuid():
            pytest.skip("root here may neither mount nor be kept from writing")
        site = Site.make(tmp_path / "site", "http://127.0.0.1:1/x", None)
        site.folder.chmod(0o500)
        code, line = await refused(site)
        site.folder.chmod(0o700)
        assert (code, "check the owner and mode" in line) == (1, True)
        return
    site = Site.make(volume.folder, "http://127.0.0.1:1/x", None)
    volume.fail()
    code, line = await refused(site)
    assert (code, "free space on" in line) == (1, True)
    volume.recover()
    async with site.running() as daemon, site.session() as session:
        assert (await hand_in(session, "kept"))[0] == 201
        await daemon.kill()
    volume.read_only(True)
    code, line = await refused(site)
    assert (code, "Read-only file system: mount its volume for writing" in line) == (1, True)
    volume.read_only(False)
    async with site.running(), site.session() as session:
        assert (await look_at(session, "kept"))[0] == 200


async def keep(path: Path, count: int) -> None:
    """A store as a daemon that has ended leaves it, of so many orders that are not due for a long time."""
    store = await SqliteStore.open(path)
    await take_on(store, *(f"kept-{number}" for number in range(count)), due=1e9)
    await store.close()


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix != ".lock"}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def overwrite_schema(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xff" * 3996 + whole[4096:])


def replace_by_text(path: Path) -> None:
    path.write_text("a note that somebody left here\n")


def from_the_future(path: Path) -> None:
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")


def spoil_pages_with(path: Path, text: bytes) -> int:
    """Damage every page that holds `text`; how many that were."""
    whole = bytearray(path.read_bytes())
    pages = [start for start in range(4096, len(whole), 4096) if text in whole[start : start + 4096]]
    for start in pages:
        whole[start] = 0xFF  # no kind of page
    path.write_bytes(whole)
    return len(pages)


@pytest.mark.parametrize(
    ("spoil", "code", "says"),
    [
        (cut, 1, "restore a backup in its place"),
        (overwrite_schema, 1, "restore a backup in its place"),
        (replace_by_text, 1, "restore a backup in its place"),
        (from_the_future, 78, "install the newer program"),
    ],
)
async def test_a_file_that_is_no_sound_store_of_this_version_is_refused_in_one_line_and_left_untouched(
    tmp_path: Path, spoil: Callable[[Path], None], code: int, says: str
) -> None:
    site = Site.make(tmp_path / "site", "http://127.0.0.1:1/x", None)
    await keep(site.folder / "poller.db", 200)
    spoil(site.folder / "poller.db")
    before = content(site.folder)
    ended, line = await refused(site)
    assert (ended, says in line) == (code, True)
    assert line.startswith(f"poller: {site.folder}/poller.db ")
    assert content(site.folder) == before


async def test_a_store_whose_folder_is_gone_is_named_in_one_line(tmp_path: Path) -> None:
    site = Site.make(tmp_path / "site", "http://127.0.0.1:1/x", None)
    gone = tmp_path / "gone"
    site.config.write_text(site.config.read_text() + f'[store]\nurl = "sqlite:///{gone}/poller.db"\n')
    code, line = await refused(site)
    assert (code, f"the folder {gone} of the store does not exist" in line) == (1, True)


async def test_a_damaged_page_met_while_running_ends_the_daemon_with_one_line(tmp_path: Path) -> None:
    """It takes a person: the daemon neither goes on nor tells of a crash."""
    site = Site.make(tmp_path / "site", "http://127.0.0.1:1/x", None)
    await keep(site.folder / "poller.db", 2000)
    assert spoil_pages_with(site.folder / "poller.db", b"kept-1000") > 1
    async with site.running() as daemon, site.session() as session:
        assert (await look_at(session, "kept-1999"))[0] == 200
        status, problem = await hand_in(session, "kept-1000")
        assert (status, "the store is damaged" in problem["detail"]) == (503, True)
        assert await daemon.end() == 1
        [line] = daemon.stderr
        assert line.startswith(f"poller: {site.folder}/poller.db is not a usable store")
        [failed] = daemon.records("daemon.failed")
        assert (failed["level"], failed["error"] in line) == ("critical", True)
        assert "Traceback" not in "".join(daemon.lines)


async def test_a_store_that_is_moved_away_while_in_use_takes_nothing_on_until_it_is_back(tmp_path: Path) -> None:
    """SQLite would go on writing to a file that nobody will find again."""
    async with world() as (platform, receiver):
        site = Site.make(tmp_path / "site", platform.url, receiver.url)
        store, away = site.folder / "poller.db", site.folder / "away.db"
        async with site.running() as daemon, site.session() as session:
            assert (await hand_in(session, "settles-3"))[0] == 201
            store.rename(away)
            status, problem = await hand_in(session, "settles-1")
            assert (status, "moved or removed while in use" in problem["detail"]) == (503, True)
            await daemon.logged("store.unavailable")
            assert receiver.notices == {}
            away.rename(store)
            assert (await hand_in(session, "settles-1"))[0] == 201
            await receiver.received(2)
        assert told_of(receiver) == ["settles-1", "settles-3"]


async def test_a_backup_of_a_running_daemon_is_restored_as_the_readme_says(tmp_path: Path) -> None:
    """What was taken on after the copy is handed in again; what is in it is recognised."""
    async with world() as (platform, receiver):
        site = Site.make(tmp_path / "site", platform.url, receiver.url)
        copy = tmp_path / "copy.db"
        async with site.running() as daemon, site.session() as session:
            assert (await hand_in(session, "never-1"))[0] == 201
            code, out, err = await site.command("backup", str(copy))
            assert (code, out, err) == (0, f"{copy}: a copy of the store with 1 order\n", "")
            assert (await hand_in(session, "never-2"))[0] == 201
            code, out, err = await site.command("backup", str(copy), "--json")
            assert (code, out) == (1, "")
            assert err == f"poller: {copy} is there already: name a new file for the copy\n"
            daemon.signal(signal.SIGTERM)
            assert await daemon.end() == 0
        for name in ("poller.db", "poller.db-wal", "poller.db-shm"):
            (site.folder / name).unlink(missing_ok=True)
        copy.rename(site.folder / "poller.db")
        async with site.running(), site.session() as session:
            assert [(await hand_in(session, f"never-{number}"))[0] for number in (1, 2)] == [200, 201]
            await platform.record.queried(len(platform.record) + 4)


async def test_a_backup_of_a_daemon_that_was_killed_holds_what_it_had_acknowledged(tmp_path: Path) -> None:
    async with world() as (platform, receiver):
        site = Site.make(tmp_path / "site", platform.url, receiver.url)
        async with site.running() as daemon, site.session() as session:
            for number in range(3):
                assert (await hand_in(session, f"never-{number}"))[0] == 201
            await daemon.kill()
        for name in ("killed", "killed and never started again"):
            code, out, _ = await site.command("backup", str(tmp_path / name), "--json")
            assert (code, json.loads(out)) == (0, {"file": str(tmp_path / name), "orders": 3})
        async with site.running(), site.session() as session:
            assert (await hand_in(session, "never-2"))[0] == 200
