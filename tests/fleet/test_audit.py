"""The database's own record: what a fleet writes is never stale, and what is stale is found."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from poller.core.delivery import DeliveryState
from poller.ports import Attempt
from poller.stores.postgres import PostgresStore
from tests.fleet import audit
from tests.fleet.audit import Line
from tests.integration.postgres_server import beside, schema_for, shared_server
from tests.integration.store_engines import ALL, AT, give_back, key, making, paid, take_on


@pytest.fixture
async def url(tmp_path: Path) -> AsyncIterator[str]:
    """Of a store of which there is a record, in which a daemon holds one order and another has ended one."""
    url = shared_server().url(schema_for(tmp_path))
    first, second = await PostgresStore.open(url, name="first"), await PostgresStore.open(url, name="second")
    await audit.begin(url)
    held, given = await take_on(first, "held", "given back")
    give_back(first, given)
    await first.flush()
    await second.claim(ALL, 1)
    await second.change(key("given back"), paid, making("event"))
    [notice] = await second.unlogged(10)
    second.note_logged([notice.id])
    [delivery] = await first.claim_deliveries(ALL, 10)
    await second.flush()
    await first.record_attempt(Attempt(delivery.notice.id, DeliveryState.DELIVERED, AT, status=204))
    assert held.key == key("held")
    yield url
    await second.close()
    await first.close()


async def test_what_two_daemons_write_of_what_they_hold_is_not_stale(url: str) -> None:
    judged = audit.judge(await audit.read(url))
    assert judged.stale == []
    assert judged.transactions >= 6


@pytest.mark.parametrize(
    "stale",
    [
        "UPDATE schedule SET due = 9",
        "DELETE FROM schedule",
        "UPDATE orders SET polls = 9",
        "INSERT INTO history VALUES (1, 9, 1, now(), now(), null, null, null, null, null, null, 'schedule')",
        "UPDATE deliveries SET attempts = 9",
        "UPDATE sessions SET dead = true; UPDATE sessions SET dead = false",
    ],
)
async def test_what_nobody_writes_who_holds_it_is_found(url: str, stale: str) -> None:
    async with beside(url) as connection:
        for statement in stale.split(";"):
            await connection.execute(statement)
        if "dead" in stale:
            await connection.execute("UPDATE sessions SET run = run + 1 WHERE id <> 0")
    assert audit.judge(await audit.read(url)).stale


def test_what_a_dead_session_held_is_given_free_by_anybody() -> None:
    lines = [
        Line(1, "10", audit.BEGAN, 7, 1),
        Line(2, "11", audit.DIED, 7, 1),
        Line(3, "12", "schedule update", 7, 5),
    ]
    assert audit.judge(lines).stale == []
    assert audit.judge([lines[0], lines[2], lines[1]._replace(n=4)]).stale
