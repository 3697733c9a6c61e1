"""What goes wrong between a command and the daemon is one line that says what to do at the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from poller.cli.refusals import DaemonError, NotRunningError, RefusedError
from poller.cli.service import start_command
from poller.cli.waiting import DaemonGoneError, Patience
from tests.integration.command_processes import finished, starting
from tests.integration.fake_daemon import PARK, FakeDaemon, Poller, command_of, configure, problem, served, set_up


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[FakeDaemon]:
    fake = FakeDaemon()
    set_up(tmp_path)
    async with served(fake, tmp_path):
        yield fake


@pytest.fixture
def poller(tmp_path: Path) -> Poller:
    return command_of(tmp_path)


@pytest.mark.parametrize("command", ["show", "poll", "cancel", "reopen"])
async def test_an_unknown_order_names_the_command_that_hands_it_in(
    daemon: FakeDaemon, poller: Poller, command: str
) -> None:
    result = await poller(command, "9 $(x)")
    assert result.exit_code == 1
    assert result.stderr == f"poller: no order 9 $(x) of lot {PARK}: hand it in with `poller submit '9 $(x)'`\n"


async def test_an_unknown_order_of_one_lot_of_several_is_handed_in_with_the_lot(
    daemon: FakeDaemon, poller: Poller, tmp_path: Path
) -> None:
    configure(tmp_path, f"unix:{tmp_path}/poller.sock", (PARK, "other"))
    result = await poller("show", "9", "--park", "other")
    assert result.stderr == "poller: no order 9 of lot other: hand it in with `poller submit 9 --park other`\n"
    result = await poller("show", "9", "--park", "wrong")
    assert result.stderr == f"poller: no order 9 of lot wrong, which is not configured ({PARK}, other)\n"


async def test_an_unknown_notice_names_the_command_that_lists_them(daemon: FakeDaemon, poller: Poller) -> None:
    result = await poller("redeliver", "e9")
    assert (result.exit_code, result.stderr) == (1, "poller: no notice e9: `poller deliveries` lists them\n")


async def test_an_order_known_with_other_metadata_says_what_to_do(daemon: FakeDaemon, poller: Poller) -> None:
    daemon.order("1", metadata={"lane": 3})
    result = await poller("submit", "1")
    assert result.exit_code == 1
    assert result.stderr.startswith(
        "poller: 1: known with other metadata: see `poller show 1`; give the same --meta"
    )
    assert "with other metadata than it has it is refused" in " ".join(
        (await poller("submit", "--help")).output.split()
    )


async def test_an_order_of_a_lot_that_is_not_configured_cannot_be_asked_about(
    daemon: FakeDaemon, poller: Poller
) -> None:
    daemon.order("1", park="gone")
    result = await poller("poll", "1", "--park", "gone")
    assert (result.exit_code, result.stderr) == (
        1,
        "poller: its lot is not configured: add it under [[parks]] and send SIGHUP\n",
    )


async def test_a_wrong_token_names_its_file_and_is_not_shown(
    daemon: FakeDaemon, poller: Poller, tmp_path: Path
) -> None:
    (tmp_path / "intake.token").write_text("wr0ng")
    result = await poller("list")
    assert result.exit_code == 1
    assert (
        f"does not know the token in intake.token (token_file under [intake] in {tmp_path}/poller" in result.output
    )
    assert "wr0ng" not in result.output


async def test_a_missing_token_names_the_key_to_set(daemon: FakeDaemon, poller: Poller, tmp_path: Path) -> None:
    config = tmp_path / "poller.toml"
    config.write_text(config.read_text().replace('token_file = "intake.token"\n', ""))
    result = await poller("list")
    assert (result.exit_code, result.output) == (
        1,
        f"poller: the daemon at unix:{tmp_path}/poller.sock wants a token: name its file, as token_file under "
        f"[intake] in {config}\n",
    )


async def test_an_address_that_the_daemon_does_not_know_names_the_key_to_change(
    poller: Poller, tmp_path: Path, unused_tcp_port: int
) -> None:
    async def refuse(request: web.BaseRequest) -> web.StreamResponse:
        return problem(403, "the Host header 'gate' does not name this machine; use its address or localhost")

    set_up(tmp_path)
    runner = web.ServerRunner(web.Server(refuse))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    configure(tmp_path, f"127.0.0.1:{unused_tcp_port}")
    result = await poller("list")
    await runner.cleanup()
    assert result.exit_code == 1
    assert result.output.endswith(
        f"under [intake] listen in {tmp_path}/poller.toml, give the address that the daemon was started with\n"
    )


async def test_a_daemon_that_does_not_run_names_the_command_that_starts_it(
    daemon: FakeDaemon, poller: Poller, tmp_path: Path
) -> None:
    for listen in (f"unix:{tmp_path}/none.sock", "127.0.0.1:1"):
        configure(tmp_path, listen)
        result = await poller("list")
        assert result.exit_code == 1
        start = f"`poller run --config {tmp_path}/poller.toml`"
        assert result.output == f"poller: no daemon listens on {listen}: start it with {start}\n"


def test_the_daemon_of_the_default_configuration_is_started_as_the_service_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poller.cli.service.UNIT_FOLDERS", (str(tmp_path),))
    default = Path("/etc/poller/poller.toml")
    assert start_command(default) == "poller run"
    (tmp_path / "poller.service").touch()
    assert start_command(default) == "systemctl start poller"
    assert start_command(tmp_path / "x y.toml") == f"poller run --config '{tmp_path}/x y.toml'"


async def test_something_else_on_the_port_is_told_apart(
    daemon: FakeDaemon, poller: Poller, tmp_path: Path, unused_tcp_port: int
) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(greet, "127.0.0.1", unused_tcp_port):
        configure(tmp_path, f"127.0.0.1:{unused_tcp_port}")
        result = await poller("list")
    assert result.exit_code == 1
    assert "is not poller's daemon (HTTP 200)" in result.output


async def test_a_wrong_configuration_exits_78_naming_the_fault(
    daemon: FakeDaemon, poller: Poller, tmp_path: Path
) -> None:
    configure(tmp_path, "nowhere")
    result = await poller("list")
    assert result.exit_code == 78
    assert f"{tmp_path}/poller.toml: [intake] listen: expected HOST:PORT or unix:/path" in result.stderr


async def test_submit_wait_survives_a_restart_of_the_daemon(tmp_path: Path) -> None:
    fake = FakeDaemon()
    set_up(tmp_path)
    async with starting() as start:
        async with served(fake, tmp_path):
            submit = await start("submit", "1", "2", "--wait", "--config", tmp_path / "poller.toml")
            await fake.waited_for("1")
            await fake.waited_for("2")
        assert submit.stderr is not None
        told = await submit.stderr.readline()
        assert told.endswith(b"; the orders are safe on disk, waiting 60 s for the daemon\n")
        fake.waiting.clear()
        async with served(fake, tmp_path):
            for number in ("1", "2"):
                await fake.waited_for(number)
                await fake.settle(number, "paid")
            code, output, errors = await finished(submit)
    assert (code, sorted(output.splitlines()), errors) == (0, ["1  paid", "2  paid"], "")


async def test_waiting_for_the_daemon_ends_and_says_how_to_see_the_result_later() -> None:
    told: list[str] = []
    patience = Patience(told.append, away_s=0.0)
    with pytest.raises(DaemonGoneError, match="see them later with `poller list` or `poller show`"):
        await patience.outlast(NotRunningError("no daemon listens"))
    assert told == ["no daemon listens; the orders are safe on disk, waiting 0 s for the daemon"]


async def test_what_the_daemon_refuses_is_not_waited_for() -> None:
    told: list[str] = []
    patience = Patience(told.append)
    for error in (RefusedError(404, "no order"), DaemonError("not poller's daemon")):
        with pytest.raises(type(error)):
            await patience.outlast(error)
    assert told == []
