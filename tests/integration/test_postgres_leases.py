"""Many daemons on one PostgreSQL: what one holds the others leave, and who was away too long writes nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TypeVar

import pytest

from poller.core.delivery import DeliveryState
from poller.core.orders import Answer, NewOrder, Order, mark_undecided
from poller.ports import Accepted, Attempt, Counts, Progress, Stamp, StoreUnavailableError
from poller.stores.postgres import HeldElsewhereError, LeaseLostError, PostgresStore
from tests.integration.postgres_server import beside, schema_for, shared_server
from tests.integration.store_engines import ALL, AT, events, give_back, key, making, names, paid, take_on
from tests.integration.tcp_link import Link, linked

LEASE_S, HEARTBEAT_S = 1.2, 0.1
SOON_S = 10.0

T = TypeVar("T")
Join = Callable[..., Awaitable[PostgresStore]]

DAEMON = """
import asyncio, sys
from datetime import UTC, datetime
from poller.core.delivery import DeliveryState
from poller.core.orders import Answer, OrderKey, State, end
from poller.ports import Attempt, Making, Progress, StoreUnavailableError
from poller.stores.postgres import PostgresStore

AT = datetime.now(UTC)

async def tried(call):
    try:
        return str(await call)
    except StoreUnavailableError as error:
        return type(error).__name__

async def main():
    lease, heartbeat = map(float, sys.argv[2:])
    store = await PostgresStore.open(sys.argv[1], name="stopped", lease=lease, heartbeat=heartbeat)
    store.fleet().on_lost(lambda: print("lost", flush=True))
    [order] = await store.claim(1e9, 10)
    [delivery] = await store.claim_deliveries(1e9, 10)
    print("holds", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    store.note(Progress(order.id, Answer(AT, error="stale"), 99.0, 7))
    making = Making("stale", AT, 1.0, 1.0, True, lambda kind, order: "stale")
    for _ in range(2):
        change = store.change(order.key, lambda order: end(order, State.FAILED, AT), making)
        record = store.record_attempt(Attempt(delivery.notice.id, DeliveryState.DEAD, AT))
        print(await tried(change), await tried(record), flush=True)
        store.note(Progress(order.id, Answer(AT, error="stale"), 99.0, 7))
        print(await tried(store.flush()), flush=True)
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
async def join(tmp_path: Path) -> AsyncIterator[Join]:
    """Gives what opens another daemon's store on the one database."""
    async with AsyncExitStack() as leaving:

        async def joining(name: str = "", *, port: int | None = None, lease: float = LEASE_S) -> PostgresStore:
            url = shared_server().url(schema_for(tmp_path), port)
            store = await PostgresStore.open(url, name=name, lease=lease, heartbeat=HEARTBEAT_S)
            leaving.push_async_callback(left, store)
            return store

        yield joining


async def left(store: PostgresStore) -> None:
    try:
        await store.close()
    except StoreUnavailableError:
        return  # its link is cut


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    async with linked(shared_server().port) as link:
        yield link


async def until(call: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> T:
    """Ask again until the answer is as wanted."""
    async with asyncio.timeout(SOON_S):
        while True:
            answer = await call()
            if holds(answer):
                return answer
            await asyncio.sleep(0.02)


@asynccontextmanager
async def daemon_process(url: str, lease: float) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", DAEMON, url, str(lease), str(HEARTBEAT_S)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(SOON_S):
        return (await process.stdout.readline()).decode().strip()


async def test_nothing_is_claimed_twice_however_many_claim_at_once(join: Join) -> None:
    stores = [await join() for _ in range(3)]
    orders = await take_on(stores[0], *map(str, range(300)))
    for one in orders:
        give_back(stores[0], one)
    await stores[0].flush()

    async def claim_all(store: PostgresStore, *, freshest: bool) -> list[str]:
        claimed: list[str] = []
        while some := await store.claim(ALL, 7, freshest=freshest):
            claimed += names(some)
        return claimed

    shares = await asyncio.gather(
        *(claim_all(store, freshest=bool(turn % 2)) for turn, store in enumerate(stores))
    )
    assert sorted(chain(*shares)) == sorted(map(str, range(300)))
    assert sum(map(bool, shares)) > 1


async def test_no_delivery_is_under_way_at_two_daemons(join: Join) -> None:
    stores = [await join() for _ in range(2)]
    await take_on(stores[0], *map(str, range(40)))
    for number in range(40):
        await stores[0].change(key(str(number)), paid, making(f"e{number}"))

    async def claim_all(store: PostgresStore) -> list[str]:
        claimed: list[str] = []
        while some := await store.claim_deliveries(ALL, 3):
            claimed += events(some)
        return claimed

    shares = await asyncio.gather(*map(claim_all, stores))
    assert sorted(chain(*shares)) == sorted(f"e{number}" for number in range(40))


async def test_the_notices_of_one_order_go_out_one_after_the_other_whoever_sends_them(join: Join) -> None:
    one, other = await join(), await join()
    await take_on(one, "a")
    await one.change(key("a"), lambda order: mark_undecided(order, AT), making("undecided"))
    await one.change(key("a"), paid, making("paid"))
    [first] = await one.claim_deliveries(ALL, 5)
    assert first.notice.event_id == "undecided"
    assert await other.claim_deliveries(ALL, 5) == []
    assert await other.next_delivery() is None
    await one.record_attempt(Attempt(first.notice.id, DeliveryState.DELIVERED, AT))
    assert events(await other.claim_deliveries(ALL, 5)) == ["paid"]


async def test_a_number_is_taken_on_by_one_of_those_it_is_handed_to_at_once(join: Join) -> None:
    stores = [await join() for _ in range(3)]
    new = [NewOrder(key(str(number))) for number in range(20)]
    answers = await asyncio.gather(*(store.submit(new, AT, 0.0, 1.0) for store in stores))
    for number in range(20):
        assert sum(isinstance(each[number], Accepted) for each in answers) == 1
        assert len({each[number].order.id for each in answers}) == 1


async def test_what_one_who_was_cut_off_held_is_claimed_by_another_within_the_lease(
    join: Join, link: Link
) -> None:
    away, there = await join(port=link.port), await join()
    await take_on(away, "a")
    await take_on(away, "b")
    await away.change(key("b"), paid, making("e1"))
    await away.claim_deliveries(ALL, 1)
    assert await there.claim(ALL, 10) == []
    link.hold_up()
    since = time.monotonic()
    assert names(await until(lambda: there.claim(ALL, 10), bool)) == ["a"]
    assert away.lease_left() == 0.0
    assert time.monotonic() - since < LEASE_S + 0.3  # this machine may be busy
    assert events(await until(lambda: there.claim_deliveries(ALL, 10), bool)) == ["e1"]


async def test_a_lease_ends_for_its_holder_before_it_ends_for_the_others(join: Join, link: Link) -> None:
    away, there = await join(port=link.port), await join()
    await take_on(away, "a")
    link.hold_up()
    await until(lambda: asyncio.sleep(0, away.lease_left()), lambda left: left == 0.0)
    assert await there.claim(ALL, 10) == []


async def test_one_who_was_away_too_long_is_told_writes_nothing_and_goes_on_anew(join: Join, link: Link) -> None:
    away, there = await join(port=link.port), await join()
    lost: list[float] = []
    away.fleet().on_lost(lambda: lost.append(away.lease_left()))
    [a] = await take_on(away, "a")
    await take_on(away, "b")
    await away.change(key("b"), paid, making("e1"))
    [delivery] = await away.claim_deliveries(ALL, 1)
    away.note(Progress(a.id, Answer(AT, error="stale"), 70.0, 1))
    link.hold_up()
    [again] = await until(lambda: there.claim(ALL, 10), bool)
    there.note(Progress(again.id, Answer(AT, error="fresh"), 50.0, 1))
    await there.flush()
    before = await there.get(key("a"))
    link.cut()
    link.let_through()
    await until(lambda: asyncio.sleep(0, lost), bool)
    assert lost == [0.0]
    away.note(Progress(a.id, Answer(AT, error="stale"), 80.0, 1))
    await away.record_attempt(Attempt(delivery.notice.id, DeliveryState.DEAD, AT))
    with pytest.raises(HeldElsewhereError):
        await away.change(key("a"), paid, making("e2"))
    give_back(there, again)
    await there.flush()
    with pytest.raises(LeaseLostError):
        await away.change(key("a"), paid, making("e2"))
    await away.flush()
    assert before is not None
    assert await there.get(key("a")) == before._replace(due=again.due, errors=again.errors)
    assert [entry.answer.error for entry in await there.history(key("a"))] == ["fresh"]
    assert [(one.state, one.attempts) for one in await there.deliveries(None, None, 9)] == [("pending", 0)]
    assert names(await away.claim(ALL, 10)) == ["a"]
    assert (await away.change(key("a"), paid, making("e2"))).order.state == "paid"


async def test_a_transaction_at_whose_end_the_lease_is_found_lost_is_undone(join: Join, tmp_path: Path) -> None:
    store = await join(lease=60.0)
    [a] = await take_on(store, "a")
    async with beside(shared_server().url(schema_for(tmp_path))) as other:
        await other.execute("UPDATE sessions SET dead = true WHERE id <> 0")
    store.note(Progress(a.id, Answer(AT, error="stale"), 70.0, 1))
    with pytest.raises(LeaseLostError):
        await store.submit([NewOrder(key("b"))], AT, 0.0, 1.0)
    await store.flush()
    assert [order.polls for order in await store.orders(None, None, 9, None)] == [0]
    assert (await store.counts()).pending == 1
    assert await store.claim(ALL, 10) == [a]


async def test_a_query_that_lands_after_the_lease_was_lost_counts_with_nobody(join: Join, link: Link) -> None:
    away, there = await join(port=link.port), await join()
    [a] = await take_on(away, "a")
    lost: list[bool] = []
    away.fleet().on_lost(lambda: lost.append(True))
    link.hold_up()
    await until(lambda: there.claim(ALL, 10), bool)
    ended = (await there.change(key("a"), paid, making("e1"))).order
    link.cut()
    link.let_through()
    await until(lambda: asyncio.sleep(0, lost), bool)
    away.note(Progress(a.id, Answer(AT, error="stale"), 80.0, 1))
    await away.flush()
    assert await there.get(key("a")) == ended


async def test_an_older_notice_sent_again_waits_for_the_newer_one_under_way_elsewhere(join: Join) -> None:
    one, other = await join(), await join()
    await take_on(one, "a")
    await one.change(key("a"), lambda order: mark_undecided(order, AT), making("undecided"))
    [undecided] = await one.claim_deliveries(ALL, 5)
    await one.record_attempt(Attempt(undecided.notice.id, DeliveryState.DELIVERED, AT))
    await one.change(key("a"), paid, making("paid"))
    [under_way] = await one.claim_deliveries(ALL, 5)
    await other.redeliver("undecided", 3.0, 5.0)
    assert await other.claim_deliveries(ALL, 5) == []
    await one.record_attempt(Attempt(under_way.notice.id, DeliveryState.DELIVERED, AT))
    assert events(await other.claim_deliveries(ALL, 5)) == ["undecided"]


async def test_a_process_that_was_stopped_past_its_lease_writes_nothing_when_it_goes_on(
    join: Join, tmp_path: Path
) -> None:
    there = await join()
    [a] = await take_on(there, "a")
    await take_on(there, "b")
    await there.change(key("b"), paid, making("e1"))
    give_back(there, a)
    await there.flush()
    async with daemon_process(shared_server().url(schema_for(tmp_path)), LEASE_S) as process:
        assert await said(process) == "holds"
        assert process.stdin is not None
        os.kill(process.pid, signal.SIGSTOP)
        [claimed] = await until(lambda: there.claim(ALL, 10), bool)
        await until(lambda: there.claim_deliveries(ALL, 10), bool)
        process.stdin.write(b"\n")  # all that follows it does at once when it goes on
        os.kill(process.pid, signal.SIGCONT)
        lines = [await said(process) for _ in range(5)]
        assert lines.count("lost") == 1
        assert all(
            line in ("None", "LeaseLostError") or line.startswith(("Lease", "Held", "lost")) for line in lines
        )
        assert await process.wait() == 0
    assert claimed.key == key("a")
    order = await there.get(key("a"))
    assert order is not None
    assert (order.state, order.polls, order.due, order.errors) == ("pending", 0, 1.0, 0)
    assert await there.history(key("a")) == []
    assert [(one.notice.event_id, one.state) for one in await there.deliveries(None, None, 9)] == [
        ("e1", "pending")
    ]


async def test_who_leaves_gives_free_what_it_held_at_once(join: Join) -> None:
    leaving, there = await join(lease=60.0), await join(lease=60.0)
    await take_on(leaving, "a")
    await leaving.close()
    assert names(await there.claim(ALL, 10)) == ["a"]


async def test_a_daemon_that_died_has_its_orders_again_as_soon_as_it_is_back(join: Join, link: Link) -> None:
    died, there = await join("gate 1", port=link.port, lease=60.0), await join("gate 2", lease=60.0)
    await take_on(died, "a")
    await take_on(there, "b")
    link.hold_up()
    back = await join("gate 1", lease=60.0)
    assert names(await back.claim(ALL, 10)) == ["a"]
    assert await there.claim(ALL, 10) == []


async def test_an_order_that_another_daemon_holds_is_not_held_here_and_not_ended_here(join: Join) -> None:
    one, other = await join("gate 1"), await join("gate 2")
    await take_on(one, "a")
    with pytest.raises(HeldElsewhereError, match="by gate 1:"):
        await other.hold(key("a"))
    with pytest.raises(HeldElsewhereError):
        await other.change(key("a"), paid, making("e1"))
    told = (await other.change(key("a"), lambda order: mark_undecided(order, AT), making("e2"))).order
    assert told.undecided_at == AT
    assert (await one.change(key("a"), paid, making("e3"))).order.state == "paid"
    assert (await other.hold(key("a"))).state == "paid"


async def test_a_change_elsewhere_leaves_what_the_holder_noted_meanwhile(join: Join) -> None:
    one, other = await join(), await join()
    [a] = await take_on(one, "a")

    def told(order: Order) -> object:
        one.note(Progress(a.id, Answer(AT, error="timeout"), 40.0, 2))
        return mark_undecided(order, AT)

    await other.change(key("a"), told, making("e1"))  # type: ignore[arg-type]
    order = await one.get(key("a"))
    assert order is not None
    assert (order.due, order.errors, order.polls, order.undecided_at) == (40.0, 2, 1, AT)


async def test_each_daemon_logs_the_notices_it_made_and_those_of_the_dead(join: Join) -> None:
    one, other = await join(), await join()
    await take_on(one, "a", "b")
    await one.change(key("a"), paid, making("e1"))
    assert await other.unlogged(10) == []
    assert [notice.event_id for notice in await one.unlogged(10)] == ["e1"]
    await one.close()
    assert [notice.event_id for notice in await other.unlogged(10)] == ["e1"]


async def test_the_gate_is_told_by_whoever_holds_the_order(join: Join) -> None:
    one, other = await join(), await join()
    [a] = await take_on(one, "a", run=5.0)
    assert await one.undecided(ALL, 10) == [key("a")]
    assert await other.undecided(ALL, 10) == []
    assert (await one.oldest_untold(), await other.oldest_untold()) == (5.0, None)
    give_back(one, a)
    await one.flush()
    assert await other.undecided(ALL, 10) == [key("a")]


async def test_everybody_counts_what_everybody_did(join: Join) -> None:
    one, other = await join(), await join()
    await take_on(one, "a", run=1.0)
    await take_on(other, "b", "c", run=2.0)
    await other.change(key("b"), paid, making("e1"))
    expected = Counts(2, 0, 1, 0, 1.0, 3.0)
    assert (await one.counts(), await other.counts()) == (expected, expected)
    await other.close()
    assert await one.counts() == expected


def stamp(run: float, schedule: float) -> Stamp:
    return Stamp(run, schedule, datetime.now(UTC))


async def test_a_daemon_that_is_behind_moves_forward_to_the_fleets_times_and_nobody_moves_back(join: Join) -> None:
    ahead, behind = await join(), await join()
    ahead.keep_time(lambda: stamp(5000.0, 9000.0))
    behind.keep_time(lambda: stamp(10.0, 20.0))
    heard: dict[str, list[tuple[float, float]]] = {"ahead": [], "behind": []}
    ahead.fleet().follow(lambda run, schedule: heard["ahead"].append((run, schedule)))
    behind.fleet().follow(lambda run, schedule: heard["behind"].append((run, schedule)))
    await until(lambda: asyncio.sleep(0, heard["behind"][-1:]), lambda last: last > [(5000.0, 9000.0)])
    assert all(schedule >= 20.0 for _, schedule in heard["behind"])
    assert all(run < 5000.0 or schedule == 9000.0 for run, schedule in heard["ahead"])


async def test_the_first_of_a_fleet_goes_on_from_the_last_stamp(join: Join) -> None:
    first = await join()
    assert first.last_stamp() is None
    written = Stamp(500.0, 700.0, AT)
    first.keep_time(lambda: written)
    await take_on(first, "a")
    await first.close()
    last = (await join()).last_stamp()
    assert last is not None
    assert (last.schedule, last.wall) == (700.0, AT)
    assert 500.0 <= last.run < 510.0


async def test_who_joins_a_fleet_that_runs_has_not_been_away(join: Join) -> None:
    """Whatever its wall clock says: it is this machine's, and the stamp's is another's."""
    there = await join()
    there.keep_time(lambda: Stamp(500.0, 700.0, AT))
    await take_on(there, "a")
    last = (await join()).last_stamp()
    assert last is not None
    assert timedelta(0) < datetime.now(UTC) - last.wall < timedelta(seconds=30)
