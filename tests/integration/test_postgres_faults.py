"""What PostgreSQL does to a store: it restarts, crashes, hangs, refuses, and what is then true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest

from poller.core.delivery import DeliveryState
from poller.core.orders import Answer, NewOrder, State, end
from poller.core.replies import Payment
from poller.ports import Accepted, Attempt, Known, Progress, StoreTooNewError, StoreUnavailableError
from poller.stores.postgres import PostgresStore, lines
from tests.integration.postgres_server import PostgresServer, beside, own_server, schema_for, shared_server
from tests.integration.postgres_stores import SOON_S, again, opened, until
from tests.integration.store_engines import ALL, AT, events, give_back, key, making, names, paid, take_on
from tests.integration.tcp_link import Link, linked


@pytest.fixture
def url(tmp_path: Path) -> str:
    return shared_server().url(schema_for(tmp_path))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """One that may be stopped."""
    server = own_server()
    yield server
    server.remove()


async def refused(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat it until it raises; for a moment a setting is not everybody's yet."""
    async with asyncio.timeout(SOON_S):
        while True:
            await call()


async def take_connections(url: str, taken: list[Any]) -> None:
    while True:
        taken.append(await asyncpg.connect(url))


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restarted_server_is_gone_on_with_and_nothing_is_doubled_or_lost(
    server: PostgresServer, tmp_path: Path, mode: str
) -> None:
    async with opened(server.url(schema_for(tmp_path)), lease=60.0) as store:
        [_, b] = await take_on(store, "a", "b")
        ended = (await store.change(key("a"), paid, making("e1"))).order
        [delivery] = await store.claim_deliveries(ALL, 1)
        await asyncio.to_thread(server.stop, mode)
        store.note(Progress(b.id, Answer(AT, error="timeout"), 50.0, 1))
        with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
            await store.submit([NewOrder(key("c"))], AT, 0.0, 1.0)
        with pytest.raises(StoreUnavailableError):
            await store.get(key("a"))
        await asyncio.to_thread(server.start)
        [answer] = await again(lambda: store.submit([NewOrder(key("c"))], AT, 0.0, 1.0))
        assert isinstance(answer, Accepted)
        assert await store.claim(ALL, 10) == []
        assert await store.get(key("a")) == ended
        await store.record_attempt(Attempt(delivery.notice.id, DeliveryState.DELIVERED, AT))
        order = await store.get(key("b"))
        assert order is not None
        assert (order.polls, order.due) == (1, 50.0)
        assert events(await store.deliveries(None, None, 9)) == ["e1"]
        give_back(store, b)
        assert names(await store.claim(ALL, 10)) == ["b"]


async def test_a_server_that_is_not_there_is_told_at_once(server: PostgresServer, tmp_path: Path) -> None:
    await asyncio.to_thread(server.stop)
    since = time.monotonic()
    with pytest.raises(StoreUnavailableError, match=r"at 127.0.0.1:\d+/postgres cannot be reached .*start it"):
        await PostgresStore.open(server.url(schema_for(tmp_path)))
    assert time.monotonic() - since < 2.0
    await asyncio.to_thread(server.start)


async def test_a_server_that_does_not_answer_holds_nobody_up_for_long(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in (("lane", "BATCH_S"), ("lines", "CONNECT_S"), ("engine", "READ_S"), ("engine", "CLOSE_S")):
        monkeypatch.setattr(f"poller.stores.postgres.{module}.{name}", 0.3)
    async with linked(shared_server().port) as link, opened(through(link, url)) as store:
        await take_on(store, "a")
        link.hold_up()
        since = time.monotonic()
        calls = [
            take_on(store, "b"),
            store.get(key("a")),
            store.claim(ALL, 9),
            store.change(key("a"), paid, making("e")),
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [StoreUnavailableError] * 4
        assert "does not answer in time" in str(results[0])
        with pytest.raises(StoreUnavailableError):
            await PostgresStore.open(through(link, url))
        assert time.monotonic() - since < 4.0
        link.cut()
        link.let_through()
        assert (await again(lambda: store.change(key("a"), paid, making("e")))).order.state is State.PAID


def through(link: Link, url: str) -> str:
    return url.replace(f":{shared_server().port}/", f":{link.port}/")


async def test_whether_the_last_transaction_was_committed_or_not_its_orders_are_asked_about(url: str) -> None:
    """The server commits, and its answer is lost: what was claimed is held by nobody who knows of it."""
    async with linked(shared_server().port) as link, opened(through(link, url), lease=60.0) as store:
        await store.flush()
        link.cut_at = b"COMMIT"
        submitting = asyncio.create_task(store.submit([NewOrder(key("a"))], AT, 0.0, 1.0))
        async with beside(url) as other:
            await until(lambda: other.fetchval("SELECT count(*) > 0 FROM orders"))
        link.cut()
        link.let_through()
        with pytest.raises(StoreUnavailableError):
            await submitting
        [answer] = await store.submit([NewOrder(key("a"))], AT, 0.0, 1.0)
        assert isinstance(answer, Known)
        assert names(await store.claim(ALL, 10)) == ["a"]
        assert (await store.counts()).pending == 1


async def test_what_was_given_back_and_claimed_at_once_is_still_held_when_an_answer_is_lost(url: str) -> None:
    async with linked(shared_server().port) as link, opened(through(link, url), lease=60.0) as store:
        give_back(store, *await take_on(store, "a"))
        assert names(await store.claim(ALL, 10)) == ["a"]
        link.cut_at = b"COMMIT"
        submitting = asyncio.create_task(take_on(store, "b"))
        async with beside(url) as other:
            await until(lambda: other.fetchval("SELECT count(*) = 2 FROM orders"))
        link.cut()
        link.let_through()
        with pytest.raises(StoreUnavailableError):
            await submitting
        await again(store.flush)
        async with opened(url) as another:
            assert names(await another.claim(ALL, 10)) == ["b"]


async def test_a_connection_that_ended_while_idle_is_made_anew_without_anybody_noticing(url: str) -> None:
    async with opened(url) as store:
        await take_on(store, "a")
        await store.get(key("a"))
        async with beside(url) as other:
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'poller'"
            )
        assert names(await take_on(store, "b")) == ["b"]
        assert await store.get(key("b")) is not None
        assert await store.claim(ALL, 10) == []


async def test_two_that_wait_for_each_other_both_end_well(url: str) -> None:
    """PostgreSQL ends one of them, whose work is done again."""
    async with opened(url) as store, beside(url) as other:
        await take_on(store, "a", "b")
        await other.execute(
            "SET deadlock_timeout = '10s'; BEGIN; UPDATE orders SET polls = 7 WHERE pay_partner = 'b'"
        )
        first = asyncio.create_task(store.change(key("a"), paid, making("e1")))
        second = asyncio.create_task(store.change(key("b"), paid, making("e2")))
        await until(lambda: other.fetchval("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"))
        await other.execute("UPDATE orders SET polls = 7 WHERE pay_partner = 'a'; COMMIT")
        assert [(await task).order.state for task in (first, second)] == [State.PAID, State.PAID]
        assert events(await store.deliveries(None, None, 9)) == ["e2", "e1"]


async def test_what_one_caller_does_wrong_spoils_nothing_of_the_others(url: str) -> None:
    async with opened(url) as store:
        await take_on(store, "a", "b")
        await store.change(key("a"), paid, making("e1"))
        good, doubled = await asyncio.gather(
            store.submit([NewOrder(key("c"))], AT, 0.0, 1.0),
            store.change(key("b"), paid, making("e1")),  # an event id that is taken
            return_exceptions=True,
        )
        assert isinstance(good, list)
        assert isinstance(doubled, asyncpg.UniqueViolationError)
        order = await store.get(key("b"))
        assert order is not None
        assert order.state is State.PENDING


async def test_a_server_that_has_no_connection_left_says_so_and_is_used_again_when_it_has(
    server: PostgresServer, tmp_path: Path
) -> None:
    url = server.url(schema_for(tmp_path))
    async with opened(url, lease=60.0) as store:
        taken: list[Any] = []
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await take_connections(url, taken)
        with pytest.raises(StoreUnavailableError, match="no connection left"):
            await store.submit([NewOrder(key("a"))], AT, 0.0, 1.0)
        with pytest.raises(StoreUnavailableError, match=r"no connection left .* raise max_connections"):
            await PostgresStore.open(url)
        for connection in taken:
            await connection.close()
        [answer] = await again(lambda: store.submit([NewOrder(key("a"))], AT, 0.0, 1.0))
        assert isinstance(answer, Accepted)


async def test_a_server_that_takes_no_writes_says_so_and_is_used_again_when_it_does(
    server: PostgresServer, tmp_path: Path
) -> None:
    url = server.url(schema_for(tmp_path))
    async with opened(url) as store, beside(url) as other:
        await take_on(store, "a")
        await other.execute("ALTER SYSTEM SET default_transaction_read_only = on; ")
        await other.execute("SELECT pg_reload_conf()")
        await until(lambda: other.fetchval("SELECT current_setting('default_transaction_read_only') = 'on'"))
        with pytest.raises(StoreUnavailableError, match="takes no writes"):
            await refused(lambda: take_on(store, "b"))
        assert await store.get(key("a")) is not None
        await other.execute("SET default_transaction_read_only = off")
        await other.execute("ALTER SYSTEM RESET default_transaction_read_only")
        await other.execute("SELECT pg_reload_conf()")
        await again(lambda: store.change(key("a"), paid, making("e1")))


async def test_a_row_that_a_stuck_session_has_locked_holds_up_only_for_so_long(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lines.SETTINGS, "lock_timeout", "200")
    async with opened(url) as store, beside(url) as other:
        await take_on(store, "a")
        await other.execute("BEGIN; SELECT FROM orders FOR UPDATE")
        with pytest.raises(StoreUnavailableError, match="held up by a lock"):
            await store.change(key("a"), paid, making("e1"))
        await other.execute("ROLLBACK")
        assert (await store.change(key("a"), paid, making("e1"))).order.state is State.PAID


async def test_text_that_postgresql_cannot_keep_is_kept_as_far_as_it_can(url: str) -> None:
    async with opened(url) as store:
        [a] = await take_on(store, "a")
        for seqno in ("1", "2"):
            store.note(Progress(a.id, Answer(AT, message="no\0good \ud800", seqno=seqno), 2.0, 0))
            await store.flush()
        [entry] = await store.history(key("a"))
        assert (entry.count, entry.answer.message) == (2, "no\ufffdgood ?")
        unpaid = Payment("se\0rial")
        recorded = await store.change(key("a"), lambda order: end(order, State.PAID, AT, unpaid), making("e1"))
        ended = recorded.order
        assert ended.payment.serial == "se\ufffdrial"
        assert await store.get(key("a")) == ended


async def test_a_newer_store_is_refused_and_left_as_it_is(url: str) -> None:
    async with opened(url) as store:
        await take_on(store, "a")
    async with beside(url) as other:
        await other.execute("UPDATE version SET version = 99, usable_from = 98")
        with pytest.raises(StoreTooNewError, match="install the newer program again"):
            await PostgresStore.open(url)
        assert await other.fetchval("SELECT count(*) FROM sessions") == 1
        assert await other.fetchval("SELECT version FROM version") == 99


async def test_another_programs_tables_are_left_alone(url: str, tmp_path: Path) -> None:
    schema = schema_for(tmp_path)
    async with beside(url) as other:
        await other.execute(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.orders (id int)")
        with pytest.raises(StoreUnavailableError, match="another program's tables"):
            await PostgresStore.open(url)


async def test_many_that_open_a_new_store_at_once_make_its_tables_once(url: str) -> None:
    stores = await asyncio.gather(*(PostgresStore.open(url) for _ in range(4)))
    [pending] = await take_on(stores[0], "a")
    assert await stores[3].get(key("a")) is not None
    for store in stores:
        await store.close()
    assert pending.key == key("a")


@pytest.mark.parametrize(
    "wrong", ["mysql://h/d", "postgresql://u:hidden@h/d", "postgresql://u@h/d?password=hidden", "postgresql://h"]
)
async def test_a_url_that_names_no_database_or_holds_a_password_is_refused_without_showing_it(wrong: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the text is looked at
        await PostgresStore.open(wrong)
    assert "hidden" not in str(refused.value)


async def test_a_store_that_could_not_be_opened_leaves_nothing_running(url: str) -> None:
    async with opened(url):
        pass
    async with beside(url) as other:
        await other.execute("ALTER TABLE sessions ADD CONSTRAINT closed CHECK (id = 0) NOT VALID")
    running = asyncio.all_tasks()
    with pytest.raises(asyncpg.CheckViolationError):
        await PostgresStore.open(url)
    assert asyncio.all_tasks() == running


async def test_its_size_is_that_of_its_tables(url: str) -> None:
    async with opened(url) as store:
        await until(lambda: asyncio.sleep(0, store.size_bytes() > 0))
        assert store.size_bytes() > 100_000


async def test_a_cancelled_caller_holds_nothing(url: str) -> None:
    async with opened(url) as store:
        [a] = await take_on(store, "a")
        give_back(store, a)
        await store.flush()
        calls = [
            asyncio.create_task(call) for call in (store.claim(ALL, 10), take_on(store, "b"), store.hold(key("a")))
        ]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls)
        assert sorted(names(await again_until(lambda: store.claim(ALL, 10), 2))) == ["a", "b"]


async def test_a_cancelled_caller_gives_back_nothing_that_another_of_the_same_moment_holds(url: str) -> None:
    async with opened(url) as store:
        for one in await take_on(store, "a", "b"):
            give_back(store, one)
        await store.flush()
        claiming = asyncio.create_task(store.claim_of_lots(ALL, {key("b").park_uuid: 1}))
        holding = asyncio.create_task(store.hold(key("a")))
        await asyncio.sleep(0)
        holding.cancel()
        assert names(await claiming) == ["b"]
        assert names(await again_until(lambda: store.claim(ALL, 10), 1)) == ["a"]


async def again_until(claim: Callable[[], Awaitable[list[Any]]], wanted: int) -> list[Any]:
    claimed: list[Any] = []
    async with asyncio.timeout(SOON_S):
        while len(claimed) < wanted:
            claimed += await claim()
    return claimed
