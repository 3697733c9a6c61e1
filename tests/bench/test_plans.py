"""What the comparison of plans asks and finds fault with; at the size of a test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from poller.stores.postgres import PostgresStore
from tests.bench.plans.__main__ import Measurement, ask, faults_of
from tests.bench.plans.asking import ASKED
from tests.bench.plans.filling import Size, fill, rows
from tests.bench.plans.measuring import Taken
from tests.bench.plans.pruning import Pruned
from tests.integration.postgres_server import beside, schema_for, shared_server

TAKEN = Taken("SELECT 1", ("Index Scan orders_pkey",), (), buffers=100, ms=0.1)
NOTHING = Pruned(0, 0.0, 0.0, 0.0, {})


def found(rows: int, fresh: Taken, worn: Taken) -> Measurement:
    return Measurement(Size(rows), {"it": [fresh]}, {"it": [worn]}, NOTHING, {})


async def test_no_table_is_read_from_end_to_end_by_anything_that_the_store_asks(tmp_path: Path) -> None:
    url, size = shared_server().url(schema_for(tmp_path)), Size(50_000)
    await (await PostgresStore.open(url)).close()
    async with beside(url) as connection:
        await fill(connection, size)
        assert sum((await rows(connection)).values()) >= size.rows
        answers = await ask(connection, size)
    assert {name: one.scans for name, taken in answers.items() for one in taken if one.scans} == {}
    assert all(answers[name] for name in ASKED)


def test_buffers_that_grow_as_the_rows_do_are_a_fault_and_those_that_grow_as_their_logarithm_are_none() -> None:
    small = found(10**6, TAKEN, TAKEN)
    deeper, wider = replace(TAKEN, buffers=150), replace(TAKEN, buffers=1000)
    assert faults_of("it", [small, found(10**7, deeper, deeper)]) == []
    assert len(faults_of("it", [small, found(10**7, wider, deeper)])) == 1
    assert len(faults_of("it", [small, found(10**7, deeper, wider)])) == 1


def test_a_scan_is_a_fault_at_any_size() -> None:
    scan = replace(TAKEN, scans=("orders",))
    assert faults_of("it", [found(10**6, TAKEN, scan)]) == ["it: reads all of orders"]
