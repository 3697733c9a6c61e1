"""Makes the pictures of the status page that the README shows: `python -m tests.browser.screenshots [FOLDER]`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from poller import logs
from tests.browser.png import small
from tests.browser.scene import playing
from tests.browser.webdriver import browsing, missing

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "screenshots"
SCREENS = {"desk": (1366, 768), "phone": (390, 844)}
LANGUAGES = {"zh": "zh-CN,zh", "en": "en"}
SETTLED = "document.querySelectorAll('#waiting .row').length >= 4 && document.querySelector('#chart svg')"
DOWN = "document.querySelector('#banner.down')"


async def shoot() -> dict[str, bytes]:
    """Every picture by its name, as PNG."""
    made: dict[str, bytes] = {}
    for language in LANGUAGES:
        made |= await _shoot(language, ["desk", "phone"])
    return made | await _shoot("zh", ["desk"], down=True)


async def _shoot(language: str, screens: list[str], *, down: bool = False) -> dict[str, bytes]:
    made = {}
    with tempfile.TemporaryDirectory(prefix="poller-scene-") as name:
        scratch = Path(name)
        async with (
            playing(scratch, language, down=down) as url,
            browsing(languages=LANGUAGES[language], timezone="Asia/Shanghai") as browser,
        ):
            for screen in screens:
                await browser.show_as(*SCREENS[screen], mobile=screen == "phone")
                await browser.open(url)
                await browser.until(DOWN if down else SETTLED)
                made[f"{language}-{screen}{'-down' if down else ''}"] = await small(
                    browser, await browser.picture()
                )
            if not down and language == "zh":
                await browser.show_as(*SCREENS["desk"])
                await browser.open(url)
                await browser.click("#needs .open")
                await browser.until("document.querySelectorAll('.sheet table').length === 3")
                made[f"{language}-order"] = await small(browser, await browser.picture())
    return made


def main(folder: Path) -> int:
    lacks = missing()
    if lacks is not None:
        sys.stderr.write(f"screenshots: {lacks}\n")
        return 1
    logs.configure("error", "auto", stream_is_terminal=False, journal=False)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in asyncio.run(shoot()).items():
        path = folder / f"{name}.png"
        path.write_bytes(picture)
        sys.stdout.write(f"{path} {len(picture):,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER))
