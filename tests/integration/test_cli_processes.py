"""`poller run` and `simulate` as they are typed: exit codes, signals, lines."""

from __future__ import annotations

import asyncio
import re
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.integration.command_processes import PARK, Start, configure, event, finished, starting


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with starting() as begin:
        yield begin


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


@pytest.mark.parametrize("words", [("run",), ("list", "--json"), ("show", "1", "--json"), ("watch", "--json")])
async def test_what_is_not_for_a_terminal_does_without_rich(tmp_path: Path, words: tuple[str, ...]) -> None:
    program = (
        "import sys\n"
        "from poller.cli import main\n"
        "try:\n"
        f"    main({[*words, '--config', f'{tmp_path}/none.toml']!r}, standalone_mode=False)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
        "print([name for name in sys.modules if name.partition('.')[0] == 'rich'])"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert output.decode() == "NeedsAPerson\n[]\n"
