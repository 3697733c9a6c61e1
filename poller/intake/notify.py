"""`/v1/notify`: the platform's callback, as a hint to ask at once. It decides nothing."""

from __future__ import annotations

from contextlib import suppress

from aiohttp import web

from poller.core.orders import OrderKey, Prompt
from poller.intake.answers import answer
from poller.intake.bodies import read_json
from poller.intake.connection import Limits
from poller.intake.desk_port import Desk
from poller.intake.parsing import parse_callback
from poller.intake.problems import unknown_order
from poller.ports import UnknownOrderError


class NotifyHandler:
    """The handler of callbacks, on one desk."""

    def __init__(self, desk: Desk, limits: Limits) -> None:
        self._desk = desk
        self._limits = limits

    async def notify(self, request: web.Request) -> web.Response:
        """Ask about the order; where the callback names no lot, in each lot that knows the number."""
        park_uuid, pay_partner = parse_callback(await read_json(request, self._limits))
        polled = []
        for park in [park_uuid] if park_uuid else self._desk.park_uuids:
            with suppress(UnknownOrderError):
                polled.append(await self._desk.poll(OrderKey(park, pay_partner), Prompt.CALLBACK))
        if not polled:
            raise unknown_order()
        return answer({"orders": [self._desk.document(order) for order in polled]}, 202)
