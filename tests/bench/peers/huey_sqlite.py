"""huey on SQLite: one task for an order, a thread for each connection, `RetryTask` puts it back at once.

Every commit is synced, which is SQLite's default. A task that is running is in no table: a crash loses it.
"""

from __future__ import annotations

import http.client
import json
import queue
import threading
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from huey import SqliteHuey
from huey.exceptions import RetryTask
from huey.signals import SIGNAL_COMPLETE

from poller.core.signing import sign
from tests.bench import scripted
from tests.bench.peers import program


class Platform(threading.local):
    """A kept connection for each thread."""

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self._path = target.path
        self._connection = http.client.HTTPConnection(target.netloc)

    def poll(self, number: str) -> str:
        """Ask once; the `status`."""
        params = [("park_uuid", scripted.PARK), ("pay_partner", number)]
        params.append(("sign", sign(params, scripted.APP_SECRET)))
        self._connection.request("GET", f"{self._path}?{urlencode(params)}")
        return str(json.loads(self._connection.getresponse().read())["status"])


def main() -> None:
    course = program.course()
    app = SqliteHuey(filename=str(Path(course.store) / "huey.db"), fsync=True)
    platform = Platform(course.url)
    complete: queue.SimpleQueue[str] = queue.SimpleQueue()

    def ask(number: str) -> str:
        status = platform.poll(number)
        if status == "0":
            raise RetryTask
        return status

    task = app.task()(ask)
    app.signal(SIGNAL_COMPLETE)(lambda _signal, task: complete.put(task.id))  # its result is stored by then
    for number in course.numbers:
        task(number)
    consumer = app.create_consumer(workers=course.connections, periodic=False)
    program.handed_in()
    consumer.start()
    for _ in course.numbers:
        complete.get()
    program.ended()
    consumer.stop(graceful=True)
    program.recorded(app.result_count())


if __name__ == "__main__":
    main()
