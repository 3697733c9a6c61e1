"""The simulated world's own surface, for other processes: what should have come out, and outages to order.

| request | does |
|---|---|
| `GET /_world` | the record's summary and `orders`, one entry for each; `?orders=0` leaves these out |
| `POST /_world/begin` `{"park_uuid", "pay_partner"}` | the debit request: the order lives from now on |
| `POST /_world/outage` `{"kind", "retry_after", "for_s"}` | the platform fails; the last two may be missing |
| `POST /_world/recover` | it works again |

While it refuses connections, `recover` cannot be reached either: `refuse` wants `for_s`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from poller.simulator.platform import SimulatedPlatform


class _Order(msgspec.Struct, forbid_unknown_fields=True):
    park_uuid: str
    pay_partner: str


class _Outage(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    retry_after: float | str | None = None
    for_s: float | None = None


async def answer_control(platform: SimulatedPlatform, request: web.BaseRequest) -> web.Response:
    """Answer one request to the surface; 404 for any other path."""
    try:
        return await _answer(platform, request)
    except KeyError as error:
        return _json({"error": f"unknown park_uuid {error}"}, 404)
    except ValueError as error:  # msgspec's errors of decoding are among them
        return _json({"error": str(error)}, 422)


async def _answer(platform: SimulatedPlatform, request: web.BaseRequest) -> web.Response:
    match (request.method, request.rel_url.path):
        case ("GET", "/_world"):
            return _json(_world(platform, orders=request.rel_url.query.get("orders") != "0"))
        case ("POST", "/_world/begin"):
            order = msgspec.json.decode(await request.read(), type=_Order)
            platform.begin(order.park_uuid, order.pay_partner)
            return _json({})
        case ("POST", "/_world/outage"):
            wanted = msgspec.json.decode(await request.read(), type=_Outage)
            if wanted.kind == "refuse":
                return await _refuse(platform, wanted, request)
            await platform.outage(wanted.kind, retry_after=wanted.retry_after, for_s=wanted.for_s)
            return _json({})
        case ("POST", "/_world/recover"):
            await platform.recover()
            return _json({})
        case _:
            return _json({"error": "no such thing here"}, 404)


async def _refuse(platform: SimulatedPlatform, wanted: _Outage, request: web.BaseRequest) -> web.Response:
    if wanted.for_s is None:
        raise ValueError("refuse wants for_s: nobody could ask to recover")
    await platform.recover()
    response = _json({})
    response.force_close()
    await response.prepare(request)
    await response.write_eof()  # out before the connection is closed with all the others
    platform.refuse_for(wanted.for_s)
    return response


def _world(platform: SimulatedPlatform, *, orders: bool) -> dict[str, Any]:
    world = {"now": time.monotonic(), **platform.record.summary()}
    return world | {"orders": platform.record.orders()} if orders else world


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
