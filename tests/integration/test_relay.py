"""Deliveries over real parts: the SQLite store, the webhook adapter, and a receiver at the end of a socket.

Pauses are not waited for: the daemon's clock is moved on instead.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog

from poller.core.cadence import Cadence
from poller.core.delivery import DeliveryState
from poller.core.orders import NewOrder, OrderKey, State, end, mark_undecided
from poller.engine import Engine, Settings
from poller.ledger import Ledger
from poller.liveness import Liveness
from poller.metrics import Metrics
from poller.ports import Delivery
from poller.pyun import Lot, PyunPlatform
from poller.relay import PLACES, Relay
from poller.simulator import AfterQueries, Answers, Hangs, HangsUp, Settles, SimulatedPlatform, WebhookReceiver
from poller.simulator.receiver import Mood
from poller.stores import KeptStore
from poller.stores.sqlite import SqliteStore
from poller.system import RateThrottle
from poller.timeline import Timeline
from poller.trouble import StoreTrouble
from poller.webhook import WebhookReceiver as Webhook

PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
SECRET = "whsec_" + base64.b64encode(b"a secret of these tests").decode()
APP_SECRET = "0123456789abcdef0123456789abcdef"
DAY = 86_400.0

Lines = list[MutableMapping[str, Any]]

pytestmark = pytest.mark.timeout(30)


class MovedClock:
    """The machine's clock, moved on as a test says; no jitter."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self._ids = count()

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def wall(self) -> datetime:
        return datetime.now(UTC)  # the receiver looks at it

    def jitter(self) -> float:
        return 0.0

    def new_event_id(self) -> str:
        return f"evt_{next(self._ids)}"


class Lent:
    """A lease that holds as long as a test says."""

    def __init__(self) -> None:
        self.held = True
        self.asked = asyncio.Event()

    def holds(self) -> bool:
        self.asked.set()
        return self.held


class Outbox:
    """A store, and the relay that empties it to `receiver`."""

    def __init__(self, store: KeptStore, receiver: WebhookReceiver, webhook: Webhook, clock: MovedClock) -> None:
        self.store, self.receiver, self.lease = store, receiver, Lent()
        self._clock = clock
        self._timeline = Timeline(clock, store.last_stamp())
        trouble, metrics = StoreTrouble(), Metrics()
        self.relay = Relay(
            store=store,
            clock=clock,
            timeline=self._timeline,
            liveness=Liveness(clock),
            trouble=trouble,
            metrics=metrics,
            receiver=webhook,
            give_up_after=DAY,
            lease=self.lease,
        )
        self._ledger = Ledger(
            store=store,
            clock=clock,
            timeline=self._timeline,
            trouble=trouble,
            metrics=metrics,
            outlet=self.relay,
            webhook=True,
        )

    async def order(self, number: str) -> OrderKey:
        key = OrderKey(PARK, number)
        await self.store.submit([NewOrder(key)], self._clock.wall(), self._timeline.run(), 0.0)
        return key

    async def pay(self, number: str) -> None:
        key = await self.order(number)
        await self._ledger.change(key, lambda order, at: end(order, State.PAID, at))

    async def undecided(self, number: str) -> None:
        await self._ledger.change(await self.order(number), mark_undecided)

    def move(self, seconds: float) -> None:
        """So much time passes."""
        self._clock.ahead += seconds
        self._ledger.ring()

    async def tried(self, event_id: str, times: int) -> Delivery:
        """Wait until so many tries at a notice have been written down."""
        while True:
            delivery = await self.store.delivery(event_id)
            if delivery is not None and delivery.attempts >= times:
                return delivery

    def pause(self, delivery: Delivery) -> float:
        assert delivery.due is not None
        return self._timeline.until(delivery.due)


@pytest.fixture
def log() -> Iterator[Lines]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@asynccontextmanager
async def outbox(folder: Path, timeout: float = 10.0) -> AsyncIterator[Outbox]:
    clock = MovedClock()
    store = await SqliteStore.open(folder / "poller.db")
    async with WebhookReceiver(SECRET) as receiver:
        webhook = Webhook(receiver.url, SECRET, timeout=timeout, clock=clock)
        outbox = Outbox(store, receiver, webhook, clock)
        running = asyncio.create_task(outbox.relay.run())
        try:
            yield outbox
            outbox.relay.stop()
            await running
        finally:
            running.cancel()
            await asyncio.wait({running})
            await webhook.close()
            await store.close()


def events(log: Lines, name: str) -> Lines:
    return [line for line in log if line["event"] == name]


async def test_a_notice_survives_an_hour_without_a_receiver_under_one_id_and_body(
    tmp_path: Path, log: Lines
) -> None:
    async with outbox(tmp_path) as box:
        await box.receiver.refuse()
        await box.pay("1")
        for times, pause in enumerate((1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0), start=1):
            delivery = await box.tried("evt_0", times)
            assert pause - 0.5 <= box.pause(delivery) <= pause
            assert delivery.last_error == "no connection: Connection refused"
            box.move(pause)
        await box.tried("evt_0", 9)
        await box.receiver.accept()
        box.move(60.0)
        [notice] = await box.receiver.received(1)
        delivered = await box.tried("evt_0", 10)
    assert (delivered.state, delivered.last_status) == (DeliveryState.DELIVERED, 204)
    assert notice.id == "evt_0"
    assert json.loads(notice.body)["data"]["pay_partner"] == "1"
    [failed] = events(log, "delivery.failed")
    assert (failed["log_level"], failed["event_id"], failed["pay_partner"]) == ("warning", "evt_0", "1")
    [recovered] = events(log, "delivery.recovered")
    assert (recovered["log_level"], recovered["event_id"]) == ("info", "evt_0")


async def test_nothing_is_sent_while_it_is_not_sure_that_the_lease_holds(tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        box.lease.held = False
        await box.pay("1")
        await box.lease.asked.wait()
        assert box.receiver.notices == {}
        box.lease.held = True
        [notice] = await box.receiver.received(1)
        assert (await box.tried(notice.id, 1)).state == DeliveryState.DELIVERED


async def test_what_was_under_way_when_the_lease_was_lost_is_neither_sent_nor_written_down(tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        box.receiver.behave(Answers(delay_s=0.3), times=1)
        await box.pay("1")
        await box.receiver.attempted(1)
        box.lease.held = False
        box.lease.asked.clear()
        await box.pay("2")
        await box.lease.asked.wait()
        box.relay.forget_all()
        box.lease.held = True
        await box.pay("3")
        assert {notice.id for notice in await box.receiver.received(2)} == {"evt_0", "evt_2"}
        await box.tried("evt_2", 1)
        box.relay.stop()
    async with outbox(tmp_path) as box:
        assert {notice.id for notice in await box.receiver.received(2)} == {"evt_0", "evt_1"}


async def test_a_receiver_that_is_too_slow_gets_the_same_notice_again(tmp_path: Path) -> None:
    async with outbox(tmp_path, timeout=0.15) as box:
        box.receiver.behave(Answers(delay_s=2.0), times=1)
        await box.pay("1")
        slow = await box.tried("evt_0", 1)
        assert (slow.state, slow.last_error) == (DeliveryState.PENDING, "no whole reply in time")
        box.move(1.0)
        [notice] = await box.receiver.received(1)
        assert len(notice.tries) == 2
        assert not notice.changed


async def test_a_flapping_receiver_gets_everything_and_is_told_of_in_pairs_of_lines(
    tmp_path: Path, log: Lines
) -> None:
    moods: list[Mood] = [HangsUp(), Answers(500), Answers(503), HangsUp()]
    async with outbox(tmp_path) as box:
        for turn, mood in enumerate(moods):
            box.receiver.behave(mood)
            await box.pay(f"{turn}")
            await box.tried(f"evt_{turn}", 1)
            box.receiver.recover()
            box.move(1.0)
            await box.tried(f"evt_{turn}", 2)
        assert not any(notice.changed for notice in await box.receiver.received(4))
        assert box.receiver.forged == 0
    told = [line["event"] for line in log if line["event"] in ("delivery.failed", "delivery.recovered")]
    assert told == ["delivery.failed", "delivery.recovered"] * 4


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 418, 500, 502])
async def test_an_answer_that_is_neither_2xx_nor_410_is_tried_again(tmp_path: Path, status: int) -> None:
    async with outbox(tmp_path) as box:
        box.receiver.behave(Answers(status), times=1)
        await box.pay("1")
        refused = await box.tried("evt_0", 1)
        assert (refused.state, refused.last_status) == (DeliveryState.PENDING, status)
        assert refused.last_error == f"HTTP status {status}"
        assert 0.5 <= box.pause(refused) <= 1.0
        box.move(1.0)
        await box.receiver.received(1)


async def test_a_notice_that_waits_is_not_held_up_by_one_that_is_not_made_after_all(tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        box.receiver.behave(Answers(500, delay_s=0.1), times=1)
        await box.pay("1")
        await box.receiver.attempted(1)
        assert box.relay.reserve()
        await box.tried("evt_0", 1)
        box.move(1.0)
        await box.store.flush()
        assert box.receiver.attempts == 1  # it is taken for the one that is being made
        box.relay.release()
        async with asyncio.timeout(5.0):
            await box.receiver.received(1)


@pytest.mark.parametrize(
    ("status", "wish", "pause"),
    [(429, "7", 7.0), (503, "30", 30.0), (503, "86400", 60.0), (429, "0", 1.0), (503, "soon", 1.0)],
)
async def test_retry_after_is_honoured_within_the_bounds_of_the_first_hour(
    tmp_path: Path, status: int, wish: str, pause: float
) -> None:
    async with outbox(tmp_path) as box:
        box.receiver.behave(Answers(status, retry_after=wish), times=1)
        await box.pay("1")
        assert pause - 0.5 <= box.pause(await box.tried("evt_0", 1)) <= pause
        box.move(pause)
        await box.receiver.received(1)


async def test_after_the_first_hour_retry_after_is_honoured_up_to_ten_minutes(tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        box.receiver.behave(Answers(503, retry_after="86400"))
        await box.pay("1")
        await box.tried("evt_0", 1)
        box.move(3600.0)
        assert 599.0 <= box.pause(await box.tried("evt_0", 2)) <= 600.0


async def test_410_makes_a_notice_dead_at_once_and_it_is_sent_again_on_request(tmp_path: Path, log: Lines) -> None:
    async with outbox(tmp_path) as box:
        box.receiver.behave(Answers(410), times=1)
        await box.pay("1")
        dead = await box.tried("evt_0", 1)
        assert (dead.state, dead.due, dead.last_status) == (DeliveryState.DEAD, None, 410)
        box.move(DAY)
        assert await box.store.deliveries(DeliveryState.DEAD, None, 10) == [dead]
        assert box.receiver.attempts == 1
        await box.store.redeliver("evt_0", 0.0, 0.0)
        box.move(0.0)
        [notice] = await box.receiver.received(1)
        assert (notice.id, notice.body.decode(), notice.changed) == ("evt_0", dead.notice.body, False)
        assert (await box.tried("evt_0", 2)).state is DeliveryState.DELIVERED
    [line] = events(log, "delivery.dead")
    assert (line["log_level"], line["event_id"], line["status"]) == ("error", "evt_0", 410)


async def test_the_notices_of_one_order_go_out_in_the_order_of_their_making(tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        box.receiver.behave(Answers(500))
        await box.undecided("1")
        await box.pay("1")
        await box.pay("2")
        await box.tried("evt_0", 1)
        await box.tried("evt_2", 1)
        box.move(1.0)
        await box.tried("evt_0", 2)
        assert (await box.tried("evt_1", 0)).attempts == 0
        box.receiver.recover()
        box.move(2.0)
        notices = await box.receiver.received(3)
        ours = [json.loads(notice.body)["type"] for notice in notices if notice.id != "evt_2"]
        assert ours == ["payment.undecided", "payment.paid"]


async def test_a_dead_notice_does_not_hold_up_the_next_of_its_order(tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        box.receiver.behave(Answers(410), times=1)
        await box.undecided("1")
        await box.pay("1")
        [notice] = await box.receiver.received(1)
        assert json.loads(notice.body)["type"] == "payment.paid"


async def test_a_result_made_while_others_hang_is_sent_as_soon_as_a_place_is_free(tmp_path: Path) -> None:
    """100 notices hang in 16 places; the next result is among the first that are sent after that."""
    async with outbox(tmp_path, timeout=0.3) as box:
        box.receiver.behave(Hangs())
        for number in range(100):
            await box.pay(f"old-{number}")
        await box.receiver.attempted(PLACES)
        await box.pay("fresh")
        box.receiver.recover()
        await box.tried("evt_100", 1)
        assert box.receiver.notices["evt_100"].number <= 5 * PLACES


async def test_results_that_come_at_once_are_logged_and_sent_once_each_over_so_many_places(
    tmp_path: Path, log: Lines
) -> None:
    async with outbox(tmp_path) as box:
        await asyncio.gather(*(box.pay(f"order-{index}") for index in range(3 * PLACES)))
        await box.receiver.received(3 * PLACES)
    numbers = sorted(f"order-{index}" for index in range(3 * PLACES))
    assert sorted(line["pay_partner"] for line in log if line["event"] == "order.final") == numbers
    assert len(box.receiver.notices) == box.receiver.attempts == 3 * PLACES


async def test_sixteen_hanging_deliveries_do_not_slow_the_polls(tmp_path: Path) -> None:
    """The real engine: one order in progress is asked about at its cadence all the while."""
    clock = MovedClock()
    store = await SqliteStore.open(tmp_path / "poller.db")

    def script(_: str, number: str) -> Settles:
        return Settles(AfterQueries(1 if number.startswith("paid") else 10_000))

    async with (
        SimulatedPlatform({PARK: APP_SECRET}, script=script) as platform,
        WebhookReceiver(SECRET) as receiver,
    ):
        adapter = PyunPlatform(platform.url, {PARK: Lot(APP_SECRET)}, timeout=5.0)
        webhook = Webhook(receiver.url, SECRET, timeout=20.0, clock=clock)
        receiver.behave(Hangs())
        engine = Engine(
            store=store,
            platform=adapter,
            receiver=webhook,
            throttle=RateThrottle(200),
            clock=clock,
            settings=Settings(Cadence(initial_delay=0.0, min_interval=0.1, age_fraction=0.0), (PARK,), 8, DAY),
        )
        stop = asyncio.Event()

        async def no_doors() -> None:
            return

        running = asyncio.create_task(engine.run(stop, no_doors))
        await engine.desk.submit([NewOrder(OrderKey(PARK, f"paid-{number}")) for number in range(PLACES + 4)])
        await receiver.attempted(PLACES)
        await platform.record.queried(2 * (PLACES + 4))  # in progress at first, then paid
        await engine.desk.submit([NewOrder(OrderKey(PARK, "waiting"))])
        began = len(platform.record)
        await platform.record.queried(began + 10)
        assert receiver.attempts == PLACES
        assert receiver.received_count == 0
        asked = [query.arrived for query in platform.record.queries() if query.key == (PARK, "waiting")]
        assert len(asked) >= 10
        assert max(later - earlier for earlier, later in pairwise(asked)) < 0.5
        running.cancel()
        await asyncio.wait({running})
        await webhook.close()
        await adapter.close()
        await store.close()
