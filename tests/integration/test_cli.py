"""The commands that talk to the daemon, against a small server that keeps to the intake's contract."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from poller.cli import COMMANDS, main
from tests.integration.fake_daemon import PARK, FakeDaemon, Poller, command_of, configure, served, set_up

ODD = "a/b?c 号%2F"


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[FakeDaemon]:
    fake = FakeDaemon()
    set_up(tmp_path)
    async with served(fake, tmp_path):
        yield fake


@pytest.fixture
def poller(tmp_path: Path) -> Poller:
    return command_of(tmp_path)


def objects(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("name", COMMANDS)
async def test_every_command_has_help_that_begins_with_its_summary(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert COMMANDS[name][1] in result.output


async def test_no_option_takes_a_secret() -> None:
    for name in COMMANDS:
        options = [word for word in CliRunner().invoke(main, [name, "--help"]).output.split() if word[:2] == "--"]
        assert not {"--token", "--secret", "--app-secret"} & set(options)


async def test_submit_hands_orders_in_with_their_metadata(daemon: FakeDaemon, poller: Poller) -> None:
    result = await poller("submit", "1", "2", "1", "--metadata", '{"lane": 3}')
    assert (result.exit_code, result.output) == (0, "1  pending\n2  pending\n")
    assert [order["metadata"] for order in daemon.orders.values()] == [{"lane": 3}] * 2


async def test_submit_says_what_was_refused_and_fails(daemon: FakeDaemon, poller: Poller) -> None:
    result = await poller("submit", "1", "refused", "--json")
    assert result.exit_code == 1
    assert [order["pay_partner"] for order in objects(result.stdout)] == ["1"]
    assert result.stderr == "poller: refused: the lot is unknown\n"


async def test_submit_wait_prints_each_order_as_it_becomes_final(daemon: FakeDaemon, poller: Poller) -> None:
    submitting = asyncio.create_task(poller("submit", "1", "2", "--wait"))
    for number, state in (("2", "failed"), ("1", "paid")):
        await daemon.waited_for(number)
        await daemon.settle(number, state)
    result = await submitting
    assert (result.exit_code, sorted(result.output.splitlines())) == (0, ["1  paid", "2  failed"])


async def test_submit_wait_fails_where_an_order_is_not_decided(daemon: FakeDaemon, poller: Poller) -> None:
    submitting = asyncio.create_task(poller("submit", "1", "--wait"))
    await daemon.waited_for("1")
    await daemon.settle("1", "expired")
    result = await submitting
    assert (result.exit_code, result.output) == (1, "1  expired\n")


async def test_ctrl_c_while_waiting_leaves_the_orders_where_they_are(daemon: FakeDaemon, tmp_path: Path) -> None:
    words = ("submit", "1", "--wait", "--config", str(tmp_path / "poller.toml"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "poller", *words, stderr=asyncio.subprocess.PIPE
    )
    await daemon.waited_for("1")
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert process.returncode == 130
    assert errors.decode() == "poller: stopped waiting; the orders stay with the daemon, which goes on asking\n"
    assert daemon.orders[PARK, "1"]["state"] == "pending"
    await daemon.settle("1", "paid")  # ends the long poll of the one who has gone


@pytest.mark.parametrize(
    "words", [("submit",), ("submit", "1", "--metadata", "[]"), ("submit", ""), ("show", "..")]
)
async def test_wrong_usage_exits_2(daemon: FakeDaemon, poller: Poller, words: tuple[str, ...]) -> None:
    assert (await poller(*words)).exit_code == 2
    assert daemon.requests == []


async def test_show_tells_the_state_the_queries_and_the_notices(daemon: FakeDaemon, poller: Poller) -> None:
    daemon.order(ODD, metadata={"plate": "粤B660PP"}, next_poll_at="2026-11-24T06:12:50.000Z")
    daemon.notice("e1", "undecided", ODD, "delivered")
    result = await poller("show", ODD)
    assert result.exit_code == 0
    for text in (ODD, "pending", "粤B660PP", "4b18", "查询成功", "e1", "pending: in progress"):
        assert text in result.output
    assert "\x1b" not in result.output
    assert f"/v1/orders/{PARK}/a%2Fb%3Fc%20%E5%8F%B7%252F" in {path for _, path in daemon.requests}


async def test_show_as_json_is_the_order_with_its_history(daemon: FakeDaemon, poller: Poller) -> None:
    daemon.order("1", "paid")
    (order,) = objects((await poller("show", "1", "--json")).output)
    assert (order["state"], order["history"][0]["count"], order["deliveries"]) == ("paid", 2, [])


async def test_list_follows_the_pages_up_to_the_limit(daemon: FakeDaemon, poller: Poller) -> None:
    for number in range(5):
        daemon.order(str(number), "paid" if number else "pending")
    assert len(objects((await poller("list", "--json")).output)) == 5
    assert len(objects((await poller("list", "--json", "--limit", "1")).output)) == 1
    assert len(objects((await poller("list", "--json", "--state", "paid")).output)) == 4
    table = (await poller("list")).output.splitlines()
    assert table[0].split()[:3] == ["pay_partner", "state", "polls"]
    assert len(table) == 6


async def test_list_marks_orders_that_nobody_asks_about(daemon: FakeDaemon, poller: Poller) -> None:
    daemon.order("1", next_poll_at="2026-11-24T06:12:50.000Z")
    daemon.order("2", park="gone")
    asked, unasked = (await poller("list")).output.splitlines()[1:]
    assert "2026-11-24 06:12:50Z" in asked
    assert "lot not configured" in unasked


async def test_cancel_poll_and_reopen_act_on_one_order(daemon: FakeDaemon, poller: Poller) -> None:
    daemon.order("1")
    assert (await poller("poll", "1")).output == "1  pending, asked about now\n"
    assert (await poller("cancel", "1")).output == "1  cancelled\n"
    refused = await poller("cancel", "1")
    assert (refused.exit_code, refused.stderr) == (1, "poller: the order is already cancelled\n")
    assert objects((await poller("reopen", "1", "--json")).output)[0]["state"] == "pending"


async def test_a_cancellation_that_waits_for_a_query_says_so(daemon: FakeDaemon, poller: Poller) -> None:
    daemon.order("1")
    daemon.cancelling.add("1")
    result = await poller("cancel", "1")
    assert result.exit_code == 0
    assert "1  pending: the cancellation is noted; the order ends when the query in the air does" in result.output
    assert objects((await poller("cancel", "1", "--json")).output)[0]["state"] == "pending"


async def test_dead_notices_are_sent_again_by_name_or_all_the_oldest_first(
    daemon: FakeDaemon, poller: Poller
) -> None:
    for event_id, number, state in (("e1", "1", "dead"), ("e2", "2", "dead"), ("e3", "3", "delivered")):
        daemon.notice(event_id, "paid", number, state)
    listed = objects((await poller("deliveries", "--state", "dead", "--json")).output)
    assert [one["event_id"] for one in listed] == ["e2", "e1"]
    assert (await poller("redeliver", "e3")).output == "e3  is sent again\n"
    assert (await poller("redeliver", "--dead")).output == "e1  is sent again\ne2  is sent again\n"
    assert (await poller("redeliver", "--dead")).output == "no notice is dead\n"
    assert (await poller("redeliver")).exit_code == 2
    assert "e1" in (await poller("deliveries")).output


async def test_a_notice_behind_an_older_one_of_its_order_says_that_it_waits(
    daemon: FakeDaemon, poller: Poller
) -> None:
    daemon.notice("e1", "undecided", "1", "pending")
    daemon.notice("e2", "paid", "1", "dead")
    daemon.notice("e3", "paid", "2", "dead")
    behind = await poller("redeliver", "e2")
    assert behind.exit_code == 0
    assert behind.output.startswith("e2  is sent again once e1 (undecided) has been received")
    assert (await poller("redeliver", "e1")).output == "e1  is sent again\n"
    assert (await poller("redeliver", "e3")).output == "e3  is sent again\n"


async def test_the_lot_must_be_named_where_several_are_configured(
    daemon: FakeDaemon, poller: Poller, tmp_path: Path
) -> None:
    configure(tmp_path, f"unix:{tmp_path}/poller.sock", (PARK, "other"))
    daemon.order("1", park="other")
    result = await poller("show", "1")
    assert result.exit_code == 2
    assert "say which lot with --park" in result.output
    assert (await poller("show", "1", "--park", "other")).exit_code == 0
