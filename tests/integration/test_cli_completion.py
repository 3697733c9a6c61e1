"""What a shell completes."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from poller.cli import COMMANDS, main
from tests.integration.command_processes import Start, finished, starting
from tests.integration.fake_daemon import PARK, FakeDaemon, configure, served, set_up


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[FakeDaemon]:
    fake = FakeDaemon()
    set_up(tmp_path)
    async with served(fake, tmp_path):
        yield fake


async def completed(words: str) -> list[str]:
    """What bash would offer for the last of the words."""
    environ = {
        "_POLLER_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }

    def complete() -> str:
        return CliRunner().invoke(main, [], prog_name="poller", env=environ).output

    return [line.split(",", 1)[1] for line in (await asyncio.to_thread(complete)).splitlines() if line]


@pytest.mark.parametrize(
    ("shell", "marks"), [("bash", "complete -o"), ("zsh", "#compdef poller"), ("fish", "complete")]
)
def test_the_script_of_each_shell_is_printed(shell: str, marks: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert result.exit_code == 0
    assert marks in result.stdout
    assert "_POLLER_COMPLETE" in result.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
async def test_bash_takes_the_script(start: Start) -> None:
    _, script, _ = await finished(await start("completion", "bash"))
    bash = await asyncio.create_subprocess_exec(
        "bash", "-c", f"{script}\ncomplete -p poller", stdout=asyncio.subprocess.PIPE
    )
    output, _ = await bash.communicate()
    assert (bash.returncode, b"poller" in output) == (0, True)


async def test_commands_and_states_are_completed() -> None:
    assert await completed("poller re") == ["reopen", "redeliver"]
    assert set(await completed("poller ")) == set(COMMANDS)
    assert await completed("poller list --state p") == ["pending", "paid"]
    assert await completed("poller deliveries --state d") == ["delivered", "dead"]


async def test_numbers_of_recent_orders_are_completed_by_what_can_be_done_to_them(
    daemon: FakeDaemon, tmp_path: Path
) -> None:
    daemon.order("A1")
    daemon.order("A2", "expired")
    daemon.order("B3")
    daemon.order("A 4")
    daemon.notice("evt_1", "paid", "A1", "dead")
    daemon.notice("evt_2", "paid", "A2", "delivered")
    config = f"--config {tmp_path}/poller.toml"
    assert await completed(f"poller show {config} A") == ["A1", "A2"]
    assert await completed(f"poller cancel {config} A") == ["A1"]
    assert await completed(f"poller reopen {config} ") == ["A2"]
    assert await completed(f"poller redeliver {config} evt") == ["evt_1"]
    assert await completed(f"poller show {config} --park 4") == [PARK]


async def test_nothing_is_completed_and_nothing_said_where_the_daemon_cannot_be_asked(tmp_path: Path) -> None:
    assert await completed(f"poller show --config {tmp_path}/none.toml A") == []
    set_up(tmp_path)
    assert await completed(f"poller show --config {tmp_path}/poller.toml A") == []


async def test_a_daemon_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    set_up(tmp_path)
    gone = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)  # until the one who asks has gone
        writer.close()
        gone.set()

    async with await asyncio.start_unix_server(hang, tmp_path / "hung.sock"):
        configure(tmp_path, f"unix:{tmp_path}/hung.sock")
        async with asyncio.timeout(10):
            assert await completed(f"poller show --config {tmp_path}/poller.toml A") == []
            await gone.wait()


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with starting() as begin:
        yield begin
