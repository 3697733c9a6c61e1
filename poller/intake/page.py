"""The status page at `/`: one file, which holds no data itself and asks the daemon's own HTTP for all it shows.

Its headers let it run its own script and style, known by their hashes, and speak to the daemon alone; nobody
may frame it, and the browser refuses it every way of turning text into HTML.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources

from aiohttp import web

_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


class PageHandler:
    """Serves `page.html`."""

    def __init__(self) -> None:
        page = resources.files(__package__).joinpath("page.html").read_text("utf-8")
        self._body = page.encode()
        self._headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": policy(page),
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Cache-Control": "no-store",
        }

    async def show(self, request: web.Request) -> web.Response:
        return web.Response(body=self._body, headers=self._headers)


def policy(page: str) -> str:
    """The Content-Security-Policy of a page: what is in it, by hash, and the daemon it came from; nothing else."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in _INLINE.findall(page):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        hashes[kind].append(f"'sha256-{digest}'")
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(hashes['script'])}",
            f"style-src {' '.join(hashes['style'])}",
            "img-src data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        ]
    )
