"""A lot's own store with orders and notices in every state, and all that can be read of a store, to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from poller.core.delivery import DeliveryState
from poller.core.orders import (
    Answer,
    NewOrder,
    Order,
    Prompt,
    State,
    contradict,
    end,
    mark_undecided,
    reopen,
    request_cancel,
)
from poller.ports import Attempt, Counts, Progress, Stamp
from poller.ports.records import Ending, Since
from poller.stores import KeptStore
from poller.stores.sqlite import SqliteStore
from poller.system import SystemClock
from poller.timeline import Timeline
from tests.integration.store_engines import ALL, AT, LOT, key, making, paid

RUN, SCHEDULE = 50_000.0, 90_000.0  # when the lot's daemon was stopped
OPENED, DUE = RUN - 400.0, SCHEDULE + 600.0
AWAY = timedelta(seconds=120)  # since then
ASKED = ("accepted", "asked", "undecided", "cancelling", "reopened")
ENDED = ("paid", "failed", "rejected", "expired", "cancelled", "contradicted", "pruned", "late")


@dataclass(slots=True)
class Read:
    """`said` is compared as it is; `ages` and `waits` are seconds up to and from now."""

    said: list[object]
    ages: list[float]
    waits: list[float]


def stopped() -> Stamp:
    return Stamp(RUN, SCHEDULE, SystemClock().wall() - AWAY)


async def fill(path: Path, *, more: int = 0) -> None:
    """Make the store; `more` pending orders beside those in every state."""
    store = await SqliteStore.open(path)
    stamp = stopped()
    store.keep_time(lambda: stamp)
    await store.submit([_new(name) for name in (*ENDED, *ASKED)], AT, OPENED, DUE)
    if more:
        await store.submit([_new(f"more-{number}") for number in range(more)], AT, OPENED, DUE)
    await _ask(store)
    await _end(store)
    await _deliver(store)
    await store.close()


def _new(name: str) -> NewOrder:
    return NewOrder(key(name), {"lane": 3, "plate": "粤B12345", "name": name})


async def _ask(store: SqliteStore) -> None:
    for name in (*ENDED, "asked", "undecided", "cancelling"):
        pending = await store.hold(key(name))
        for number in range(3):
            answer = Answer(AT, "1001", "处理中", "稍后再试", f"s{number}", "0")
            store.note(Progress(pending.id, answer, DUE + number, number))
        failed = Answer(AT, error="timeout", prompt=Prompt.REQUEST)
        store.note(Progress(pending.id, failed, DUE + 5.0, 2, keep=False))
    for name in ("undecided", "late"):
        await store.change(key(name), lambda order: mark_undecided(order, AT), making(f"told-{name}", due=DUE))
    await store.change(key("cancelling"), request_cancel, making("none"))


async def _end(store: SqliteStore) -> None:
    states = {"failed": State.FAILED, "rejected": State.REJECTED, "expired": State.EXPIRED}
    for name in (*ENDED, "reopened"):
        state = states.get(name, State.CANCELLED)
        has_webhook = name not in ("expired", "pruned")
        made = replace(making(f"end-{name}", webhook=has_webhook, due=DUE), run=RUN - 100.0)
        if name == "pruned":
            made = replace(made, run=RUN - 300.0)
        if name in ("paid", "contradicted", "late"):
            await store.change(key(name), paid, made)
        else:
            await store.change(key(name), lambda order, state=state: end(order, state, AT), made)  # type: ignore[misc]
    await store.change(
        key("contradicted"), lambda order: contradict(order, False, AT), making("conflict", due=DUE)
    )
    await store.change(key("reopened"), lambda order: reopen(order, RUN - 50.0, DUE), making("none"))


async def _deliver(store: SqliteStore) -> None:
    claimed = {one.notice.event_id: one.notice.id for one in await store.claim_deliveries(ALL, 100)}
    for event, state in (("end-paid", "delivered"), ("end-rejected", "dead"), ("told-late", "delivered")):
        await store.record_attempt(Attempt(claimed[event], DeliveryState(state), AT, status=410))
    tried = Attempt(claimed["end-failed"], DeliveryState.PENDING, AT, DUE + 9.0, "Connection refused")
    await store.record_attempt(tried)
    told = await store.unlogged(100)
    store.note_logged([notice.id for notice in told if notice.event_id != "end-cancelled"])
    await store.prune(RUN - 200.0, 100)


async def read(store: KeptStore, times: Timeline | None = None) -> Read:
    """All that the store says, without ids."""
    times = times or Timeline(SystemClock(), store.last_stamp())
    seen = Read([], [], [])
    orders = await store.orders(None, None, 10_000, None)
    for order in orders:
        await _read_order(store, order, times, seen)
    for delivery in await store.deliveries(None, None, 10_000):
        seen.said.append(delivery.notice.event_id)
    seen.said.append([notice.event_id for notice in await store.unlogged(100)])
    overview = await store.overview(Since(times.run() - 3600.0, AT, times.run()), 100)
    for group in (overview.waiting, overview.undecided, overview.conflicting, overview.late):
        seen.said.append((sorted(_names(group.shown)), group.count))
    seen.said.append(sorted(one.delivery.notice.event_id for one in overview.undelivered.shown))
    seen.said.append([one.by for one in await store.settlements(100)])
    for ended in await store.ended(Ending(times.run() - 3600.0, 0), 1000):
        seen.said.append((ended.state, ended.at, round(ended.seconds, 3)))
    _read_counts(await store.counts(), times, seen)
    return seen


async def _read_order(store: KeptStore, order: Order, times: Timeline, seen: Read) -> None:
    seen.ages.append(times.run() - order.opened_run)
    seen.waits += [] if order.due is None else [order.due - times.schedule()]
    seen.said.append(order._replace(id=0, opened_run=0.0, due=None))
    seen.said.append(await store.history(order.key))
    for delivery in await store.deliveries(None, order.key, 100):
        seen.ages.append(times.run() - delivery.notice.made_run)
        seen.waits += [] if delivery.due is None else [delivery.due - times.schedule()]
        seen.said.append(replace(delivery, notice=replace(delivery.notice, id=0, made_run=0.0), due=None))


def _read_counts(counts: Counts, times: Timeline, seen: Read) -> None:
    seen.said.append((counts.pending, counts.undecided, counts.undelivered, counts.dead))
    for oldest in (counts.oldest_opened_run, counts.oldest_made_run):
        assert oldest is not None
        seen.ages.append(times.run() - oldest)


def _names(orders: Sequence[Order]) -> list[str]:
    assert all(order.key.park_uuid == LOT for order in orders)
    return [order.key.pay_partner for order in orders]
