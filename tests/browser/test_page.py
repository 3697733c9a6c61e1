"""The status page in a real browser: what it shows, by itself, to whom, and what it never does."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.browser.booth import NO_POLLING, NO_STREAM, at_the_booth, needs_browser

pytestmark = [needs_browser, pytest.mark.timeout(90)]

HOSTILE = {
    "<script>window.hit = 1</script>": "<img src=x onerror=window.hit=1>",
    "\"'&lt;b&gt;</bdi><b id=hit>": "x" * 900,
    "\u202eمرحبا بالعالم": "\u202e\u2066شريط",
    "__proto__": "</script><script>window.hit = 1</script>",
}


@pytest.mark.parametrize("off", [NO_POLLING, NO_STREAM], ids=["by the events alone", "by asking alone"])
async def test_a_result_appears_without_a_reload(tmp_path: Path, off: str) -> None:
    async with at_the_booth(tmp_path) as booth:
        page = booth.browser
        await booth.submit("settle-2s-a", plate="粤B660PP")
        await page.before_each_page(off)
        await page.open(booth.site.url)
        await page.until_text("#waiting .plate", "粤B660PP")
        await page.run("window.same = true")
        await page.until_text("#results .row", "paid")
        await page.until_text("#sums", "1 paid")
        assert await page.run("return window.same") is True
        assert await page.text("#waits b") == "0"


async def test_whatever_an_order_carries_is_shown_as_text(tmp_path: Path) -> None:
    async with at_the_booth(tmp_path, undecided_after_seconds=1) as booth:
        page = booth.browser
        await page.open(booth.site.url)
        for number, (plate, lane) in enumerate(HOSTILE.items()):
            await booth.submit(f"pending-{number}-{plate}"[:128], plate=plate, lane=lane, other={"<b>": [plate]})
        await booth.submit("settle-0s-" + "9" * 118, plate=["<b>", 1], lane={"a": None})
        await page.until("document.querySelectorAll('#needs .row').length === 4")
        await page.until("document.querySelectorAll('#results .row').length === 1")
        shown = await page.run("return [...document.querySelectorAll('#needs .plate')].map((e) => e.textContent)")
        assert sorted(shown) == sorted(HOSTILE)
        assert '["<b>",1]' in await page.text("#results")
        wide = "return document.documentElement.scrollWidth <= window.innerWidth"
        for row in range(1, 5):
            await page.click(f"#needs .row:nth-child({row}) .open")
            await page.until_text("#facts", '"<b>"')
            assert await page.run(wide)
            await page.click("#close")
        await page.show_as(390, 844, mobile=True)
        assert await page.run(wide)
        assert await page.run("return window.hit") is None
        assert await page.count("img, b#hit, script") == 2  # its own two scripts
        assert await page.complaints() == []


async def test_it_speaks_the_language_of_its_reader(tmp_path: Path) -> None:
    async with at_the_booth(tmp_path, languages="zh-CN,zh,en") as booth:
        page = booth.browser
        await page.open(booth.site.url)
        await page.until_text("#says", "平台正常")
        for number, state in (("settle-0s-a", "已支付"), ("fail-0s-a", "支付失败"), ("reject-a", "被拒绝")):
            await booth.submit(number, lane=3, plate="粤B660PP")
            await page.until_text("#results .row", state)
        await page.click("#results .open")
        await page.until_text("#close", "关闭")
        await page.until_text(".sheet .act.reopen", "重新查询")
        assert "3 号车道" in await page.text("#results .lane")
        assert await page.run("return document.documentElement.lang") == "zh-CN"


async def test_it_asks_for_the_token_and_keeps_it_in_the_tab_alone(tmp_path: Path) -> None:
    async with at_the_booth(tmp_path, token="open-sesame") as booth:
        page = booth.browser
        await page.open(booth.site.url)
        await booth.submit("settle-1s-a", plate="粤B660PP")
        await page.type("#token", "sesame")
        await page.click("#locked button")
        await page.until_text("#locked", "That is not the token.")
        assert await page.count(".row") == 0
        await page.type("#token", "open-sesame")
        await page.click("#locked button")
        await page.until_text("#results .row", "paid")
        assert await page.run("return [Object.values(sessionStorage), localStorage.length, document.cookie]") == [
            ["open-sesame"],
            0,
            "",
        ]
        assert not any("sesame" in url for url in await page.requests())
        await page.open(booth.site.url)
        await page.until_text("#says", "Platform up")
        await page.run("sessionStorage.clear()")
        await page.open(booth.site.url)
        await page.until_text("#says", "Token needed")


async def test_an_outage_of_the_platform_is_seen_from_afar_with_its_beginning(tmp_path: Path) -> None:
    async with at_the_booth(tmp_path) as booth:
        page = booth.browser
        await page.open(booth.site.url)
        await page.until_text("#says h1", "Platform up")
        await booth.platform.outage("503")
        for number in range(6):
            await booth.submit(f"pending-{number}")
        await page.until_text("#says h1", "Platform down")
        assert await page.run("return getComputedStyle(document.querySelector('#banner')).backgroundColor") == (
            "rgb(184, 16, 31)"
        )
        says = await page.text("#says p")
        assert says.startswith("since ")
        assert "it says that it is busy" in says
        await page.click("#waiting .open")
        await page.until_text(".sheet", "the platform is down: one order at a time is asked about")
        await booth.platform.recover()
        await page.until_text("#says h1", "Platform up")
        await page.until("document.querySelectorAll('#chart rect.outage').length === 1")
        assert "platform down 1×" in await page.text("#sums")


async def test_a_daemon_that_is_gone_never_looks_well_and_is_found_again(tmp_path: Path) -> None:
    async with at_the_booth(tmp_path) as booth:
        page = booth.browser
        await page.open(booth.site.url)
        await page.until_text("#says h1", "Platform up")
        booth.daemon.signal(signal.SIGKILL)
        await page.until_text("#says h1", "No contact with poller")
        assert await page.count("#banner.up") == 0
        async with booth.site.running():
            await page.until_text("#says h1", "Platform up")


async def test_it_talks_to_its_daemon_alone_and_runs_nothing_but_its_own_script(tmp_path: Path) -> None:
    async with at_the_booth(tmp_path) as booth:
        page = booth.browser
        await page.open(booth.site.url)
        await booth.submit("settle-0s-a", plate="粤B660PP")
        await page.click("#results .open")
        await page.until_text(".sheet", "received")
        asked = await page.requests()
        assert f"{booth.site.url}/v1/events" in asked
        foreign = {url for url in asked if not url.startswith(booth.site.url)}
        assert not [url for url in foreign if not url.startswith(("data:", "chrome:", "about:"))]
        assert await page.complaints() == []
        refused = """
            const script = document.createElement('script');
            try { script.textContent = 'window.hit = 1'; document.body.append(script); } catch (refused) {}
            try { document.body.innerHTML += '<img src=x onerror="window.hit = 1">'; } catch (refused) {}
            const sending = fetch('http://localhost:1/').then(() => 'sent', () => 'not sent');
            return sending.then((sent) => [sent, window.hit]);
        """
        assert await page.run(refused) == ["not sent", None]
        assert any("Content Security Policy" in one for one in await page.complaints())
