"""`/metrics`: what Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web


def metrics_page(text: Callable[[], Awaitable[bytes]], content_type: str) -> web.RouteDef:
    """The route of a page that `text` makes anew at each request."""

    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=await text(), headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    return web.get("/metrics", show)
