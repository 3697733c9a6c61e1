"""`/v1/orders`: hand orders in, look at them, ask now, stop, start again."""

from __future__ import annotations

from typing import assert_never
from urllib.parse import quote

from aiohttp import web

from poller.core.documents import answer_document, timestamp
from poller.core.orders import NewOrder, Order, OrderKey, State
from poller.intake.answers import answer
from poller.intake.bodies import read_json
from poller.intake.connection import Limits, connection_of
from poller.intake.desk_port import Desk
from poller.intake.parsing import (
    BATCH_ORDERS,
    order_key,
    parse_cursor,
    parse_limit,
    parse_order,
    parse_state,
    parse_text,
    parse_wait,
)
from poller.intake.problems import Problem
from poller.ports import Accepted, Differs, HistoryEntry, Known, Submitted


class OrderHandlers:
    """The handlers of orders, on one desk."""

    def __init__(self, desk: Desk, limits: Limits) -> None:
        self._desk = desk
        self._limits = limits

    async def submit(self, request: web.Request) -> web.Response:
        document = await read_json(request, self._limits)
        if isinstance(document, list):
            return answer(await self._batch(document))
        order = parse_order(document, self._desk.park_uuids)
        (submitted,) = await self._desk.submit([order])
        match submitted:
            case Accepted(order=taken):
                return answer(self._desk.document(taken), 201, {"Location": _path(taken.key)})
            case Known(order=known):
                return answer(self._desk.document(known))
            case Differs():
                raise _differs()
            case _:
                assert_never(submitted)

    async def _batch(self, documents: list[object]) -> list[dict[str, object]]:
        if len(documents) > BATCH_ORDERS:
            raise Problem(422, f"{len(documents)} orders at once; send at most {BATCH_ORDERS}")
        parks = self._desk.park_uuids
        parsed: list[NewOrder | Problem] = []
        for document in documents:
            try:
                parsed.append(parse_order(document, parks))
            except Problem as problem:
                parsed.append(problem)
        good = [one for one in parsed if isinstance(one, NewOrder)]
        submitted = iter(await self._desk.submit(good) if good else ())
        return [_refusal(one) if isinstance(one, Problem) else self._item(next(submitted)) for one in parsed]

    def _item(self, submitted: Submitted) -> dict[str, object]:
        match submitted:
            case Accepted(order=order):
                return {"status": 201, "order": self._desk.document(order)}
            case Known(order=order):
                return {"status": 200, "order": self._desk.document(order)}
            case Differs():
                return _refusal(_differs())
            case _:
                assert_never(submitted)

    async def show(self, request: web.Request) -> web.Response:
        key = order_key(request.rel_url.raw_path)
        seconds = parse_wait(request.query)
        order: Order | None = None
        if seconds:
            async with connection_of(request).patience():
                order = await self._desk.wait(key, seconds)
        if order is None:
            order = await self._desk.order(key)
        return answer(self._desk.document(order))

    async def list_orders(self, request: web.Request) -> web.Response:
        query = request.query
        limit = parse_limit(query)
        orders = await self._desk.orders(
            parse_state(query, State), parse_text(query, "park_uuid"), limit + 1, parse_cursor(query)
        )
        page = orders[:limit]
        return answer(
            {
                "orders": [self._desk.document(order) for order in page],
                "next": str(page[-1].id) if len(orders) > limit else None,
            }
        )

    async def history(self, request: web.Request) -> web.Response:
        key = order_key(request.rel_url.raw_path)
        order = await self._desk.order(key)
        entries = await self._desk.history(key)
        return answer(
            {
                "history": [_history_document(entry) for entry in entries],
                "next_poll_at": self._desk.document(order)["next_poll_at"],
                "reason": self._desk.reason(order),
                "why": self._desk.why(order),
            }
        )

    async def poll(self, request: web.Request) -> web.Response:
        order = await self._desk.poll(order_key(request.rel_url.raw_path))
        return answer(self._desk.document(order), 202)

    async def cancel(self, request: web.Request) -> web.Response:
        order = await self._desk.cancel(order_key(request.rel_url.raw_path))
        return answer(self._desk.document(order))

    async def reopen(self, request: web.Request) -> web.Response:
        order = await self._desk.reopen(order_key(request.rel_url.raw_path))
        return answer(self._desk.document(order))


def _path(key: OrderKey) -> str:
    return f"/v1/orders/{quote(key.park_uuid, safe='')}/{quote(key.pay_partner, safe='')}"


def _differs() -> Problem:
    return Problem(
        409,
        "this pay_partner is known with other metadata; send the same metadata, or a new number for a new order",
    )


def _refusal(problem: Problem) -> dict[str, object]:
    return {"status": problem.status, "problem": problem.document()}


def _history_document(entry: HistoryEntry) -> dict[str, object]:
    last = answer_document(entry.answer)
    last_at = last.pop("at")
    return {
        "count": entry.count,
        "first_at": timestamp(entry.first_at),
        "last_at": last_at,
        "prompt": entry.answer.prompt.value,
        **last,
    }
