"""What the metrics say: each instrument by what moves it, their names, what a query's measuring costs."""

from __future__ import annotations

import asyncio
import time
import timeit
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from prometheus_client import ProcessCollector
from prometheus_client.parser import text_string_to_metric_families

from poller import lag
from poller.core.cadence import Cadence
from poller.core.delivery import Dead, Delivered, Gone, NotReceived, ReceiverAnswer, TryAgain
from poller.core.orders import OrderKey, State
from poller.core.replies import Cause, InProgress, Payment, Rejected, Reply, Result, Settled, Unavailable, Unclear
from poller.engine import Engine
from poller.metrics import Metrics
from poller.ports import StoreUnavailableError
from poller.stores.sqlite import SqliteStore
from tests.world.stage import IN_PROGRESS, Stage, orders
from tests.world.truth import PARK

LABELS = {"result", "cause", "state", "durable", "le", "version", "python", "generation"}
PAID = Settled(True, Reply("1001", status="1"), Payment("77"))
OUTCOMES: list[tuple[Result, dict[str, str]]] = [
    (PAID, {"result": "settled_paid", "cause": ""}),
    (Settled(False, Reply("1001", status="-1")), {"result": "settled_failed", "cause": ""}),
    (IN_PROGRESS, {"result": "in_progress", "cause": ""}),
    (Rejected(Reply("400")), {"result": "rejected", "cause": ""}),
    (Unclear("garbage"), {"result": "unclear", "cause": ""}),
    *((Unavailable(cause, "down"), {"result": "unavailable", "cause": cause.value}) for cause in Cause),
]

Sample = Callable[..., float]


def sampled(text: bytes) -> Sample:
    """Reads values out of an exposition."""
    values = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
    return lambda name, **labels: values[name, frozenset(labels.items())]


@pytest.mark.parametrize(("result", "labels"), OUTCOMES)
def test_a_query_is_counted_by_what_came_back(result: Result, labels: dict[str, str]) -> None:
    metrics = Metrics()
    metrics.queried(result, took=0.2, late=0.04)
    of = sampled(metrics.text())
    for _, others in OUTCOMES:
        assert of("poller_queries_total", **others) == (others == labels)
    assert of("poller_query_duration_seconds_sum") == pytest.approx(0.2)
    assert of("poller_query_duration_seconds_bucket", le="0.1") == 0
    assert of("poller_query_duration_seconds_bucket", le="0.25") == 1
    assert of("poller_poll_lateness_seconds_bucket", le="0.01") == 0
    assert of("poller_poll_lateness_seconds_bucket", le="0.05") == 1


@pytest.mark.parametrize("state", [state for state in State if state is not State.PENDING])
def test_an_order_is_counted_by_how_it_ended_and_timed_where_the_platform_settled_it(state: State) -> None:
    metrics = Metrics()
    metrics.ended(state, age=12.0)
    of = sampled(metrics.text())
    assert of("poller_orders_ended_total", state=state.value) == 1
    assert of("poller_order_outcome_seconds_count") == (state in (State.PAID, State.FAILED))


def test_a_transaction_is_timed_apart_where_it_waits_for_the_disk() -> None:
    metrics = Metrics()
    metrics.wrote(0.03, True)
    metrics.wrote(0.0002, False)
    of = sampled(metrics.text())
    assert of("poller_store_transaction_duration_seconds_sum", durable="true") == 0.03
    assert of("poller_store_transaction_duration_seconds_bucket", durable="false", le="0.001") == 1


def test_two_daemons_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.accepted(3)
    assert sampled(one.text())("poller_orders_accepted_total") == 3
    assert sampled(other.text())("poller_orders_accepted_total") == 0


def test_names_and_units_are_prometheus_own_and_no_label_names_an_order_or_a_lot() -> None:
    families = list(text_string_to_metric_families(everything().decode()))
    assert len(families) > 30
    for family in families:
        assert family.documentation
        assert family.name.startswith(("poller_", "process_", "python_gc_"))
        for sample in family.samples:
            assert set(sample.labels) <= LABELS
            assert not sample.name.endswith("_created")
            assert (family.type == "counter") is sample.name.endswith("_total")


def test_the_process_is_told_of_where_proc_stat_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a unit with ProcSubset=pid does."""

    def hidden(_collector: ProcessCollector) -> float:
        raise FileNotFoundError

    monkeypatch.setattr(ProcessCollector, "_boot_time", hidden)
    of = sampled(everything())
    assert of("process_start_time_seconds") == pytest.approx(time.time(), abs=3600)
    assert of("process_resident_memory_bytes") > 1e6
    assert of("process_cpu_seconds_total") > 0
    assert of("process_open_fds") > 2


def test_measuring_a_query_costs_next_to_nothing() -> None:
    """About 1.6 µs where this was written; the bound allows for a machine that is slow and busy."""
    metrics, result = Metrics(), InProgress(Reply("1001", status="0"))
    cost = min(timeit.repeat(lambda: metrics.queried(result, 0.2, 0.01), number=2000, repeat=20)) / 2000
    assert cost < 20e-6


async def test_a_blocked_event_loop_shows_as_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "EVERY_S", 0.01)
    measured = asyncio.Event()

    class Watched(Metrics):
        def lagged(self, seconds: float) -> None:
            super().lagged(seconds)
            measured.set()

    metrics = Watched()
    measuring = asyncio.create_task(lag.measure_lag(metrics))
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - this is the block
    await measured.wait()
    measuring.cancel()
    assert sampled(metrics.text())("poller_event_loop_lag_seconds_bucket", le="0.1") == 0


# Over the whole engine, in simulated time.


def everything() -> bytes:
    """All that a daemon has."""
    texts: list[bytes] = []

    async def scene(engine: Engine) -> None:
        texts.append(await engine.gauges.text())

    metrics = Metrics()
    metrics.describe_process()
    Stage(answering(IN_PROGRESS)).play(scene, metrics=metrics)
    return texts[0]


def answering(*results: Result) -> Callable[[OrderKey, float], Awaitable[Result]]:
    """The order's number says which of the results is its own."""

    async def script(key: OrderKey, _now: float) -> Result:
        return results[int(key.pay_partner.rpartition("-")[2]) % len(results)]

    return script


async def seen(engine: Engine) -> Sample:
    return sampled(await engine.gauges.text())


def test_orders_are_followed_from_taken_on_to_ended() -> None:
    stage = Stage(answering(PAID, IN_PROGRESS, Rejected(Reply("400"))), cadence=Cadence(undecided_after=90.0))

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(6))
        of = await seen(engine)
        assert of("poller_orders_accepted_total") == of("poller_orders_pending") == 6
        assert of("poller_orders_in_memory") == 6
        await asyncio.sleep(60.0)
        of = await seen(engine)
        assert of("poller_orders_ended_total", state="paid") == 2
        assert of("poller_orders_ended_total", state="rejected") == 2
        assert of("poller_order_outcome_seconds_count") == 2
        assert of("poller_order_outcome_seconds_bucket", le="1.0") == 2
        assert of("poller_orders_pending") == 2
        assert of("poller_orders_undecided") == 0
        assert of("poller_oldest_pending_order_age_seconds") == pytest.approx(60.0, abs=0.1)
        await asyncio.sleep(60.0)
        await engine.desk.reopen(OrderKey(PARK, "order-2"))
        of = await seen(engine)
        assert of("poller_orders_undecided") == of("poller_orders_told_undecided_total") == 2
        assert of("poller_orders_reopened_total") == 1

    stage.play(scene)


def test_an_outage_shows_while_it_lasts_and_stays_counted() -> None:
    async def down_for_a_while(_key: OrderKey, now: float) -> Result:
        return Unavailable(Cause.BUSY, "503") if now < 100.0 else IN_PROGRESS

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(10))
        await asyncio.sleep(60.0)
        of = await seen(engine)
        assert of("poller_platform_outage") == of("poller_platform_outages_total") == 1
        await asyncio.sleep(60.0)
        of = await seen(engine)
        assert of("poller_platform_outage") == 0
        assert of("poller_platform_outages_total") == 1
        assert of("poller_poll_lateness_seconds_bucket", le="+Inf") > of(
            "poller_poll_lateness_seconds_bucket", le="60.0"
        )

    Stage(down_for_a_while).play(scene)


def test_deliveries_are_counted_and_what_is_undelivered_ages() -> None:
    answers: list[ReceiverAnswer] = [NotReceived("refused")]

    class Moody:
        async def send(self, event_id: str, body: str) -> ReceiverAnswer:
            return answers[0]

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(2))
        await asyncio.sleep(50.0)
        of = await seen(engine)
        assert of("poller_notices_undelivered") == 2
        assert of("poller_oldest_undelivered_notice_age_seconds") == pytest.approx(49.5, abs=0.5)
        assert of("poller_deliveries_total", result="failed") >= 8
        assert of("poller_deliveries_total", result="dead") == 0
        answers[0] = Gone()
        await asyncio.sleep(100.0)
        of = await seen(engine)
        assert of("poller_deliveries_total", result="dead") == of("poller_notices_dead") == 2
        assert of("poller_notices_undelivered") == of("poller_oldest_undelivered_notice_age_seconds") == 0

    Stage(answering(PAID), receiver=Moody()).play(scene)


def test_a_platform_that_contradicts_itself_and_a_clock_that_is_set_are_counted() -> None:
    said = [PAID]

    async def script(_key: OrderKey, _now: float) -> Result:
        return said[0]

    stage = Stage(script)

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(1))
        await asyncio.sleep(5.0)
        said[0] = Settled(False, Reply("1001", status="-1"))
        await engine.desk.poll(OrderKey(PARK, "order-0"))
        stage.clock.wall_offset = timedelta(days=1)
        await asyncio.sleep(30.0)
        of = await seen(engine)
        assert of("poller_orders_conflicting_total") == 1
        assert of("poller_orders_ended_total", state="paid") == 1
        assert of("poller_clock_steps_total") == 1

    stage.play(scene)


def test_a_store_that_refuses_is_told_of_and_what_it_said_last_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_store: SqliteStore) -> None:
        raise StoreUnavailableError("no space: make some")

    async def scene(engine: Engine) -> None:
        await engine.desk.submit(orders(3))
        assert (await seen(engine))("poller_store_unavailable") == 0
        await asyncio.sleep(10.0)
        with monkeypatch.context() as faulty:
            faulty.setattr(SqliteStore, "counts", refuse)
            of = await seen(engine)
        assert of("poller_store_unavailable") == 1
        assert of("poller_orders_pending") == 3
        assert of("poller_oldest_pending_order_age_seconds") >= 9.9

    Stage(answering(IN_PROGRESS)).play(scene)


def test_a_store_that_does_not_answer_holds_the_metrics_up_for_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(engine: Engine) -> None:
        monkeypatch.setattr(SqliteStore, "counts", lambda _store: asyncio.get_running_loop().create_future())
        before = asyncio.get_running_loop().time()
        assert (await seen(engine))("poller_orders_pending") == 0
        assert asyncio.get_running_loop().time() - before == pytest.approx(1.0, abs=0.1)

    Stage(answering(IN_PROGRESS)).play(scene)


def test_the_store_is_not_counted_at_every_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[float] = []
    count = SqliteStore.counts

    async def counting(store: SqliteStore) -> object:
        times.append(asyncio.get_running_loop().time())
        return await count(store)

    async def scene(engine: Engine) -> None:
        monkeypatch.setattr(SqliteStore, "counts", counting)
        for _ in range(100):
            await engine.gauges.text()
            await asyncio.sleep(0.1)

    Stage(answering(IN_PROGRESS)).play(scene)
    assert 2 <= len(times) <= 5


@pytest.mark.parametrize(
    ("decision", "result"), [(Delivered(), "delivered"), (TryAgain(1.0), "failed"), (Dead("gone"), "dead")]
)
def test_a_delivery_is_counted_by_what_became_of_it(decision: Delivered | TryAgain | Dead, result: str) -> None:
    metrics = Metrics()
    metrics.tried(decision)
    assert sampled(metrics.text())("poller_deliveries_total", result=result) == 1
