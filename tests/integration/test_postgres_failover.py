"""A primary that crashes, or dies and is replaced by its standby, and what a daemon may then believe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from poller.core.delivery import DeliveryState
from poller.core.orders import NewOrder, NotAllowedError
from poller.ports import Accepted, Attempt, Known, StoreUnavailableError
from poller.stores.postgres import PostgresStore, heartbeat, lane, lines
from poller.stores.postgres.rate import UNKNOWN_S
from tests.integration.postgres_cluster import PostgresCluster, cluster
from tests.integration.postgres_server import PostgresServer, own_server, schema_for, shared_server
from tests.integration.postgres_stores import SOON_S, again, opened, until
from tests.integration.store_engines import ALL, AT, events, give_back, key, making, names, paid, take_on
from tests.integration.tcp_link import linked


@pytest.fixture(scope="module")
def both() -> Iterator[PostgresCluster]:
    with cluster(synchronous=True) as servers:
        yield servers


@pytest.fixture
def servers(both: PostgresCluster) -> Iterator[PostgresCluster]:
    """Either of which may be killed."""
    yield both
    both.restore()


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One without a standby, that may be stopped."""
    server = own_server()
    yield server
    server.remove()


@pytest.fixture
def url(servers: PostgresCluster, tmp_path: Path) -> str:
    return servers.url(schema_for(tmp_path))


def fail_over(servers: PostgresCluster) -> None:
    servers.kill_primary()
    servers.promote()


async def test_what_was_acknowledged_and_what_was_held_is_so_on_the_standby_that_takes_over(
    servers: PostgresCluster, url: str
) -> None:
    async with opened(url, lease=60.0) as store:
        lost: list[bool] = []
        store.fleet().on_lost(lambda: lost.append(True))
        await take_on(store, "a", "b")
        ended = (await store.change(key("a"), paid, making("e1"))).order
        [delivery] = await store.claim_deliveries(ALL, 1)
        await asyncio.to_thread(fail_over, servers)
        [new, known] = await again(lambda: store.submit([NewOrder(key("c")), NewOrder(key("b"))], AT, 0.0, 1.0))
        assert isinstance(new, Accepted)
        assert isinstance(known, Known)
        assert await store.get(key("a")) == ended
        assert await store.claim(ALL, 10) == []
        assert await store.claim_deliveries(ALL, 10) == []
        await store.record_attempt(Attempt(delivery.notice.id, DeliveryState.DELIVERED, AT))
        [told] = await store.deliveries(None, None, 9)
        assert (told.notice.event_id, told.state) == ("e1", DeliveryState.DELIVERED)
        assert lost == []
        with pytest.raises(NotAllowedError):
            await store.change(key("a"), paid, making("e2"))


async def test_what_no_standby_has_confirmed_is_not_acknowledged(servers: PostgresCluster, url: str) -> None:
    """PostgreSQL calls a commit whose wait was cancelled a success, with a warning."""
    async with opened(url, lease=60.0) as store:
        await take_on(store, "a")
        servers.pause_standby()
        submitting = asyncio.create_task(store.submit([NewOrder(key("b"))], AT, 0.0, 1.0))
        await asyncio.to_thread(servers.cancel_waiting)
        with pytest.raises(StoreUnavailableError, match=r"no standby has confirmed it .*canceling wait"):
            await submitting
        servers.resume_standby()
        [answer] = await again(lambda: store.submit([NewOrder(key("b"))], AT, 0.0, 1.0))
        assert isinstance(answer, Known)
        assert names(await again(lambda: store.claim(ALL, 10))) == ["b"]


async def test_a_standby_that_hangs_holds_nobody_up_for_long(
    servers: PostgresCluster, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "BATCH_S", 0.3)
    async with opened(url) as store:
        await take_on(store, "a")
        servers.pause_standby()
        with pytest.raises(StoreUnavailableError, match="does not answer in time"):
            await store.submit([NewOrder(key("b"))], AT, 0.0, 1.0)
        servers.resume_standby()
        [answer] = await again(lambda: store.submit([NewOrder(key("b"))], AT, 0.0, 1.0))
        assert isinstance(answer, Known)


async def test_no_notice_is_given_out_that_a_failover_could_take_back(servers: PostgresCluster, url: str) -> None:
    """It would be made again, under another id."""
    async with opened(url, lease=60.0) as store, opened(url, lease=60.0) as other:
        await take_on(store, "a")
        servers.pause_standby()
        changing = asyncio.create_task(store.change(key("a"), paid, making("e1")))
        await asyncio.to_thread(servers.cancel_waiting)
        with pytest.raises(StoreUnavailableError):
            await changing
        assert events(await other.deliveries(None, None, 9)) == ["e1"]
        claiming = asyncio.create_task(other.claim_deliveries(ALL, 1))
        await asyncio.to_thread(servers.cancel_waiting)
        with pytest.raises(StoreUnavailableError, match="no standby"):
            await claiming
        servers.resume_standby()
        [delivery] = await again(lambda: other.claim_deliveries(ALL, 1))
        assert delivery.notice.event_id == "e1"


async def test_a_primary_that_was_superseded_is_not_believed_when_it_comes_back(
    servers: PostgresCluster, url: str
) -> None:
    async with opened(url) as store:
        await take_on(store, "a")
        await asyncio.to_thread(fail_over, servers)
        await again(lambda: store.change(key("a"), paid, making("e1")))
        servers.standby.start()
        assert servers.standby.sql("SELECT pg_is_in_recovery()") == "f"
        servers.kill_primary()
        for _ in range(2):
            with pytest.raises(StoreUnavailableError, match="superseded"):
                await _until_refused_for_that(store)


async def _until_refused_for_that(store: PostgresStore) -> None:
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                await store.submit([NewOrder(key("b"))], AT, 0.0, 1.0)
            except StoreUnavailableError as fault:
                if "superseded" in str(fault):
                    raise


async def test_a_server_that_does_not_answer_holds_up_no_way_to_another(tmp_path: Path) -> None:
    server = shared_server()
    async with linked(server.port) as link:
        link.hold_up()
        url = server.url(schema_for(tmp_path)).replace("127.0.0.1:", f"127.0.0.1:{link.port},127.0.0.1:")
        since = time.monotonic()
        async with opened(url) as store:
            await take_on(store, "a")
            assert await store.get(key("a")) is not None
            assert time.monotonic() - since < 4.0
            link.let_through()


async def test_what_a_standby_that_nobody_waited_for_has_not_got_can_be_taken_on_again(
    servers: PostgresCluster, url: str
) -> None:
    """It is lost, as the log said that it could be; but nobody goes by what is not there."""
    servers.alone()
    async with opened(url, lease=60.0) as store:
        lost: list[bool] = []
        store.fleet().on_lost(lambda: lost.append(True))
        await take_on(store, "a")
        await asyncio.to_thread(servers.caught_up)
        await asyncio.to_thread(servers.standby.stop)
        await take_on(store, "b")
        servers.kill_primary()
        servers.standby.start()
        await asyncio.to_thread(servers.promote)
        [answer] = await again(lambda: store.submit([NewOrder(key("b"))], AT, 0.0, 1.0))
        assert isinstance(answer, Accepted)
        assert lost == [True]
        assert names(await store.claim(ALL, 10)) == ["a"]
        for name in "ab":
            await store.change(key(name), paid, making(f"e-{name}"))


async def test_who_waits_for_a_primary_that_is_cut_off_goes_on_with_the_new_one(
    servers: PostgresCluster, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds the new primary first tells the others."""
    monkeypatch.setattr(lines, "CONNECT_S", 1.0)
    async with opened(url, lease=3.0, heartbeat=0.2) as store:
        await take_on(store, "a")
        servers.pause_primary()
        submitting = asyncio.create_task(store.submit([NewOrder(key("b"))], AT, 0.0, 1.0))
        since = time.monotonic()
        await asyncio.to_thread(servers.promote)
        [answer] = await submitting
        assert isinstance(answer, Accepted)
        assert time.monotonic() - since < 0.7 * lane.BATCH_S


async def test_no_order_is_held_that_a_failover_could_give_to_another(servers: PostgresCluster, url: str) -> None:
    async with opened(url, lease=60.0) as store:
        give_back(store, *await take_on(store, "a"))
        await store.flush()
        for claim in (partial(store.claim, ALL, 10), partial(store.claim_of_lots, ALL, {key("a").park_uuid: 10})):
            servers.pause_standby()
            claiming = asyncio.create_task(claim())
            await asyncio.to_thread(servers.cancel_waiting)
            with pytest.raises(StoreUnavailableError, match="no standby"):
                await claiming
            servers.resume_standby()
            claimed = await again(claim)
            assert names(claimed) == ["a"]
            give_back(store, claimed[0])


async def test_where_none_takes_writes_it_says_what_to_do(servers: PostgresCluster, url: str) -> None:
    servers.kill_primary()
    with pytest.raises(StoreUnavailableError, match=r"takes no writes .* promote a standby"):
        await PostgresStore.open(url)


async def test_what_was_given_back_right_before_a_crash_is_not_held_for_ever(
    server: PostgresServer, tmp_path: Path
) -> None:
    async with opened(server.url(schema_for(tmp_path)), lease=60.0) as store:
        [a, _] = await take_on(store, "a", "b")
        give_back(store, a)
        await store.flush()
        await asyncio.to_thread(server.stop, "immediate")
        await asyncio.to_thread(server.start)
        assert names(await again(lambda: store.claim(ALL, 10))) == ["a"]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_after_a_crash_nobody_asks_within_what_could_have_been_reserved(
    server: PostgresServer, tmp_path: Path, mode: str
) -> None:
    async with opened(server.url(schema_for(tmp_path))) as store:
        throttle = store.fleet().throttle("account", 10)
        await throttle.acquire()
        await asyncio.to_thread(server.stop, mode)
        await asyncio.to_thread(server.start)
        async with opened(server.url(schema_for(tmp_path))) as newcomer:
            since = time.monotonic()
            await again(newcomer.fleet().throttle("account", 10).acquire)
            waited = time.monotonic() - since
            assert waited >= UNKNOWN_S if mode == "immediate" else waited < 1.0
            await again(throttle.acquire)
            assert time.monotonic() - since < UNKNOWN_S + 2.0


async def test_it_tells_when_no_standby_is_waited_for_any_more_and_when_one_is_again(
    servers: PostgresCluster, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "LOOK_EVERY_S", 0.0)
    async with opened(url, lease=3.0, heartbeat=0.1) as store:
        told: list[bool] = []
        store.fleet().on_replicated(told.append)
        await until(lambda: asyncio.sleep(0, told == [True]))
        await asyncio.to_thread(servers.alone)
        await until(lambda: asyncio.sleep(0, told == [True, False]))
        await asyncio.to_thread(servers.synchronous)
        await until(lambda: asyncio.sleep(0, told == [True, False, True]))
        await asyncio.to_thread(fail_over, servers)
        await until(lambda: asyncio.sleep(0, told == [True, False, True, False]))
