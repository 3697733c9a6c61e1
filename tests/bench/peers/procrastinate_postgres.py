"""procrastinate on PostgreSQL: one job for an order, its retry strategy puts it back with no wait.

A job has no result there: the task writes the outcome to a table beside the jobs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

import aiohttp
from procrastinate import App, PsycopgConnector, RetryStrategy

from tests.bench import bare
from tests.bench.peers import program

POOL = 20
LOOK_AGAIN_S = 0.01  # nothing notifies of a retry, and the default is five seconds


class InProgressError(Exception):
    """Nothing final yet."""


async def main() -> None:
    logging.getLogger("procrastinate").setLevel(logging.ERROR)  # it would say that it is a main program
    course = program.course()
    app = App(connector=PsycopgConnector(conninfo=course.store, min_size=POOL, max_size=POOL))
    left, all_ended = set(course.numbers), asyncio.Event()
    async with (
        app.open_async(),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=course.connections)) as session,
    ):
        await app.schema_manager.apply_schema_async()
        await app.connector.execute_query_async("CREATE TABLE outcomes (number text PRIMARY KEY, status text)")

        async def ask(number: str) -> None:
            status = await bare.poll(session, course.url, number)
            if status == "0":
                raise InProgressError
            await app.connector.execute_query_async(
                "INSERT INTO outcomes VALUES (%(number)s, %(status)s)", number=number, status=status
            )
            left.remove(number)
            if not left:
                all_ended.set()

        task = app.task(name="ask", retry=RetryStrategy(retry_exceptions=[InProgressError]))(ask)
        await task.batch_defer_async(*({"number": number} for number in course.numbers))
        program.handed_in()
        worker = asyncio.create_task(
            app.run_worker_async(
                concurrency=course.connections,
                fetch_job_polling_interval=LOOK_AGAIN_S,
                install_signal_handlers=False,
            )
        )
        await all_ended.wait()
        worker.cancel()  # it sees its running jobs to their end
        with contextlib.suppress(asyncio.CancelledError):
            await worker
        program.ended()
        row = await app.connector.execute_query_one_async(
            "SELECT count(*) FROM procrastinate_jobs JOIN outcomes ON args->>'number' = number"
            " WHERE procrastinate_jobs.status = 'succeeded' AND outcomes.status = '1'"
        )
        program.recorded(row["count"])


if __name__ == "__main__":
    asyncio.run(main())
