"""The commands that talk to the daemon, against a small server that keeps to the intake's contract."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from poller.cli import COMMANDS, main

PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
TOKEN = "t0ken-of-the-gate"
ODD = "a/b?c 号%2F"

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
            if number == "refused":
                items.append({"status": 422, "problem": {"status": 422, "detail": "the lot is unknown"}})
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
        return web.json_response({"history": [{"count": 2, **at, **reply, "error": None}], "why": "in progress"})

    async def _act(self, request: web.Request) -> web.StreamResponse:
        _, order = self._found(request)
        if order is None:
            return problem(404, "there is no such order")
        action = request.match_info["action"]
        if action == "cancel" and order["state"] != "pending":
            return problem(409, f"the order is already\n{order['state']}")
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


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[FakeDaemon]:
    fake = FakeDaemon()
    runner = web.AppRunner(fake.app(), shutdown_timeout=5)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "poller.sock")).start()
    (tmp_path / "intake.token").write_text(f"{TOKEN}\n")
    (tmp_path / "intake.token").chmod(0o600)
    configure(tmp_path, f"unix:{tmp_path}/poller.sock")
    yield fake
    await runner.cleanup()


def configure(folder: Path, listen: str, parks: tuple[str, ...] = (PARK,)) -> None:
    lots = "".join(f'[[parks]]\npark_uuid = "{park}"\napp_secret_file = "unreadable"\n' for park in parks)
    text = f'{lots}[intake]\nlisten = "{listen}"\ntoken_file = "intake.token"\n'
    (folder / "poller.toml").write_text(text)


@pytest.fixture
def poller(tmp_path: Path) -> Poller:
    async def run(*words: str) -> Result:
        command = [*words, "--config", str(tmp_path / "poller.toml")]
        return await asyncio.to_thread(CliRunner().invoke, main, command)

    return run


def objects(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.mark.parametrize("name", COMMANDS)
async def test_every_command_has_help_that_begins_with_its_summary(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert COMMANDS[name][1] in result.output


async def test_no_option_takes_a_secret() -> None:
    for name in COMMANDS:
        options = [word for word in CliRunner().invoke(main, [name, "--help"]).output.split() if word[:2] == "--"]
        assert not {"--token", "--secret", "--app-secret"} & set(options)


async def test_submit_hands_orders_in_with_their_metadata(daemon: FakeDaemon, poller: Poller) -> None:
    result = await poller("submit", "1", "2", "1", "--metadata", '{"lane": 3}')
    assert (result.exit_code, result.output) == (0, "1  pending\n2  pending\n")
    assert [order["metadata"] for order in daemon.orders.values()] == [{"lane": 3}] * 2


async def test_submit_says_what_was_refused_and_fails(daemon: FakeDaemon, poller: Poller) -> None:
    result = await poller("submit", "1", "refused", "--json")
    assert result.exit_code == 1
    assert [order["pay_partner"] for order in objects(result.stdout)] == ["1"]
    assert result.stderr == "poller: refused: the lot is unknown\n"


async def test_submit_wait_prints_each_order_as_it_becomes_final(daemon: FakeDaemon, poller: Poller) -> None:
    submitting = asyncio.create_task(poller("submit", "1", "2", "--wait"))
    for number, state in (("2", "failed"), ("1", "paid")):
        await daemon.waited_for(number)
        await daemon.settle(number, state)
    result = await submitting
    assert (result.exit_code, sorted(result.output.splitlines())) == (0, ["1  paid", "2  failed"])


async def test_submit_wait_fails_where_an_order_is_not_decided(daemon: FakeDaemon, poller: Poller) -> None:
    submitting = asyncio.create_task(poller("submit", "1", "--wait"))
    await daemon.waited_for("1")
    await daemon.settle("1", "expired")
    result = await submitting
    assert (result.exit_code, result.output) == (1, "1  expired\n")


async def test_ctrl_c_while_waiting_leaves_the_orders_where_they_are(daemon: FakeDaemon, tmp_path: Path) -> None:
    words = ("submit", "1", "--wait", "--config", str(tmp_path / "poller.toml"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "poller", *words, stderr=asyncio.subprocess.PIPE
    )
    await daemon.waited_for("1")
    process.send_signal(signal.SIGINT)
    _, errors = await process.communicate()
    assert process.returncode == 130
    assert errors.decode() == "poller: stopped waiting; the orders stay with the daemon, which goes on asking\n"
    assert daemon.orders[PARK, "1"]["state"] == "pending"
    await daemon.settle("1", "paid")  # ends the long poll of the one who has gone


@pytest.mark.parametrize(
    "words", [("submit",), ("submit", "1", "--metadata", "[]"), ("submit", ""), ("show", "..")]
)
async def test_wrong_usage_exits_2(daemon: FakeDaemon, poller: Poller, words: tuple[str, ...]) -> None:
    assert (await poller(*words)).exit_code == 2
    assert daemon.requests == []


async def test_show_tells_the_state_the_queries_and_the_notices(daemon: FakeDaemon, poller: Poller) -> None:
    daemon.order(ODD, metadata={"plate": "粤B660PP"}, next_poll_at="2026-11-24T06:12:50.000Z")
    daemon.deliveries = [{"event_id": "e1", "type": "payment.undecided", "pay_partner": ODD, "state": "delivered"}]
    result = await poller("show", ODD)
    assert result.exit_code == 0
    for text in (ODD, "pending", "粤B660PP", "4b18", "查询成功", "e1", "2026-11-24T06:12:50.000Z: in progress"):
        assert text in result.output
    assert "\x1b" not in result.output
    assert f"/v1/orders/{PARK}/a%2Fb%3Fc%20%E5%8F%B7%252F" in {path for _, path in daemon.requests}


async def test_show_as_json_is_the_order_with_its_history(daemon: FakeDaemon, poller: Poller) -> None:
    daemon.order("1", "paid")
    (order,) = objects((await poller("show", "1", "--json")).output)
    assert (order["state"], order["history"][0]["count"], order["deliveries"]) == ("paid", 2, [])


async def test_list_follows_the_pages_up_to_the_limit(daemon: FakeDaemon, poller: Poller) -> None:
    for number in range(5):
        daemon.order(str(number), "paid" if number else "pending")
    assert len(objects((await poller("list", "--json")).output)) == 5
    assert len(objects((await poller("list", "--json", "--limit", "1")).output)) == 1
    assert len(objects((await poller("list", "--json", "--state", "paid")).output)) == 4
    table = (await poller("list")).output.splitlines()
    assert table[0].split()[:3] == ["pay_partner", "state", "polls"]
    assert len(table) == 6


async def test_cancel_poll_and_reopen_act_on_one_order(daemon: FakeDaemon, poller: Poller) -> None:
    daemon.order("1")
    assert (await poller("poll", "1")).output == "1  pending, asked about now\n"
    assert (await poller("cancel", "1")).output == "1  cancelled\n"
    refused = await poller("cancel", "1")
    assert (refused.exit_code, refused.stderr) == (1, "poller: the order is already cancelled\n")
    assert objects((await poller("reopen", "1", "--json")).output)[0]["state"] == "pending"


async def test_an_unknown_order_is_one_clear_line(daemon: FakeDaemon, poller: Poller) -> None:
    result = await poller("show", "9")
    assert (result.exit_code, result.output) == (1, "poller: there is no such order\n")


async def test_dead_notices_are_sent_again_by_name_or_all(daemon: FakeDaemon, poller: Poller) -> None:
    for event_id, state in (("e1", "dead"), ("e2", "dead"), ("e3", "delivered")):
        daemon.deliveries.append(
            {"event_id": event_id, "type": "payment.paid", "pay_partner": "1", "state": state}
        )
    listed = objects((await poller("deliveries", "--state", "dead", "--json")).output)
    assert [one["event_id"] for one in listed] == ["e1", "e2"]
    assert (await poller("redeliver", "e3")).output == "e3  is sent again\n"
    assert (await poller("redeliver", "--dead")).output == "e1  is sent again\ne2  is sent again\n"
    assert (await poller("redeliver", "--dead")).output == "no notice is dead\n"
    assert (await poller("redeliver", "e9")).exit_code == 1
    assert (await poller("redeliver")).exit_code == 2
    assert "e1" in (await poller("deliveries")).output


async def test_the_lot_must_be_named_where_several_are_configured(
    daemon: FakeDaemon, poller: Poller, tmp_path: Path
) -> None:
    configure(tmp_path, f"unix:{tmp_path}/poller.sock", (PARK, "other"))
    daemon.order("1", park="other")
    result = await poller("show", "1")
    assert result.exit_code == 2
    assert "say which lot with --park" in result.output
    assert (await poller("show", "1", "--park", "other")).exit_code == 0


async def test_a_daemon_that_does_not_run_is_one_clear_line(
    daemon: FakeDaemon, poller: Poller, tmp_path: Path
) -> None:
    for listen in (f"unix:{tmp_path}/none.sock", "127.0.0.1:1"):
        configure(tmp_path, listen)
        result = await poller("list")
        assert result.exit_code == 1
        assert result.output == f"poller: no daemon listens on {listen}: start it with `poller run`\n"


async def test_something_else_on_the_port_is_told_apart(
    daemon: FakeDaemon, poller: Poller, tmp_path: Path, unused_tcp_port: int
) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(greet, "127.0.0.1", unused_tcp_port):
        configure(tmp_path, f"127.0.0.1:{unused_tcp_port}")
        result = await poller("list")
    assert result.exit_code == 1
    assert "is not poller's daemon (HTTP 200)" in result.output


async def test_a_wrong_token_is_said_without_showing_it(
    daemon: FakeDaemon, poller: Poller, tmp_path: Path
) -> None:
    (tmp_path / "intake.token").write_text("wr0ng")
    result = await poller("list")
    assert (result.exit_code, result.output) == (1, "poller: send the token\n")


async def test_a_wrong_configuration_exits_78_naming_the_fault(
    daemon: FakeDaemon, poller: Poller, tmp_path: Path
) -> None:
    configure(tmp_path, "nowhere")
    result = await poller("list")
    assert result.exit_code == 78
    assert f"{tmp_path}/poller.toml: [intake] listen: expected HOST:PORT or unix:/path" in result.stderr
