"""Makes aioresponses fit for aiohttp 3.14, whose responses want to know the writer of their request."""

from types import SimpleNamespace
from typing import Any

import aiohttp
from aioresponses import core


class MockedResponse(aiohttp.ClientResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["stream_writer"] = SimpleNamespace(output_size=0)
        super().__init__(*args, **kwargs)


setattr(core, "ClientResponse", MockedResponse)  # noqa: B010 - the module exports it to nobody
