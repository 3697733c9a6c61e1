"""`poller run`, `check` and `simulate` as they are typed: exit codes, signals, lines."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from poller.simulator import SimulatedPlatform

PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
SECRET = "s3cr3t-of-the-lot"

Start = Callable[..., Coroutine[Any, Any, Process]]


def configure(folder: Path, *, url: str = "http://127.0.0.1:1/p", listen: str = "", more: str = "") -> Path:
    (folder / "park-1.secret").write_text(SECRET)
    (folder / "park-1.secret").chmod(0o600)
    path = folder / "poller.toml"
    path.write_text(
        f'[platform]\nurl = "{url}"\n[[parks]]\npark_uuid = "{PARK}"\napp_secret_file = "park-1.secret"\n'
        f"[polling]\ninitial_delay_seconds = 0\n"
        f'[intake]\nlisten = "{listen or f"unix:{folder}/poller.sock"}"\n{more}'
    )
    return path


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts `poller` with these words; what still runs at the end of a test is killed."""
    started: list[Process] = []

    async def begin(*words: str | Path) -> Process:
        environ = {name: value for name, value in os.environ.items() if name != "STATE_DIRECTORY"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "poller", *map(str, words), stdout=PIPE, stderr=PIPE, env=environ
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def finished(process: Process) -> tuple[int, str, str]:
    output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


async def event(process: Process, name: str) -> dict[str, Any]:
    """The next log line of that name; every line before it must be JSON, too."""
    assert process.stdout is not None
    while line := await process.stdout.readline():
        record: dict[str, Any] = json.loads(line)
        if record["event"] == name:
            return record
    raise AssertionError(f"the log ended without {name}: {await finished(process)}")


async def test_a_wrong_configuration_exits_78_naming_every_fault(start: Start, tmp_path: Path) -> None:
    path = configure(tmp_path, more='[log]\nlevel = "loud"\nfromat = "json"\n')
    code, output, errors = await finished(await start("run", "--config", path))
    assert (code, output) == (78, "")
    first, second = errors.splitlines()
    assert first.startswith(f"poller: {path}: [log] level: expected one of debug, info, warning, error")
    assert second == f"poller: {path}: [log] fromat: unknown key, did you mean format?"


async def test_a_missing_configuration_exits_78(start: Start, tmp_path: Path) -> None:
    code, _, errors = await finished(await start("run", "--config", tmp_path / "none.toml"))
    assert (code, errors) == (78, f"poller: {tmp_path}/none.toml: cannot be read: No such file or directory\n")


async def test_a_taken_port_exits_1_naming_the_address(start: Start, tmp_path: Path, unused_tcp_port: int) -> None:
    listen = f"127.0.0.1:{unused_tcp_port}"
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", unused_tcp_port):
        code, _, errors = await finished(await start("run", "--config", configure(tmp_path, listen=listen)))
    assert (code, errors) == (1, f"poller: cannot listen on {listen}: another program listens there already\n")


async def test_a_store_that_is_none_exits_1(start: Start, tmp_path: Path) -> None:
    (tmp_path / "poller.db").write_text("not a store")
    code, _, errors = await finished(await start("run", "--config", configure(tmp_path)))
    assert code == 1
    assert errors.startswith(f"poller: {tmp_path}/poller.db is not a usable store")
    assert errors.count("\n") == 1


async def test_a_store_from_a_newer_version_exits_78(start: Start, tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "poller.db")
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    code, _, errors = await finished(await start("run", "--config", configure(tmp_path)))
    assert code == 78
    assert "version 9999" in errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_the_daemon_and_it_exits_0(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    process = await start("run", "--config", configure(tmp_path))
    await event(process, "daemon.started")
    process.send_signal(number)
    await event(process, "daemon.stopped")
    assert await finished(process) == (0, "", "")


async def test_a_second_signal_ends_it_at_once(start: Start, tmp_path: Path, unused_tcp_port: int) -> None:
    asked = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", unused_tcp_port):
        process = await start("run", "--config", configure(tmp_path, url=f"http://127.0.0.1:{unused_tcp_port}/p"))
        await event(process, "daemon.started")
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(f"{tmp_path}/poller.sock")) as session:
            await session.post("http://localhost/v1/orders", json={"pay_partner": "1"})
        await asked.wait()
        process.terminate()
        await event(process, "daemon.stopping")
        process.terminate()
        assert (await finished(process))[0] == 128 + signal.SIGTERM


async def test_sighup_keeps_the_old_configuration_where_the_new_one_is_wrong(start: Start, tmp_path: Path) -> None:
    process = await start("run", "--config", configure(tmp_path))
    await event(process, "daemon.started")
    configure(tmp_path, more="[oops]\n")
    process.send_signal(signal.SIGHUP)
    assert "unknown section" in (await event(process, "config.rejected"))["faults"][0]
    configure(tmp_path)
    process.send_signal(signal.SIGHUP)
    await event(process, "config.reloaded")


@asynccontextmanager
async def simulated() -> AsyncIterator[SimulatedPlatform]:
    async with SimulatedPlatform({PARK: SECRET}) as platform:
        yield platform


async def test_check_reports_each_thing_in_a_line_and_shows_a_real_reply(start: Start, tmp_path: Path) -> None:
    async with simulated() as platform:
        path = configure(tmp_path, url=platform.url)
        code, output, errors = await finished(await start("check", "--config", path, "--query", "settle-0s-1"))
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert all(line.startswith("ok  ") for line in lines)
    assert [line.split()[1] for line in lines] == [
        "configuration",
        "secrets",
        "store",
        "platform",
        "daemon",
        "webhook",
        "query",
    ]
    assert "settle-0s-1: paid (code 1001" in lines[-1]
    assert not (tmp_path / "poller.db").exists()


async def test_check_sees_the_running_daemon_and_does_not_disturb_it(start: Start, tmp_path: Path) -> None:
    async with simulated() as platform:
        path = configure(tmp_path, url=platform.url)
        process = await start("run", "--config", path)
        pid = (await event(process, "daemon.started"))["pid"]
        code, output, _ = await finished(await start("check", "--config", path, "--json"))
    findings = {line["what"]: line for line in map(json.loads, output.splitlines())}
    assert code == 0
    assert f"pid {pid}" in findings["store"]["found"]
    assert findings["daemon"]["found"] == f"answers on unix:{tmp_path}/poller.sock"


async def test_check_says_what_fails_and_what_to_do(start: Start, tmp_path: Path) -> None:
    (tmp_path / "poller.db").write_text("not a store")
    (tmp_path / "webhook.secret").write_text("whsec_c2VjcmV0LW9mLXRoZS1sb3Q=")
    (tmp_path / "webhook.secret").chmod(0o600)
    webhook = '[webhook]\nurl = "http://127.0.0.1:1/"\nsecret_file = "webhook.secret"\n'
    code, output, _ = await finished(await start("check", "--config", configure(tmp_path, more=webhook)))
    assert code == 1
    failed = {line.split()[1]: line for line in output.splitlines() if line.startswith("FAIL")}
    assert failed.keys() == {"store", "platform", "webhook"}
    assert "127.0.0.1:1 cannot be reached: Connection refused; check that it runs" in failed["webhook"]
    assert "restore a backup" in failed["store"]


async def test_check_of_a_wrong_configuration_exits_78(start: Start, tmp_path: Path) -> None:
    code, output, _ = await finished(await start("check", "--config", configure(tmp_path, more="[oops]\n")))
    assert code == 78
    assert output.startswith("FAIL  configuration")


async def test_simulate_prints_where_it_is_and_at_the_end_what_it_saw(start: Start, unused_tcp_port: int) -> None:
    process = await start("simulate", "--listen", f"127.0.0.1:{unused_tcp_port}")
    assert process.stdout is not None
    text = (await process.stdout.readuntil(b"simulated-secret\n")).decode()
    found = re.search(r'^url = "(http://127\.0\.0\.1:\d+/\S+)"$', text, re.MULTILINE)
    assert found
    assert PARK in text
    async with aiohttp.ClientSession() as session, session.get(f"{found[1]}?park_uuid={PARK}") as response:
        assert response.status == 200
    process.send_signal(signal.SIGINT)
    code, output, errors = await finished(process)
    assert (code, errors) == (0, "")
    assert "queries: 1" in output


async def test_simulate_on_a_taken_port_exits_1(start: Start, unused_tcp_port: int) -> None:
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", unused_tcp_port):
        code, _, errors = await finished(await start("simulate", "--listen", f"127.0.0.1:{unused_tcp_port}"))
    assert code == 1
    assert errors.startswith(f"poller: cannot listen on 127.0.0.1:{unused_tcp_port}: ")
