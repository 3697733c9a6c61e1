"""Orders that come together: few statements, and each caller answered as if alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from poller.core.orders import NewOrder, Order
from poller.ports import Accepted, Counts, Differs, Known, StoreUnavailableError
from tests.integration.store_engines import ALL, AT, give_back, key, names, take_on
from tests.integration.watched_sqlite import NO_LIMIT, BusyWriter, Opened, started


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    opened = Opened(tmp_path)
    await opened.open()
    yield opened
    opened.connection.fails = ()
    await opened.store.close()


async def ids(opened: Opened, *names: str) -> list[int]:
    return [pending.id for pending in await take_on(opened.store, *names)]


async def test_orders_are_entered_by_one_statement_for_each_table(opened: Opened) -> None:
    assert len(await take_on(opened.store, *map(str, range(16)))) == 16
    begun = [statement[:16] for statement in opened.told if statement.startswith(("BEGIN", "INSERT", "COMMIT"))]
    assert begun[-4:] == ["BEGIN IMMEDIATE", "INSERT INTO orde", "INSERT INTO sche", "COMMIT"]


async def test_a_number_that_two_callers_send_at_once_is_taken_on_for_the_first(opened: Opened) -> None:
    store = opened.store
    first, second, third = await asyncio.gather(
        store.submit([NewOrder(key("b")), NewOrder(key("a"))], AT, 1.0, 2.0),
        store.submit([NewOrder(key("a")), NewOrder(key("c"))], AT, 3.0, 4.0),
        store.submit([NewOrder(key("a"), {"other": 1})], AT, 5.0, 6.0),
    )
    assert [type(answer) for answer in (*first, *second, *third)] == [Accepted, Accepted, Known, Accepted, Differs]
    assert first[1].order == second[0].order == third[0].order == await store.get(key("a"))
    assert await store.counts() == Counts(3, 0, 0, 0, 1.0, None)
    assert await store.claim(ALL, 10) == []


async def test_a_caller_that_is_cancelled_gives_its_own_orders_back_and_no_others(opened: Opened) -> None:
    store = opened.store
    await take_on(store, "busy")
    writer = BusyWriter(store)
    busy = await writer.begin()
    gone, stays = await started(take_on(store, "a", "b"), take_on(store, "b", "c"))
    gone.cancel()
    writer.end()
    await busy
    assert names(await stays) == ["c"]
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert names(await store.claim(ALL, 10)) == ["a", "b"]


@pytest.mark.parametrize("inline", [False, True])
async def test_on_a_full_disk_each_caller_is_told_and_nothing_of_any_stays(opened: Opened, inline: bool) -> None:
    await opened.store.close()
    store = await opened.open(inline=inline)
    opened.connection.execute("PRAGMA max_page_count = 1")  # as large as it is now
    large = [[NewOrder(key(f"{caller}-{number}"), {"x": "y" * 1500}) for number in range(9)] for caller in "abc"]
    calls = [store.submit(orders, AT, 0.0, 1.0) for orders in large]
    faults = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(fault) for fault in faults] == [StoreUnavailableError] * 3
    assert len({id(fault) for fault in faults}) == 3
    assert await store.orders(None, None, 10, None) == []
    assert (await store.counts()).pending == 0
    opened.connection.execute(f"PRAGMA max_page_count = {NO_LIMIT}")
    assert [len(await store.submit(orders, AT, 0.0, 1.0)) for orders in large] == [9, 9, 9]
    assert await store.claim(ALL, 10) == []


async def test_what_is_wrong_with_one_callers_order_is_no_others_trouble(opened: Opened) -> None:
    before, wrong, after = await started(
        take_on(opened.store, "a"), take_on(opened.store, "b", "\ud800"), take_on(opened.store, "c")
    )
    with pytest.raises(UnicodeEncodeError):
        await wrong
    assert [names(await before), names(await after)] == [["a"], ["c"]]
    assert await opened.store.get(key("b")) is None


async def test_ids_grow_whatever_was_undone_and_after_a_restart(opened: Opened) -> None:
    given = await ids(opened, "a", "b")
    for statement in ("INSERT INTO schedule", "COMMIT"):
        opened.connection.fails = (statement,)
        with pytest.raises(StoreUnavailableError):
            await ids(opened, "c", "d", "e")
        opened.connection.fails = ()
        given += await ids(opened, f"after {statement}")
    given += await ids(opened, "a", "f")  # one is known
    await opened.store.close()
    await opened.open()
    given += await ids(opened, "g")
    assert given == sorted(set(given))
    [(counted,)] = opened.on_disk("SELECT seq FROM sqlite_sequence WHERE name = 'orders'")
    assert counted == given[-1]
    listed: list[Order] = await opened.store.orders(None, None, 10, None)
    assert [order.key.pay_partner for order in listed][:2] == ["g", "f"]


async def test_an_order_known_to_all_is_held_by_nobody_but_its_first_caller(opened: Opened) -> None:
    [a] = await take_on(opened.store, "a")
    give_back(opened.store, a)
    assert list(await asyncio.gather(take_on(opened.store, "a"), take_on(opened.store, "a"))) == [[], []]
    assert await opened.store.claim(ALL, 10) == [a]


async def test_for_orders_that_are_given_back_at_once_nothing_more_is_written(opened: Opened) -> None:
    """As all are that come while memory has no room for them."""
    opened.store.give_back(await take_on(opened.store, "a", "b"))
    opened.told.clear()
    assert names(await opened.store.claim(ALL, 10)) == ["a", "b"]
    assert not [statement for statement in opened.told if statement.startswith(("UPDATE", "INSERT"))]
