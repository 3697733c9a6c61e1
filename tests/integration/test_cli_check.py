"""`poller check` as it is typed: a line for each thing, what to do about it, and the exit code."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from poller.cli import main
from poller.cli.asking import ADVICE
from poller.cli.service import remedies
from poller.core.replies import Cause
from poller.simulator import SimulatedPlatform
from tests.integration.command_processes import PARK, SECRET, Start, configure, event, finished, starting

WHOSE = "app_secret_file and app_id of this lot, and whether the number is right"


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    async with starting() as begin:
        yield begin


@pytest.fixture
async def platform() -> AsyncIterator[SimulatedPlatform]:
    async with SimulatedPlatform({PARK: SECRET}) as simulated:
        yield simulated


async def check(config: Path, *words: str, **environ: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and what was found by its name."""
    unset = {"STATE_DIRECTORY": None, "CREDENTIALS_DIRECTORY": None}
    command = ["check", "--json", "--config", str(config), *words]
    result = await asyncio.to_thread(CliRunner().invoke, main, command, env={**unset, **environ})
    return result.exit_code, {line["what"]: line for line in map(json.loads, result.stdout.splitlines())}


async def test_check_reports_each_thing_in_a_line_and_shows_a_real_reply(
    platform: SimulatedPlatform, start: Start, tmp_path: Path
) -> None:
    path = configure(tmp_path, url=platform.url)
    code, output, errors = await finished(await start("check", "--config", path, "--query", "settle-0s-1"))
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert all(line.startswith("ok  ") for line in lines)
    named = ["configuration", "secrets", "store", "platform", "webhook", "daemon", "query"]
    assert [line.split()[1] for line in lines] == named
    assert "settle-0s-1: paid (code 1001" in lines[-1]
    assert f"not running on unix:{tmp_path}/poller.sock; start it with `poller run --config {path}`" in lines[-2]
    assert not (tmp_path / "poller.db").exists()


@pytest.mark.parametrize(
    ("number", "found", "mend"),
    [
        ("nostatus-9-x", "not known: code 1001 without a usable status", f"look at {WHOSE}; try again"),
        ("reject-x", "rejected (code 400", f"look at the hint, at park_uuid, {WHOSE}"),
        ("garbage-html-9-x", "not known: HTTP status 200, not one JSON object", "that is not how the platform"),
        ("busy503-9-x", "not known: code 503", "the platform is overloaded or down: try again"),
        ("hangup-9-x", "not known: the connection broke", ADVICE[Cause.UNREACHABLE]),
        ("slow-9s-x", "not known: ", "look at the network and the firewall, and at [platform] timeout_seconds"),
    ],
)
async def test_any_answer_that_tells_nothing_of_the_payment_fails_and_says_what_to_do(
    platform: SimulatedPlatform, tmp_path: Path, number: str, found: str, mend: str
) -> None:
    path = configure(tmp_path, url=platform.url)
    path.write_text(path.read_text().replace("[platform]", "[platform]\ntimeout_seconds = 0.5"))
    code, findings = await check(path, "--query", number)
    assert (code, findings["query"]["ok"]) == (1, False)
    assert f"{number}: {found}" in findings["query"]["found"]
    assert findings["query"]["do"].startswith(mend)


async def test_a_wrong_secret_shows_the_platforms_hint_and_names_the_secret(
    platform: SimulatedPlatform, tmp_path: Path
) -> None:
    path = configure(tmp_path, url=platform.url)
    (tmp_path / "park-1.secret").write_text("another")
    code, findings = await check(path, "--query", "1")
    assert code == 1
    assert findings["query"]["do"] == f"the platform hints: 签名错误, 检查请求参数`sign`! Look at {WHOSE}"


async def test_an_order_in_progress_is_well(platform: SimulatedPlatform, tmp_path: Path) -> None:
    code, findings = await check(configure(tmp_path, url=platform.url), "--query", "pending-1")
    assert (code, findings["query"]["do"]) == (0, None)


async def test_a_platform_that_cannot_be_reached_says_where_to_look(tmp_path: Path) -> None:
    code, findings = await check(configure(tmp_path), "--query", "1")
    assert (code, findings["query"]["do"]) == (1, ADVICE[Cause.UNREACHABLE])


def test_every_cause_of_an_outage_has_its_advice() -> None:
    assert ADVICE.keys() == set(Cause)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--query", ""], "1 to 128 characters"),
        (["--query", "x" * 129], "1 to 128 characters"),
        (["--query", "1", "--park", "wrong"], f"lot wrong is not configured in CONFIG; configured: {PARK}"),
        (["--park", PARK], "give --query, too"),
    ],
)
async def test_wrong_usage_exits_2_and_says_what_is_wrong(tmp_path: Path, words: list[str], told: str) -> None:
    path = configure(tmp_path)
    result = await asyncio.to_thread(CliRunner().invoke, main, ["check", "--config", str(path), *words])
    assert result.exit_code == 2
    assert told.replace("CONFIG", str(path)) in result.stderr


async def test_check_sees_the_running_daemon_and_what_it_says_of_platform_and_store(
    platform: SimulatedPlatform, start: Start, tmp_path: Path
) -> None:
    path = configure(tmp_path, url=platform.url)
    process = await start("run", "--config", path)
    pid = (await event(process, "daemon.started"))["pid"]
    code, findings = await check(path)
    assert code == 0
    assert f"pid {pid}" in findings["store"]["found"]
    assert findings["daemon"]["found"].startswith(f"answers on unix:{tmp_path}/poller.sock, version ")
    assert findings["daemon: platform"]["found"].startswith("up since 20")
    assert findings["daemon: store"]["found"] == "orders can be taken on"


async def test_check_tells_since_when_and_why_the_platform_is_down_to_the_daemon(
    start: Start, tmp_path: Path
) -> None:
    path = configure(tmp_path)
    process = await start("run", "--config", path)
    await event(process, "daemon.started")
    await asyncio.to_thread(CliRunner().invoke, main, ["submit", "1", "2", "3", "--config", str(path)])
    await event(process, "platform.down")
    code, findings = await check(path)
    assert code == 1
    assert findings["daemon: platform"]["found"].startswith("down since 20")
    assert "Connection refused" in findings["daemon: platform"]["found"]
    assert findings["daemon: platform"]["do"] == ADVICE[Cause.UNREACHABLE]


async def test_check_says_how_to_see_what_systemd_hands_to_the_daemon(start: Start, tmp_path: Path) -> None:
    path = configure(tmp_path)
    for name in ("credentials", "state"):
        (tmp_path / name).mkdir()
    (tmp_path / "park-1.secret").rename(tmp_path / "credentials" / "park-1.secret")
    service = {
        "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials"),
        "STATE_DIRECTORY": str(tmp_path / "state"),
    }
    process = await start("run", "--config", path, **service)
    await event(process, "daemon.started")
    line = (
        "`sudo env CREDENTIALS_DIRECTORY=/run/credentials/poller.service STATE_DIRECTORY=/var/lib/poller "
        f"poller check --config {path}`"
    )
    code, findings = await check(path)
    assert code == 78
    assert findings["configuration"]["do"].startswith(
        "put the file there; or, since the daemon runs: under systemd"
    )
    assert line in findings["configuration"]["do"]

    (tmp_path / "park-1.secret").write_text(SECRET)
    (tmp_path / "park-1.secret").chmod(0o600)
    _, findings = await check(path)
    assert findings["store"]["ok"]
    assert "under systemd its store is in its state directory" in findings["store"]["found"]
    assert findings["store"]["do"] == f"look there with {line}"

    _, findings = await check(path, **service)
    assert f"{tmp_path}/state/poller.db is held by the running daemon" in findings["store"]["found"]


async def test_check_says_what_fails_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "poller.db").write_text("not a store")
    (tmp_path / "webhook.secret").write_text("whsec_c2VjcmV0LW9mLXRoZS1sb3Q=")
    (tmp_path / "webhook.secret").chmod(0o600)
    webhook = '[webhook]\nurl = "http://127.0.0.1:1/"\nsecret_file = "webhook.secret"\n'
    code, findings = await check(configure(tmp_path, more=webhook))
    assert code == 1
    failed = {what: one for what, one in findings.items() if not one["ok"]}
    assert failed.keys() == {"store", "platform", "webhook"}
    assert failed["webhook"]["found"] == "127.0.0.1:1 cannot be reached: Connection refused"
    assert failed["webhook"]["do"] == "check that it runs, and the firewall"
    assert failed["store"]["do"].startswith("restore a backup")


async def test_a_store_from_a_newer_version_ends_the_check_with_78(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "poller.db")
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    code, findings = await check(configure(tmp_path))
    assert code == 78
    assert "version 9999" in findings["store"]["found"]
    assert findings["store"]["do"] == "install the newer program again"


async def test_a_store_that_cannot_even_be_looked_at_is_a_line(tmp_path: Path) -> None:
    path = configure(tmp_path, more=f'[store]\nurl = "sqlite:///{"x" * 300}"\n')
    code, findings = await check(path)
    assert (code, findings["store"]["ok"]) == (1, False)
    assert "File name too long" in findings["store"]["found"]


async def test_check_of_a_wrong_configuration_exits_78(start: Start, tmp_path: Path) -> None:
    code, output, _ = await finished(await start("check", "--config", configure(tmp_path, more="[oops]\n")))
    assert code == 78
    assert output.startswith("FAIL  configuration")
    assert output.endswith("; change that in the file\n")


def test_secrets_that_this_user_may_not_read_want_root() -> None:
    fault = 'poller.toml: [intake] token_file: expected a file, found "t": /etc/poller/t: Permission denied'
    assert remedies([fault]) == ["run this as root (sudo): this user may not read the secrets"]
    assert remedies([fault.replace("Permission denied", "No such file or directory")]) == []
