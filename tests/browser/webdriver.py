"""Headless Chromium, driven over ChromeDriver's W3C WebDriver protocol; both are Debian's packages."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the standard's own name for a reference to an element
PATIENCE_MS = 20_000
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--window-size=1366,768",
)
UNTIL = """
const done = arguments[arguments.length - 1], holds = () => (EXPRESSION);
const look = () => { if (holds()) { observer.disconnect(); done(true); return true; } return false; };
const observer = new MutationObserver(look);
if (!look()) observer.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
"""


def missing() -> str | None:
    """What a browser test lacks here; None where it has all."""
    absent = [program for program in ("chromium", "chromedriver") if shutil.which(program) is None]
    if not absent:
        return None
    return f"{' and '.join(absent)} not found: apt-get install -y chromium chromium-driver fonts-noto-cjk"


class Browser:
    """One window."""

    def __init__(self, http: aiohttp.ClientSession, session: str) -> None:
        self._http = http
        self._session = session

    async def command(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """One command of the protocol; raises AssertionError where the driver refuses it."""
        payload = None if method == "GET" else json.dumps(body or {})
        async with self._http.request(method, f"{self._session}{path}", data=payload) as answer:
            value = (await answer.json())["value"]
        assert answer.status == 200, value
        return value

    async def open(self, url: str) -> None:
        await self.command("POST", "/url", {"url": url})

    async def run(self, script: str, *arguments: object) -> Any:
        """What a function body in the page returns."""
        return await self.command("POST", "/execute/sync", {"script": script, "args": arguments})

    async def run_async(self, script: str, *arguments: object) -> Any:
        """What a function body in the page passes to its last argument."""
        return await self.command("POST", "/execute/async", {"script": script, "args": arguments})

    async def until(self, expression: str) -> None:
        """Wait until an expression is true in the page, looking again at each change of the document."""
        try:
            await self.run_async(UNTIL.replace("EXPRESSION", expression))
        except AssertionError:
            shown = await self.text("body")
            raise AssertionError(f"waited in vain for {expression}; the page says: {shown}") from None

    async def until_text(self, selector: str, text: str) -> None:
        """Wait until what `selector` finds first shows `text`."""
        await self.until(
            f"(document.querySelector({json.dumps(selector)}) || {{innerText: ''}})"
            f".innerText.includes({json.dumps(text)})"
        )

    async def text(self, selector: str) -> str:
        """The text that is shown."""
        shown: str = await self.run("return document.querySelector(arguments[0]).innerText", selector)
        return shown

    async def count(self, selector: str) -> int:
        number: int = await self.run("return document.querySelectorAll(arguments[0]).length", selector)
        return number

    async def click(self, selector: str) -> None:
        """Click as a person does, on what can be seen there, as soon as it is there."""
        await self.until(f"document.querySelector({json.dumps(selector)})")
        await self.command("POST", f"/element/{await self._find(selector)}/click")

    async def type(self, selector: str, text: str) -> None:
        await self.until(f"document.querySelector({json.dumps(selector)})")
        await self.command("POST", f"/element/{await self._find(selector)}/value", {"text": text})

    async def before_each_page(self, script: str) -> None:
        """Have a script run in each page before its own."""
        command = {"cmd": "Page.addScriptToEvaluateOnNewDocument", "params": {"source": script}}
        await self.command("POST", "/goog/cdp/execute", command)

    async def show_as(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Lay the page out for a screen of that many CSS pixels."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}
        await self.command(
            "POST", "/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": screen}
        )

    async def picture(self) -> bytes:
        """What the screen shows, as PNG."""
        return base64.b64decode(await self.command("GET", "/screenshot"))

    async def requests(self) -> list[str]:
        """The URLs of all requests since this was last asked."""
        entries = await self.command("POST", "/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    async def complaints(self) -> list[str]:
        """What the browser wrote to its console since this was last asked."""
        return [entry["message"] for entry in await self.command("POST", "/se/log", {"type": "browser"})]

    async def _find(self, selector: str) -> str:
        found = await self.command("POST", "/element", {"using": "css selector", "value": selector})
        reference: str = found[ELEMENT]
        return reference


@asynccontextmanager
async def browsing(*, languages: str = "en", timezone: str = "UTC") -> AsyncIterator[Browser]:
    """A browser that starts with nothing and leaves nothing: no file, no process."""
    # A short path, or the sockets that it makes there would have names too long for the system.
    with tempfile.TemporaryDirectory(prefix="poller-browser-", ignore_cleanup_errors=True) as name:
        async with _driven(Path(name), languages, timezone) as browser:
            yield browser


@asynccontextmanager
async def _driven(home: Path, languages: str, timezone: str) -> AsyncIterator[Browser]:
    homes = {name: str(home) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TMPDIR")}
    driver = await asyncio.create_subprocess_exec(
        "chromedriver",
        "--port=0",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, **homes, "TZ": timezone},
        start_new_session=True,
    )
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_MS / 500)) as http:
            url = await _url(driver)
            async with http.post(f"{url}/session", json={"capabilities": _wanted(home, languages)}) as answer:
                value = (await answer.json())["value"]
            assert answer.status == 200, value
            browser = Browser(http, f"{url}/session/{value['sessionId']}")
            try:
                yield browser
            finally:
                await browser.command("DELETE", "")
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        assert driver.stdout is not None
        await driver.stdout.read()
        await driver.wait()


async def _url(driver: asyncio.subprocess.Process) -> str:
    assert driver.stdout is not None
    async for line in driver.stdout:
        if b"started successfully on port " in line:
            port = line.decode().rstrip(". \n").rpartition(" ")[2]
            return f"http://127.0.0.1:{port}"
    raise AssertionError("chromedriver did not start")


def _wanted(home: Path, languages: str) -> dict[str, object]:
    options = {
        "binary": shutil.which("chromium"),
        "args": [*FLAGS, f"--user-data-dir={home / 'profile'}"],
        "prefs": {"intl.accept_languages": languages},
    }
    wanted = {
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        "timeouts": {"script": PATIENCE_MS},
    }
    return {"alwaysMatch": wanted}
