"""Each button of the status page, clicked in a real browser, and what comes of it in the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from poller.simulator import Answers
from tests.acceptance.processes import PARK
from tests.browser.booth import NO_POLLING, NO_STREAM, at_the_booth, needs_browser

pytestmark = [needs_browser, pytest.mark.timeout(90)]

SELDOM: dict[str, Any] = {
    "min_interval_seconds": 600,
    "max_interval_seconds": 900,
}  # no query comes by itself but the first


async def test_ask_now_asks_the_platform_at_once_and_the_history_shows_the_answer(tmp_path: Path) -> None:
    async with at_the_booth(tmp_path, **SELDOM) as booth:
        page = booth.browser
        await page.open(booth.site.url)
        await booth.submit("paid-after-1-queries-a", lane=2, plate="粤B660PP")
        await page.until_text("#waiting .plate", "粤B660PP")
        assert await page.text("#waiting .lane") == "Lane 2"
        await booth.platform.record.queried(1)
        assert booth.state("paid-after-1-queries-a") == "pending"
        await page.click("#waiting .open")
        await page.until_text(".sheet", "in progress: pauses grow with its age")
        await page.click(".sheet .act.poll")
        await page.until_text(".sheet .state", "paid")
        assert booth.state("paid-after-1-queries-a") == "paid"
        assert len(booth.platform.record) == 2
        await page.until("document.querySelectorAll('.sheet .time').length === 3")  # two answers, a notice
        await page.click("#close")
        await page.until_text("#results .result", "paid")
        await page.until_text("#waiting .empty", "No car is waiting")
        assert await page.count(".sheet") == 0


async def test_cancel_takes_two_clicks_and_reopen_one(tmp_path: Path) -> None:
    async with at_the_booth(tmp_path, **SELDOM) as booth:
        page, number = booth.browser, "pending-a/b 1"
        await page.open(booth.site.url)
        await booth.submit(number)
        await page.until_text("#waiting .number", number)
        await booth.platform.record.queried(1)
        await page.click("#waiting .open")
        await page.click(".sheet .act.cancel")
        await page.until_text(".sheet .act.cancel", "Really cancel?")
        assert booth.state(number) == "pending"
        await page.click(".sheet .act.cancel")
        await page.until_text("#toast", "Cancelled.")
        assert booth.state(number) == "cancelled"
        await page.click(".sheet .act.reopen")
        await page.until_text("#toast", "Reopened")
        assert booth.state(number) == "pending"
        await booth.platform.record.queried(2)
        await page.until_text(".sheet .state", "in progress")


async def test_a_dead_notice_is_sent_again_and_leaves_the_list(tmp_path: Path) -> None:
    async with at_the_booth(tmp_path) as booth:
        page = booth.browser
        booth.receiver.behave(Answers(410))
        await page.open(booth.site.url)
        await booth.submit("settle-0s-a", plate="粤B12345")
        await page.until_text("#needs .row", "sending “paid” to the lot's software was given up")
        assert booth.stored("SELECT state FROM deliveries") == "dead"
        booth.receiver.recover()
        await page.click("#needs .act.redeliver")
        [notice] = await booth.receiver.received(1)
        assert len(notice.tries) == 2
        await page.until_text("#needs .empty", "Nothing to do")
        await page.click("#results .open")
        await page.until_text(".sheet", "received")
        assert booth.stored("SELECT state FROM deliveries") == "delivered"
        await page.click(".sheet table .act.redeliver")  # what was received can be sent once more, too
        await page.until_text("#toast", "It is being sent again.")
        await booth.receiver.attempted(3)


async def test_what_needs_a_person_says_why_and_offers_what_can_be_done(tmp_path: Path) -> None:
    async with at_the_booth(tmp_path, undecided_after_seconds=1) as booth:
        page = booth.browser
        await page.open(booth.site.url)
        await booth.submit("pending-u", plate="U-1")
        await booth.submit("settle-2.5s-l", plate="L-1")
        await booth.submit("contradict-0s-c", plate="C-1")
        await booth.daemon.logged("order.final")
        await booth.ask("contradict-0s-c")
        await booth.daemon.logged("order.conflict")
        await page.until("document.querySelectorAll('#needs .row').length === 3")
        await page.until_text("#needs", "paid, but only after")
        needs = await page.text("#needs")
        assert "recorded as paid, and the platform now says failed" in needs
        assert "no result for" in needs
        assert "the gate was told at" in needs
        plates = await page.run("return [...document.querySelectorAll('#needs .plate')].map((e) => e.innerText)")
        assert plates == ["C-1", "U-1", "L-1"]  # the gravest first
        assert await page.text("#todo b") == "3"
        row = "#needs .row:nth-child(2)"
        await page.click(f"{row} .act.cancel")
        await page.click(f"{row} .act.cancel.sure")
        await page.until_text("#needs", "cancelled, but only after")
        assert booth.state("pending-u") == "cancelled"
        await page.click(f"{row} .act.reopen, #needs .row:nth-child(3) .act.reopen")
        await page.until_text("#toast", "Reopened")
        assert booth.state("pending-u") == "pending"


async def test_what_the_daemon_refuses_is_said_in_its_own_words(tmp_path: Path) -> None:
    async with at_the_booth(tmp_path, **SELDOM) as booth:
        page = booth.browser
        await booth.submit("paid-after-1-queries-a")
        await booth.platform.record.queried(1)
        await page.before_each_page(NO_POLLING + NO_STREAM)
        await page.open(booth.site.url)
        await page.click("#waiting .open")
        await page.until("document.querySelector('.sheet .act.cancel')")
        await booth.ask("paid-after-1-queries-a")
        await booth.daemon.logged("order.final")
        await page.click(".sheet .act.cancel")
        await page.click(".sheet .act.cancel.sure")
        await page.until_text("#toast", "Not done: the order is already paid")
        async with booth.session.get(f"/v1/orders/{PARK}/paid-after-1-queries-a") as answer:
            assert (await answer.json())["state"] == "paid"
