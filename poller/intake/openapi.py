"""The description of the intake, as OpenAPI 3.1."""

from __future__ import annotations

import json
from importlib import resources

from aiohttp import web

from poller import __version__
from poller.intake.answers import encode


class OpenApiHandler:
    """Serves `openapi.json` with the daemon's version in it."""

    def __init__(self) -> None:
        document = json.loads(resources.files(__package__).joinpath("openapi.json").read_bytes())
        document["info"]["version"] = __version__
        self._body = encode(document)

    async def show(self, request: web.Request) -> web.Response:
        return web.Response(body=self._body, content_type="application/json")
