"""The platform's endpoint over a real socket, with its moods."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, assert_never

from aiohttp import web

from poller.core.signing import sign
from poller.simulator.control import answer_control
from poller.simulator.listener import Listener, hang_up
from poller.simulator.naming import choose
from poller.simulator.record import GONE, Key, Life, Record
from poller.simulator.replies import LIE_PATH, PATH, Wire, Wording, gateway_page
from poller.simulator.scenarios import ROTATION, HangsUp, Rejects, Says, Scenario, SendsGarbage, Word

MEAN_SETTLE_S: Final = 15.0
_DRIP_S: Final = 0.05

Script = Callable[[str, str], Scenario]
"""What an order does, by `park_uuid` and `pay_partner`."""


class Outage(enum.StrEnum):
    """How the whole platform fails."""

    BUSY503 = "503"
    LIMITED429 = "429"
    GATEWAY502 = "502"  # an HTML page of a gateway
    HANG = "hang"  # connections are accepted, nothing is ever answered
    REFUSE = "refuse"  # nobody listens on the port


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to do about one query: `wire` None hangs up, after `hold` has come or after `delay_s`."""

    answer: str
    wire: Wire | None = None
    delay_s: float = 0.0
    hold: asyncio.Event | None = None


class SimulatedPlatform:
    """The platform, as an async context manager: `secrets` is the `app_secret` of each `park_uuid`.

    An order begins to live at the first well-signed query that is seen of it, in an outage too, or by
    `begin`. What it does is told by `script`, else by its number (see `naming`), else drawn by `seed`;
    `mean_settle_s` is the mean time to settling of those that are drawn. Port 0 takes a free one.
    """

    def __init__(
        self,
        secrets: Mapping[str, str],
        *,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        script: Script | None = None,
        mean_settle_s: float = MEAN_SETTLE_S,
    ) -> None:
        self.record = Record()
        self._listener = Listener(self._handle, host, port)
        self._secrets = dict(secrets)
        self._script = script or (lambda _, number: choose(number, seed=seed, mean_settle_s=mean_settle_s))
        self._wording = Wording(seed)
        self._lies = 0
        self._outage: Outage | None = None
        self._retry_after: str | None = None
        self._over = asyncio.Event()
        self._recovery: asyncio.Task[None] | None = None

    @property
    def origin(self) -> str:
        """`http://HOST:PORT`, known once it listens; the control surface is at `/_world` there."""
        return self._listener.origin

    @property
    def port(self) -> int:
        """The port, known once it listens."""
        return self._listener.port

    @property
    def url(self) -> str:
        """The query's full URL."""
        return self.origin + PATH

    async def __aenter__(self) -> Self:
        await self._listener.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._forget_recovery()
        self._over.set()
        await self._listener.close()

    def begin(self, park_uuid: str, pay_partner: str) -> None:
        """The lot has asked for the debit: the order lives from now on. Raises KeyError for an unknown lot."""
        if park_uuid not in self._secrets:
            raise KeyError(park_uuid)
        self._begin((park_uuid, pay_partner), time.monotonic())

    async def outage(
        self, kind: Outage | str, *, retry_after: float | str | None = None, for_s: float | None = None
    ) -> None:
        """The whole platform fails from now on, until `recover`, or for `for_s` seconds.

        `retry_after` is the header that goes with 503 and 429. `refuse` closes all connections. Raises
        ValueError for an unknown kind.
        """
        kind = Outage(kind)
        await self.recover()
        self._retry_after = None if retry_after is None else f"{retry_after}"
        await self._fail(kind)
        if for_s is not None:
            self._recovery = asyncio.create_task(self._recover_after(for_s))

    def refuse_for(self, seconds: float) -> None:
        """Refuse connections for that long, from the next turn of the event loop on; for one who has one open."""
        self._recovery = asyncio.create_task(self._refuse_for(seconds))

    async def recover(self) -> None:
        """The outage ends; queries that hung lose their connections. Nothing happens where there is none."""
        await self._forget_recovery()
        await self._end_outage()

    async def _fail(self, kind: Outage) -> None:
        self._outage, self._over = kind, asyncio.Event()
        if kind is Outage.REFUSE:
            await self._listener.refuse()

    async def _refuse_for(self, seconds: float) -> None:
        await self._fail(Outage.REFUSE)
        await self._recover_after(seconds)

    async def _recover_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._end_outage()

    async def _forget_recovery(self) -> None:
        recovery, self._recovery = self._recovery, None
        if recovery:
            recovery.cancel()
            await asyncio.wait({recovery})

    async def _end_outage(self) -> None:
        self._outage = None
        self._over.set()
        await self._listener.listen()

    def _begin(self, key: Key, now: float) -> Life:
        life = self.record.life(key)
        if life.scenario is None:
            known = key[0] in self._secrets
            self.record.begin(life, self._script(*key) if known else Rejects(), now)
        return life

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.rel_url.path
        if path == LIE_PATH:
            return await _send(request, self._wording.say(Word.PAID, ("", "")))
        if path != PATH:
            return await answer_control(self, request)
        if request.method != "GET":
            return web.Response(status=405, headers={"Allow": "GET"})
        now = time.monotonic()
        query = request.rel_url.query
        key = (query.get("park_uuid", ""), query.get("pay_partner", ""))
        number = self.record.arrive(self.record.life(key) if all(key) else None, now)
        answer = GONE
        try:
            plan = self._plan(key, query.items(), now)
            if plan.delay_s:
                await asyncio.sleep(plan.delay_s)
            answer = plan.answer
            if plan.hold:
                await plan.hold.wait()
            return await _send(request, plan.wire) if plan.wire else hang_up(request)
        finally:
            self.record.end(number, answer, time.monotonic())

    def _plan(self, key: Key, params: Iterable[tuple[str, str]], now: float) -> _Plan:
        complete = all(key)
        secret = self._secrets.get(key[0])
        signed = complete and secret is not None and _is_signed(list(params), secret)
        life = self._begin(key, now) if signed or (complete and secret is None) else None
        if self._outage:
            return self._plan_outage(self._outage)
        if not complete:
            missing = "pay_partner" if key[0] else "park_uuid"
            return _Plan("missing-parameter", self._wording.bad_parameter(f"检查请求参数`{missing}`!"))
        if secret is None:
            return _Plan("unknown-park", self._wording.bad_parameter("检查请求参数`park_uuid`!"))
        if life is None:
            return _Plan("bad-sign", self._wording.bad_sign())
        return self._plan_turn(life, now)

    def _plan_outage(self, kind: Outage) -> _Plan:
        answer = f"outage-{kind}"
        retry_after = () if self._retry_after is None else (("Retry-After", self._retry_after),)
        match kind:
            case Outage.BUSY503:
                return _Plan(answer, self._wording.busy(503, retry_after))
            case Outage.LIMITED429:
                return _Plan(answer, gateway_page(429, "Too Many Requests", retry_after))
            case Outage.GATEWAY502:
                return _Plan(answer, gateway_page(502, "Bad Gateway"))
            case Outage.HANG:
                return _Plan(answer, hold=self._over)
            case Outage.REFUSE:  # a query that was read before its connection closed
                return _Plan(answer)
            case _:
                assert_never(kind)

    def _plan_turn(self, life: Life, now: float) -> _Plan:
        turn = life.turn(now)
        match turn:
            case Says(word, delay_s):
                return _Plan(word, self._wording.say(word, life.key), delay_s)
            case HangsUp():
                return _Plan("hangup")
            case SendsGarbage(kind):
                if kind is None:
                    kind = ROTATION[self._lies % len(ROTATION)]
                    self._lies += 1
                return _Plan(f"garbage-{kind}", self._wording.lie(kind))
            case _:
                assert_never(turn)


def _is_signed(params: list[tuple[str, str]], secret: str) -> bool:
    given = [value for name, value in params if name == "sign"]
    return len(given) == 1 and given[0].upper() == sign(params, secret)


async def _send(request: web.BaseRequest, wire: Wire) -> web.StreamResponse:
    headers = {"Content-Type": f"{wire.content_type};charset=UTF-8", **dict(wire.headers)}
    if not (wire.short or wire.endless):
        return web.Response(body=wire.body, status=wire.status, headers=headers)
    if wire.short:
        headers["Content-Length"] = str(len(wire.body) + 100)
    response = web.StreamResponse(status=wire.status, headers=headers)
    await response.prepare(request)
    await response.write(wire.body)
    while wire.endless:
        await asyncio.sleep(_DRIP_S)
        await response.write(b" ")
    hang_up(request)
    return response


async def serve(
    secrets: Mapping[str, str],
    *,
    host: str,
    port: int,
    shutdown_trigger: Callable[[], Awaitable[object]],
    seed: int = 0,
    mean_settle_s: float = MEAN_SETTLE_S,
    on_listening: Callable[[SimulatedPlatform], None] | None = None,
) -> Record:
    """Serve until `shutdown_trigger()` returns; the record of what was seen is returned.

    `on_listening` is called once the port is open. Raises OSError where the port is taken.
    """
    async with SimulatedPlatform(
        secrets, seed=seed, host=host, port=port, mean_settle_s=mean_settle_s
    ) as platform:
        if on_listening:
            on_listening(platform)
        await shutdown_trigger()
        return platform.record
