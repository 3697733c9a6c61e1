"""An afternoon at a lot: a day of orders behind it, cars at the barrier, and a few things that need somebody.

The loops and the store are the daemon's own; the clock shows a time of its own choosing, and the day before it
is written into the store as that day would have been.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

from poller import intake
from poller.core.cadence import Cadence
from poller.core.delivery import DeliveryState
from poller.core.documents import notice_body
from poller.core.orders import (
    Answer,
    Change,
    NewOrder,
    NoticeType,
    Order,
    OrderKey,
    State,
    contradict,
    end,
    mark_undecided,
)
from poller.core.outage import Outage, PastOutage
from poller.core.replies import Cause, Payment
from poller.engine import Engine, Settings
from poller.ports import Attempt, Making, Stamp
from poller.pyun import Lot, PyunPlatform
from poller.simulator import Pending, SimulatedPlatform
from poller.stores import KeptStore, open_store
from poller.system import RateThrottle, SystemClock
from poller.webhook import WebhookReceiver
from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET

NOW = datetime(2026, 11, 2, 9, 42, 18, tzinfo=UTC)  # 17:42 at the lot
DAY_S = 86_400.0
LANES = {"zh": ["东门出口", "西门出口", "B1 出口"], "en": ["East exit", "West exit", "B1 exit"]}
CARS_AN_HOUR = (3, 2, 1, 1, 1, 4, 15, 42, 58, 31, 24, 27, 38, 33, 25, 24, 31, 52, 66, 49, 34, 27, 16, 8)
PROVINCES = "粤粤粤粤粤粤湘桂京沪"
LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789"
OUTAGES = ((DAY_S * 0.81, 840.0, Cause.BUSY), (DAY_S * 0.33, 200.0, Cause.TIMEOUT))  # seconds ago, lasted


class SceneClock(SystemClock):
    """The machine's, but for the time of day."""

    def __init__(self) -> None:
        self._began = self.monotonic()

    def wall(self) -> datetime:
        return NOW + timedelta(seconds=self.monotonic() - self._began)


class Scene:
    """Writes what has happened; every time is in seconds before now."""

    def __init__(self, store: KeptStore, language: str) -> None:
        self._store = store
        self._lanes = LANES[language]
        self._dice = random.Random(7)
        self._ids = count(1)
        self._now = NOW

    async def car(self, ago: float, plate: str | None = None, lane: int | None = None) -> OrderKey:
        """An order was taken on."""
        dice = self._dice
        made = dice.choice(PROVINCES) + "B" + "".join(dice.choices(LETTERS, k=5))
        metadata = {"lane": self._lanes[dice.randrange(3) if lane is None else lane], "plate": plate or made}
        key = OrderKey(PARK, f"D2611{next(self._ids):05}")
        await self._store.submit([NewOrder(key, metadata)], self._at(ago), DAY_S - ago, DAY_S)
        return key

    async def said(self, key: OrderKey, ago: float, status: str) -> None:
        """The platform was asked and answered."""

        def note(order: Order) -> Change:
            seqno = f"{self._dice.getrandbits(64):016x}"
            answer = Answer(self._at(ago), "1001", seqno=seqno, status=status)
            return Change(order._replace(last_answer=answer, polls=order.polls + 1), None)

        await self._store.change(key, note, self._making(ago))

    async def ends(self, key: OrderKey, ago: float, state: State, *, received: bool = True) -> None:
        payment = Payment(f"4P{next(self._ids):012}", "8", "微信") if state is State.PAID else None
        await self.said(key, ago, {State.PAID: "1", State.FAILED: "-1"}.get(state, "0"))
        await self._tell(key, ago, lambda order: end(order, state, self._at(ago), payment), received)

    async def undecided(self, key: OrderKey, ago: float) -> None:
        await self._tell(key, ago, lambda order: mark_undecided(order, self._at(ago)), received=True)

    async def contradicted(self, key: OrderKey, ago: float) -> None:
        await self.said(key, ago, "-1")
        await self._tell(key, ago, lambda order: contradict(order, False, self._at(ago)), received=True)

    async def _tell(
        self, key: OrderKey, ago: float, change: Callable[[Order], Change | None], received: bool
    ) -> None:
        await self._store.change(key, change, self._making(ago))
        [newest] = await self._store.deliveries(None, key, 1)
        state, error = (DeliveryState.DELIVERED, None) if received else (DeliveryState.DEAD, "HTTP status 410")
        status = 204 if received else 410
        await self._store.record_attempt(Attempt(newest.notice.id, state, self._at(ago), None, error, status))
        self._store.note_logged([newest.notice.id])

    def _making(self, ago: float) -> Making:
        def body(kind: NoticeType, order: Order) -> str:
            return notice_body(kind, order, self._at(ago), None)

        run = DAY_S - ago
        return Making(f"evt-{next(self._ids)}", self._at(ago), run, due=DAY_S, webhook=True, body=body)

    def _at(self, ago: float) -> datetime:
        return self._now - timedelta(seconds=ago)

    async def day(self) -> None:
        """All that ended well, or as badly as it does every day."""
        began: list[float] = []
        for hour in range(24):
            at_the_lot = (NOW.hour + 8 - hour) % 24
            began += [hour * 3600 + self._dice.random() * 3600 for _ in range(CARS_AN_HOUR[at_the_lot])]
        for ago in sorted(began, reverse=True):
            if ago > 150:
                await self._settle(ago)

    async def _settle(self, ago: float) -> None:
        took = self._dice.lognormvariate(1.5, 0.7)
        for since, lasted, _ in OUTAGES:
            if since - lasted < ago < since:
                took += lasted - (since - ago)
        state = self._dice.choices((State.PAID, State.FAILED, State.REJECTED, State.CANCELLED), (94, 4, 1, 1))[0]
        key = await self.car(ago)
        await self.ends(key, max(ago - took, 100.0), state)


async def write(store: KeptStore, language: str) -> None:
    scene = Scene(store, language)
    store.keep_time(lambda: Stamp(DAY_S, DAY_S, NOW))
    await scene.day()
    conflict = await scene.car(5400, "粤B8Q21K", 1)
    await scene.ends(conflict, 5394, State.PAID)
    await scene.contradicted(conflict, 4100)
    late = await scene.car(2300, "湘A0K77M", 0)
    await scene.undecided(late, 2210)
    await scene.ends(late, 1735, State.PAID)
    dead = await scene.car(1240, "粤BD12345", 2)
    await scene.ends(dead, 1233, State.PAID, received=False)
    undecided = await scene.car(372, "粤S5L902", 1)
    await scene.said(undecided, 360, "0")
    await scene.undecided(undecided, 282)
    for ago, took, state in (
        (96, 5.2, State.PAID),
        (81, 31.0, State.FAILED),
        (44, 3.1, State.PAID),
        (21, 6.4, State.PAID),
    ):
        await scene.ends(await scene.car(ago), ago - took, state)
    for ago, plate, lane in ((66, "粤BF93021", 2), (34, "粤B660PP", 0), (9, "粤B·D7731", 1), (3, "桂C42K08", 0)):
        await scene.car(ago, plate, lane)
    await store.close()


@asynccontextmanager
async def playing(folder: Path, language: str, *, down: bool = False) -> AsyncIterator[str]:
    """The address of the page, while the loops run; with `down` the platform has been away for a while."""
    url = f"sqlite:///{folder}/poller.db"
    await write(await open_store(url), language)
    async with (
        SimulatedPlatform({PARK: APP_SECRET}, script=lambda _, __: Pending()) as simulated,
        AsyncExitStack() as closing,
    ):
        store = await open_store(url)
        closing.push_async_callback(store.close)
        clock = SceneClock()
        platform = PyunPlatform(simulated.url, {PARK: Lot(APP_SECRET)}, timeout=5.0)
        closing.push_async_callback(platform.close)
        receiver = WebhookReceiver("http://127.0.0.1:9/payments", WEBHOOK_SECRET, timeout=5.0, clock=clock)
        closing.push_async_callback(receiver.close)
        engine = Engine(
            store=store,
            platform=platform,
            receiver=receiver,
            throttle=RateThrottle(20),
            clock=clock,
            settings=Settings(Cadence(), (PARK,), 8, 604_800.0),
        )
        _remember_outages(engine.poller.outage, clock.monotonic(), down=down)
        if down:
            await simulated.outage("503")
        door = await intake.start(engine.desk, host="127.0.0.1")
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(engine.run(stop, door.stop))
            try:
                yield f"http://127.0.0.1:{door.address[1]}/"
            finally:
                stop.set()


def _remember_outages(outage: Outage, now: float, *, down: bool) -> None:
    for ago, lasted, kind in OUTAGES:
        outage.past.append(PastOutage(now - ago, now - ago + lasted, kind, kind.value))
    if down:
        outage.is_open, outage.since, outage.kind, outage.cause = True, now - 754, Cause.BUSY, "code 503"
