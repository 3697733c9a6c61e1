"""A small server that keeps to the intake's contract, and the commands that talk to it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from click.testing import CliRunner, Result

from poller.cli import main

PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
TOKEN = "t0ken-of-the-gate"

ORDER_KEYS = (
    "next_poll_at",
    "last_reply",
    "undecided_at",
    "final_at",
    "pay_serial",
    "pay_origin",
    "pay_origin_desc",
)

Key = tuple[str, str]
Poller = Callable[..., Coroutine[Any, Any, Result]]


@dataclass
class FakeDaemon:
    """Orders by key; `asked` counts the long polls of each, `settled` lets one answer."""

    orders: dict[Key, dict[str, Any]] = field(default_factory=dict)
    deliveries: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    cancelling: set[str] = field(default_factory=set)  # numbers with a query in the air that outlasts the wait
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    waiting: dict[Key, int] = field(default_factory=lambda: defaultdict(int))

    def order(self, number: str, state: str = "pending", park: str = PARK, **rest: object) -> dict[str, Any]:
        document = {
            **dict.fromkeys(ORDER_KEYS),
            **{"park_uuid": park, "pay_partner": number, "state": state, "metadata": {}, "polls": 2},
            "accepted_at": "2026-11-24T06:12:46.005Z",
            **rest,
        }
        self.orders[park, number] = document
        return document

    def notice(
        self, event_id: str, kind: str, number: str, state: str, park: str = PARK, **rest: object
    ) -> dict[str, Any]:
        document = {
            **{"event_id": event_id, "type": f"payment.{kind}", "park_uuid": park, "pay_partner": number},
            **{"state": state, "made_at": "2026-11-24T06:12:50.000Z", "attempts": 3, "next_attempt_at": None},
            **{"last_error": None, "last_status": None, "last_attempt_at": None},
            **rest,
        }
        self.deliveries.insert(0, document)  # the newest first
        return document

    async def settle(self, number: str, state: str) -> None:
        async with self.changed:
            self.orders[PARK, number]["state"] = state
            self.changed.notify_all()

    async def waited_for(self, number: str) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.waiting[PARK, number])

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._record])
        order = "/v1/orders/{park:[^/]+}/{number:[^/]+}"
        app.add_routes(
            [
                web.post("/v1/orders", self._submit),
                web.get("/v1/orders", self._list),
                web.get(order, self._show),
                web.get(f"{order}/history", self._history),
                web.post(f"{order}/{{action}}", self._act),
                web.get("/v1/deliveries", self._deliveries),
                web.post("/v1/deliveries/{event_id}/retry", self._retry),
            ]
        )
        return app

    @web.middleware
    async def _record(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return problem(401, "send the token")
        return await handler(request)

    def _found(self, request: web.Request) -> tuple[Key, dict[str, Any] | None]:
        _, _, _, park, number, *_ = request.url.raw_path.split("/")
        key = (unquote(park), unquote(number))
        return key, self.orders.get(key)

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        items = []
        for wanted in await request.json():
            number = wanted["pay_partner"]
            known = self.orders.get((wanted.get("park_uuid", PARK), number))
            if number == "refused":
                items.append({"status": 422, "problem": {"status": 422, "detail": "the lot is unknown"}})
            elif known and known["metadata"] != wanted.get("metadata", {}):
                items.append({"status": 409, "problem": {"status": 409, "detail": "known with other metadata"}})
            elif known:
                items.append({"status": 200, "order": known})
            else:
                order = self.order(number, park=wanted.get("park_uuid", PARK), metadata=wanted.get("metadata", {}))
                items.append({"status": 201, "order": order})
        return web.json_response(items)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        key, order = self._found(request)
        if order is None:
            return problem(404, "there is no such order")
        if "wait" in request.query:
            async with self.changed:
                self.waiting[key] += 1
                self.changed.notify_all()
                await self.changed.wait_for(lambda: order["state"] != "pending")
        return web.json_response(order)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        found = [one for one in self.orders.values() if request.query.get("state") in {None, one["state"]}]
        start = int(request.query.get("after", 0))
        end = start + min(int(request.query["limit"]), 2)
        return web.json_response({"orders": found[start:end], "next": str(end) if len(found) > end else None})

    async def _history(self, request: web.Request) -> web.StreamResponse:
        reply = {"code": "1001", "message": "\x1b[31m查询成功", "hint": None, "seqno": "4b18", "status": "0"}
        at = {"first_at": "2026-11-24T06:12:47.000Z", "last_at": "2026-11-24T06:12:49.000Z"}
        history = [{"count": 2, **at, **reply, "error": None}]
        return web.json_response({"history": history, "reason": "in_progress", "why": "in progress"})

    async def _act(self, request: web.Request) -> web.StreamResponse:
        _, order = self._found(request)
        if order is None:
            return problem(404, "there is no such order")
        action = request.match_info["action"]
        if action == "cancel" and order["state"] != "pending":
            return problem(409, f"the order is already\n{order['state']}")
        if action == "poll" and order["park_uuid"] != PARK:
            return problem(409, "its lot is not configured: add it under [[parks]] and send SIGHUP")
        if action == "cancel" and order["pay_partner"] in self.cancelling:
            return web.json_response(order)
        order["state"] = {"cancel": "cancelled", "reopen": "pending"}.get(action, order["state"])
        return web.json_response(order, status=202 if action == "poll" else 200)

    async def _deliveries(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        wanted = {name: query[name] for name in ("state", "pay_partner") if name in query}
        found = [one for one in self.deliveries if wanted.items() <= one.items()]
        return web.json_response({"deliveries": found, "next": None})

    async def _retry(self, request: web.Request) -> web.StreamResponse:
        for one in self.deliveries:
            if one["event_id"] == request.match_info["event_id"]:
                one["state"] = "pending"
                return web.json_response(one, status=202)
        return problem(404, "there is no such notice")


def problem(status: int, detail: str) -> web.Response:
    document = {"type": "about:blank", "status": status, "detail": detail}
    return web.json_response(document, status=status, content_type="application/problem+json")


def configure(folder: Path, listen: str, parks: tuple[str, ...] = (PARK,)) -> None:
    lots = "".join(f'[[parks]]\npark_uuid = "{park}"\napp_secret_file = "unreadable"\n' for park in parks)
    text = f'{lots}[intake]\nlisten = "{listen}"\ntoken_file = "intake.token"\n'
    (folder / "poller.toml").write_text(text)


def set_up(folder: Path) -> None:
    """The configuration and the token of a lot whose daemon listens on a socket file."""
    (folder / "intake.token").write_text(f"{TOKEN}\n")
    (folder / "intake.token").chmod(0o600)
    configure(folder, f"unix:{folder}/poller.sock")


@asynccontextmanager
async def served(fake: FakeDaemon, folder: Path) -> AsyncIterator[None]:
    """The daemon on the socket file of `folder`, as long as one is in here."""
    runner = web.AppRunner(fake.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(folder / "poller.sock")).start()
    try:
        yield
    finally:
        await runner.cleanup()
        (folder / "poller.sock").unlink(missing_ok=True)


def command_of(folder: Path) -> Poller:
    """`poller` with the configuration of that folder."""

    async def run(*words: str) -> Result:
        command = [*words, "--config", str(folder / "poller.toml")]
        return await asyncio.to_thread(CliRunner().invoke, main, command)

    return run
