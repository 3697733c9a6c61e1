"""How PostgreSQL finds rows: by an index, in its order, however many there are."""

from __future__ import annotations

import re
from pathlib import Path

from poller.stores.postgres import PostgresStore, deliveries, lines, notes, orders, overview, schedule, session
from tests.integration.postgres_server import beside, schema_for, shared_server

WALKS = {
    "who is due": (schedule.LONGEST_OVERDUE, "schedule_due"),
    "who is youngest": (schedule.FRESHEST, "schedule_fresh"),
    "who is youngest of each lot": (schedule.OF_LOTS, "orders_pending"),
    "who is to be told": (schedule.UNDECIDED, "schedule_untold"),
    "who is told next": (schedule.OLDEST_UNTOLD, "schedule_untold"),
    "what was noted": (notes.WRITE, "schedule_pkey"),
    "orders by key": (orders.LOAD, "orders_park_uuid_pay_partner_key"),
    "deliveries that are due": (deliveries.DUE, "deliveries_due"),
    "the freshest deliveries": (deliveries.DUE_FRESHEST, "deliveries_due"),
    "deliveries found due": (deliveries.CLAIM, "deliveries_open_pkey"),
    "the next delivery": (deliveries.NEXT, "deliveries_due"),
    "what is not logged": (deliveries.UNLOGGED, "deliveries_unlogged"),
    "what can be let go": (overview.PRUNE, "orders_ended"),
    "what ended": (overview.ENDED, "orders_ended"),
    "what settled": (overview.SETTLED, "orders_ended"),
    "who waits": (f"{overview.WAITING} LIMIT $1", "schedule_untold"),
    "who is undecided": (f"{overview.UNDECIDED} LIMIT $1", "schedule_told"),
    "what is late": (f"{overview.LATE} LIMIT $1", "orders_late"),
    "what a dead one held": (session.FREE[0], "schedule_holder"),
    "what a dead one sent": (session.FREE[1], "deliveries_holder"),
}


async def test_no_query_that_is_asked_often_reads_or_sorts_a_table(tmp_path: Path) -> None:
    url = shared_server().url(schema_for(tmp_path))
    await (await PostgresStore.open(url)).close()
    settings = [f"SET {name} = {value}" for name, value in lines.SETTINGS.items() if name.startswith("enable_")]
    async with beside(url) as connection:
        await connection.execute("; ".join([*settings, "SET plan_cache_mode = force_generic_plan"]))
        for what, (sql, index) in WALKS.items():
            await connection.execute(f"PREPARE it AS {sql}")
            parameters = len(set(re.findall(r"\$\d+", sql)))
            given = f"({', '.join(['NULL'] * parameters)})" if parameters else ""
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE it{given}"))
            await connection.execute("DEALLOCATE it")
            assert re.search(rf"\b{index}\b", plan), f"{what}:\n{plan}"
            assert not re.search(r"Seq Scan|Sort|Hash Join|Merge Join|Bitmap", plan), f"{what}:\n{plan}"
