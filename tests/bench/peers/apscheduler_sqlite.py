"""APScheduler 3 on SQLite: one job for an order, asked again at once by a new `next_run_time`.

Its hourly interval is what a crash in the middle of a query leaves of the job. A job has no result there: the
outcome goes to a table beside the jobs.
"""

from __future__ import annotations

import asyncio
import functools
from datetime import UTC, datetime
from typing import Any

import aiohttp
from apscheduler.events import EVENT_JOB_EXECUTED
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from sqlalchemy import Column, MetaData, String, Table, create_engine, event, func, insert, select

from tests.bench import bare
from tests.bench.peers import program

COURSE = program.course()
OUTCOMES = Table("outcomes", MetaData(), Column("number", String, primary_key=True), Column("status", String))


@functools.cache
def session() -> aiohttp.ClientSession:
    """The one of all jobs; a job finds it here, since the store keeps a job by its function's name."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=COURSE.connections))


async def ask(number: str) -> str:
    return await bare.poll(session(), COURSE.url, number)


async def main() -> None:
    engine = create_engine(f"sqlite:///{COURSE.store}/apscheduler.db")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA journal_mode = WAL"))
    OUTCOMES.create(engine)
    scheduler = AsyncIOScheduler(
        jobstores={"default": SQLAlchemyJobStore(engine=engine)},
        job_defaults={"misfire_grace_time": None, "coalesce": True},
        timezone=UTC,
    )
    left, all_ended = set(COURSE.numbers), asyncio.Event()

    def executed(event: Any) -> None:
        if event.retval == "0":
            scheduler.modify_job(event.job_id, next_run_time=datetime.now(UTC))
            return
        with engine.begin() as connection:
            connection.execute(insert(OUTCOMES).values(number=event.job_id, status=event.retval))
        scheduler.remove_job(event.job_id)
        left.remove(event.job_id)
        if not left:
            all_ended.set()

    scheduler.add_listener(executed, EVENT_JOB_EXECUTED)
    scheduler.start(paused=True)
    for number in COURSE.numbers:
        scheduler.add_job(ask, "interval", hours=1, args=[number], id=number, next_run_time=datetime.now(UTC))
    program.handed_in()
    scheduler.resume()
    await all_ended.wait()
    program.ended()
    scheduler.shutdown()
    await session().close()
    with engine.begin() as connection:
        program.recorded(connection.execute(select(func.count()).where(OUTCOMES.c.status == "1")).scalar())


if __name__ == "__main__":
    asyncio.run(main())
