"""The booth: the real daemon process, a simulated platform and receiver, and a browser that shows the page."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from poller.simulator import SimulatedPlatform, WebhookReceiver
from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, Process, Site
from tests.browser.webdriver import Browser, browsing, missing

LACKS = missing()
# Scripts to run before the page's own: the one way of learning of news is off, or the other.
NO_POLLING = "const wait = setTimeout; setTimeout = (what, ms) => (ms === 2000 ? 0 : wait(what, ms));"
NO_STREAM = """
const opening = XMLHttpRequest.prototype.open;
XMLHttpRequest.prototype.open = function (method, path, ...rest) {
  return opening.call(this, method, path === 'v1/events' ? 'v1/nothing' : path, ...rest);
};
"""
needs_browser = pytest.mark.skipif(LACKS is not None, reason=LACKS or "")


@dataclass(frozen=True, slots=True)
class Booth:
    site: Site
    daemon: Process
    platform: SimulatedPlatform
    receiver: WebhookReceiver
    session: aiohttp.ClientSession
    browser: Browser

    async def submit(self, number: str, **metadata: object) -> None:
        """Hand an order in, as the lot's software does."""
        order = {"pay_partner": number, "metadata": metadata}
        async with self.session.post("/v1/orders", json=order) as answer:
            assert answer.status == 201, await answer.text()

    async def ask(self, number: str) -> None:
        """Have the platform asked, as the lot's software does."""
        async with self.session.post(f"/v1/orders/{PARK}/{number}/poll") as answer:
            assert answer.status == 202

    def stored(self, sql: str, *bound: object) -> Any:
        """What the store's file holds: the first column of the first row."""
        with closing(sqlite3.connect(f"file:{self.site.folder}/poller.db?mode=ro", uri=True)) as reader:
            return reader.execute(sql, bound).fetchone()[0]

    def state(self, number: str) -> str:
        """An order's state in the store's file."""
        return str(self.stored("SELECT state FROM orders WHERE pay_partner = ?", number))


@asynccontextmanager
async def at_the_booth(
    folder: Path, *, languages: str = "en", token: str | None = None, **polling: float
) -> AsyncIterator[Booth]:
    """Everything runs, and the page is not open yet. `polling` are settings, as `Site.make` has them."""
    async with (
        SimulatedPlatform({PARK: APP_SECRET}) as platform,
        WebhookReceiver(WEBHOOK_SECRET) as receiver,
    ):
        site = Site.make(folder / "site", platform.url, receiver.url, **polling)
        if token is not None:
            _ask_for(site, token)
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        async with (
            site.running() as daemon,
            aiohttp.ClientSession(site.url, headers=headers) as session,
            browsing(languages=languages) as browser,
        ):
            yield Booth(site, daemon, platform, receiver, session, browser)


def _ask_for(site: Site, token: str) -> None:
    path = site.folder / "intake.token"
    path.write_text(token + "\n")
    path.chmod(0o600)
    text = site.config.read_text()
    site.config.write_text(text.replace("[intake]", '[intake]\ntoken_file = "intake.token"'))
