"""`/v1/deliveries`: the notices and how far each has come."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from poller.core.delivery import DeliveryState
from poller.core.documents import timestamp
from poller.core.orders import OrderKey
from poller.intake.answers import answer
from poller.intake.desk_port import Desk
from poller.intake.parsing import parse_cursor, parse_limit, parse_state, parse_text
from poller.intake.problems import Problem
from poller.ports import Delivery, UnknownOrderError


class DeliveryHandlers:
    """The handlers of deliveries, on one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list_deliveries(self, request: web.Request) -> web.Response:
        query = request.query
        limit = parse_limit(query)
        deliveries = await self._desk.deliveries(
            parse_state(query, DeliveryState), self._key(query), limit + 1, parse_cursor(query), None
        )
        page = deliveries[:limit]
        return answer(
            {
                "deliveries": [delivery_document(self._desk, delivery) for delivery in page],
                "next": str(page[-1].notice.id) if len(deliveries) > limit else None,
            }
        )

    async def retry(self, request: web.Request) -> web.Response:
        event_id = request.match_info["event_id"]
        if not event_id.isprintable():
            raise _unknown_notice()
        try:
            delivery = await self._desk.redeliver(event_id)
        except UnknownOrderError:
            raise _unknown_notice() from None
        return answer(delivery_document(self._desk, delivery), 202)

    def _key(self, query: Mapping[str, str]) -> OrderKey | None:
        park_uuid, pay_partner = parse_text(query, "park_uuid"), parse_text(query, "pay_partner")
        if park_uuid is None and pay_partner is None:
            return None
        if park_uuid is None and len(self._desk.park_uuids) == 1:
            park_uuid = self._desk.park_uuids[0]
        if park_uuid is None or pay_partner is None:
            raise Problem(422, "give park_uuid and pay_partner, both, to see the notices of one order")
        return OrderKey(park_uuid, pay_partner)


def delivery_document(desk: Desk, delivery: Delivery) -> dict[str, object]:
    """A notice and how far it has come, as its users read it."""
    notice = delivery.notice
    return {
        "event_id": notice.event_id,
        "type": notice.type.value,
        "park_uuid": notice.key.park_uuid,
        "pay_partner": notice.key.pay_partner,
        "state": delivery.state.value,
        "made_at": timestamp(notice.made_at),
        "attempts": delivery.attempts,
        "next_attempt_at": None if delivery.due is None else timestamp(desk.wall_at(delivery.due)),
        "last_error": delivery.last_error,
        "last_status": delivery.last_status,
        "last_attempt_at": timestamp(delivery.last_at) if delivery.last_at else None,
    }


def _unknown_notice() -> Problem:
    return Problem(404, "there is no notice of this event_id; see GET /v1/deliveries")
