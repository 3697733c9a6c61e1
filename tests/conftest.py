"""What the tests need of their surroundings.

aioresponses is made fit for aiohttp 3.14, whose responses want to know the writer of their request. And a shell
that starts the tests in the background has them ignore Ctrl-C, which the processes they start must not inherit.
"""

import signal
from types import SimpleNamespace
from typing import Any

import aiohttp
from aioresponses import core


class MockedResponse(aiohttp.ClientResponse):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["stream_writer"] = SimpleNamespace(output_size=0)
        super().__init__(*args, **kwargs)


setattr(core, "ClientResponse", MockedResponse)  # noqa: B010 - the module exports it to nobody

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
