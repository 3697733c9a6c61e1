"""What the journal holds: fields and priorities, nothing too long, and what the operator's lines find in it."""

from __future__ import annotations

import json
import re

import pytest

from tests.systemd.machine import Record, parsed
from tests.systemd.site import DEPLOY, PARK, SECRET, URL, Site

PRIORITIES = {"debug": "7", "info": "6", "warning": "4", "error": "3", "critical": "2"}
RECEIVER = "http://127.0.0.1:9/nobody"
WEBHOOK = f'[webhook]\nurl = "{RECEIVER}"\nsecret_file = "secrets/webhook.secret"\n'
WEBHOOK_SECRET = "whsec_YSB3ZWJob29rIHNlY3JldCBvZiB0ZXN0cw=="
UNDECIDED = "undecided_after_seconds = 1"


def own(records: list[Record]) -> list[Record]:
    """The daemon's own lines."""
    return [record for record in records if parsed(record)]


def undecided_early(site: Site, *, more: str = "", level: str = "info") -> None:
    site.configure(more, level=level)
    site.machine.run("sed", "-i", f"s/^.polling.$/[polling]\\n{UNDECIDED}/", "/etc/poller/poller.toml")


def test_each_line_has_the_priority_of_its_level_and_is_json_without_its_prefix(site: Site) -> None:
    undecided_early(site, more=WEBHOOK, level="debug")
    site.machine.write("/etc/poller/secrets/webhook.secret", WEBHOOK_SECRET, 0o600)
    site.simulate()
    since = site.machine.now()
    site.start()
    site.submit("pending-a", "contradict-0s-b")
    site.machine.run("poller", "poll", "contradict-0s-b")
    site.machine.logged(since, "order.undecided")
    site.machine.run("systemctl", "stop", "poller")
    records = own(site.machine.journal(since))
    levels = {parsed(record)["level"] for record in records}
    assert levels >= {"debug", "info", "warning"}
    for record in records:
        assert record["PRIORITY"] == PRIORITIES[parsed(record)["level"]], record["MESSAGE"]
        assert record["SYSLOG_IDENTIFIER"] == "poller"
        assert record["_SYSTEMD_UNIT"] == "poller.service"
    assert not any(secret in str(records) for secret in (SECRET, WEBHOOK_SECRET, "sign="))


def test_what_needs_a_look_is_found_by_priority(site: Site) -> None:
    undecided_early(site)
    since = site.machine.now()
    site.start()
    site.submit("pending-a", "pending-b", "pending-c", "pending-d", "pending-e", "pending-f")
    site.machine.logged(since, "platform.down")
    site.machine.logged(since, "order.undecided")
    found = {parsed(record).get("event") for record in own(site.machine.journal(since, "-p", "warning"))}
    assert found == {"platform.down", "order.undecided"}


def test_the_longest_line_is_still_whole_in_the_journal(site: Site) -> None:
    site.simulate()
    since = site.machine.now()
    site.start()
    metadata = {"note": "车" * 660, "plate": "粤B12345"}
    number = "paid-after-1-queries-" + "号" * 100
    site.machine.run("poller", "submit", number, "--metadata", json.dumps(metadata))
    site.machine.logged(since, "order.final")
    records = site.machine.journal(since)
    assert all(record["MESSAGE"] is not None for record in records)
    assert max(len(str(record["MESSAGE"]).encode()) for record in records) < 4096
    unshortened = [parsed(record) for record in records if parsed(record).get("event") == "order.accepted"]
    assert unshortened[0]["metadata"] == metadata


def test_at_info_an_order_costs_two_lines_and_an_outage_two(site: Site) -> None:
    site.start()
    since = site.machine.now()
    numbers = [f"paid-after-3-queries-{at}" for at in range(6)]
    site.submit(*numbers)
    site.machine.logged(since, "platform.down")
    site.simulate()
    assert site.results(*numbers) == dict.fromkeys(numbers, "paid")
    events = [parsed(record)["event"] for record in own(site.machine.journal(since))]
    expected = {"order.accepted": 6, "order.final": 6, "platform.down": 1, "platform.up": 1}
    assert {event: events.count(event) for event in events} == expected


def recipes(page: str) -> dict[str, str]:
    """The lines for the journal that a page for operators shows, by the comment before them."""
    page = (DEPLOY / page).read_text()
    block = next(block for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "jq" in block)
    found = re.findall(r"^# (.*?)\n(.*?)(?=^# |\Z)", block, re.DOTALL | re.MULTILINE)
    return {title.partition(":")[0].partition(",")[0]: command.strip() for title, command in found}


@pytest.fixture
def nights(site: Site) -> Site:
    """A night: results, an order that stays undecided, one that was, an outage, and lines that are no JSON."""
    undecided_early(site)
    since = site.machine.now()
    site.start()
    site.submit("12345", "settle-3s-b", "pending-c", "fail-1s-d")
    site.machine.logged(since, "platform.down")
    site.simulate()
    site.results("settle-3s-b", "fail-1s-d")
    site.machine.until(
        since, lambda record: "pending-c" in str(record["MESSAGE"]) and "undecided" in str(record["MESSAGE"])
    )
    site.machine.run("sh", "-c", "echo plain text | systemd-cat -t poller; echo 17 | systemd-cat -t poller")
    site.machine.run("systemctl", "restart", "poller")
    return site


def test_the_lines_for_the_journal_that_the_operator_is_given_find_what_they_say(nights: Site) -> None:
    lines = recipes("README.md")
    assert len(lines) == 4
    found = {title: nights.machine.out("bash", "-c", command) for title, command in lines.items()}
    results = [line.split("\t")[1:3] for line in found["What came out today"].splitlines()]
    assert ["settle-3s-b", "paid"] in results
    assert ["fail-1s-d", "failed"] in results
    undecided = [line.split("\t")[1] for line in found["Which are undecided"].splitlines()]
    assert "pending-c" in undecided
    assert not {"settle-3s-b", "fail-1s-d"} & set(undecided)
    outages = [line.split("\t") for line in found["When was the platform down"].splitlines()]
    assert [event for _, event, *_ in outages][-2:] == ["platform.down", "platform.up"]
    assert float(outages[-1][3]) > 0
    one = [json.loads(line)["event"] for line in found["What happened to one order"].splitlines()]
    assert one[0] == "order.accepted"
    assert PARK in found["What happened to one order"]
    assert URL not in str(found)


def test_both_pages_for_operators_give_the_same_lines_for_the_journal() -> None:
    assert list(recipes("README.md").values()) == list(recipes("README.zh-CN.md").values())
