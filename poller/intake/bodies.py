"""A request's body, read within its bounds of size and time."""

from __future__ import annotations

import asyncio

from aiohttp import web

from poller.intake.connection import Limits, connection_of, too_slow
from poller.intake.parsing import parse_json
from poller.intake.problems import Problem


async def read_json(request: web.Request, limits: Limits) -> object:
    """The body as JSON. Raises Problem 400, 408 or 413."""
    return parse_json(await _read(request, limits))


async def _read(request: web.Request, limits: Limits) -> bytes:
    if (request.content_length or 0) > limits.body_bytes:
        raise _too_big(limits)
    try:
        if request.content.is_eof():  # it came along with the head
            return await request.read()
        connection = connection_of(request)
        async with connection.patience(), asyncio.timeout_at(connection.body_deadline):
            return await request.read()
    except TimeoutError:
        raise too_slow(limits) from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_big(limits) from None
    raise Problem(503, "the daemon is stopping; try again in a moment", headers={"Retry-After": "1"})


def _too_big(limits: Limits) -> Problem:
    return Problem(413, f"the body is bigger than {limits.body_bytes} bytes; send fewer orders at once")
