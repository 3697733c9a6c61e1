"""SAQ on PostgreSQL: one job for an order, which fails while nothing is final and is retried with no delay."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
from saq import Status, Worker
from saq.queue.postgres import PostgresQueue

from tests.bench import bare
from tests.bench.peers import program

UNTIL_SETTLED = 1_000_000  # retries
POOL = 20


class InProgressError(Exception):
    """Nothing final yet."""


async def main() -> None:
    logging.getLogger("saq").setLevel(logging.CRITICAL)  # it would tell every retry with its traceback
    course = program.course()
    jobs = PostgresQueue.from_url(course.store, min_size=POOL, max_size=POOL)
    await jobs.connect()
    left, all_ended = set(course.numbers), asyncio.Event()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=course.connections)) as session:

        async def ask(_: Any, *, number: str) -> str:
            status = await bare.poll(session, course.url, number)
            if status == "0":
                raise InProgressError
            return status

        async def ended(context: Any) -> None:
            if context["job"].status is Status.COMPLETE:
                left.remove(context["job"].key)
                if not left:
                    all_ended.set()

        for number in course.numbers:
            await jobs.enqueue("ask", key=number, number=number, retries=UNTIL_SETTLED, ttl=0)
        worker = Worker(jobs, [("ask", ask)], concurrency=course.connections, after_process=ended)
        program.handed_in()
        running = asyncio.create_task(worker.start())
        await all_ended.wait()
        program.ended()
        worker.event.set()
        await running
        paid = [job async for job in jobs.iter_jobs([Status.COMPLETE]) if job.result == "1"]
        await jobs.disconnect()
        program.recorded(len(paid))


if __name__ == "__main__":
    asyncio.run(main())
