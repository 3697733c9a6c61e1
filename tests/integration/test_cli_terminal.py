"""The commands in a terminal of 80 columns, and where there are few letters."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from poller.cli.layout import cells
from poller.simulator import SimulatedPlatform
from tests.integration.command_processes import PARK, SECRET, Start, configure, event, finished, starting
from tests.integration.fake_daemon import FakeDaemon, served, set_up
from tests.integration.terminals import terminal

EVENT = "evt_efaf9e94b6834ef7a6e09a06ff54a54f"
NUMBER = "A2026112406124600001"
AT = "2026-11-24T06:12:46.005Z"


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with starting() as begin:
        yield begin


@pytest.mark.parametrize("words", [("list",), ("deliveries",), ("show", NUMBER)])
async def test_ids_and_numbers_are_whole_at_80_columns(tmp_path: Path, words: tuple[str, ...]) -> None:
    daemon = FakeDaemon()
    daemon.order(NUMBER, next_poll_at=AT, last_reply={"error": "没有可用的服务 " * 8})
    daemon.notice(EVENT, "undecided", NUMBER, "pending", next_attempt_at=AT, last_error="HTTP status 500")
    set_up(tmp_path)
    async with served(daemon, tmp_path), terminal(*words, "--config", tmp_path / "poller.toml") as shown:
        assert await shown.end() == 0
    lines = shown.output.splitlines()
    assert max(map(cells, lines)) <= 80
    assert any(NUMBER in line for line in lines)
    assert words == ("list",) or any(EVENT in line for line in lines)


async def test_watch_draws_a_board_through_a_restart_and_leaves_the_terminal_as_it_was(
    start: Start, tmp_path: Path
) -> None:
    async with SimulatedPlatform({PARK: SECRET}) as platform:
        path = configure(tmp_path, url=platform.url)
        process = await start("run", "--config", path)
        await event(process, "daemon.started")
        async with terminal("watch", "--config", path) as shown:
            await shown.shows("platform up since")
            await finished(await start("submit", "pending-1", "settle-0s-2", "--config", path))
            await shown.shows("1 waiting")
            await shown.shows("last results")
            process.kill()
            await shown.shows("no daemon listens")
            process = await start("run", "--config", path)
            await event(process, "daemon.started")
            shown.output = ""
            await shown.shows("pending-1")
            shown.process.send_signal(signal.SIGINT)
            assert await shown.end() == 0
    assert shown.output.endswith("\x1b[?25h\x1b[?1049l") or shown.output.endswith("\x1b[?1049l\x1b[?25h")


@pytest.mark.parametrize("words", [("--help",), ("show", "号")])
async def test_no_letter_that_is_missing_ends_a_command(
    start: Start, tmp_path: Path, words: tuple[str, ...]
) -> None:
    daemon = FakeDaemon()
    daemon.order("号", metadata={"plate": "粤B660PP"}, last_reply={"code": "1001", "message": "查询成功"})
    set_up(tmp_path)
    config = () if words == ("--help",) else ("--config", tmp_path / "poller.toml")
    async with served(daemon, tmp_path):
        process = await start(*words, *config, PYTHONUTF8="0", LC_ALL="POSIX", PYTHONIOENCODING="")
        code, output, errors = await finished(process)
    assert (code, errors) == (0, "")
    assert ("P云" if words == ("--help",) else "号") in output
