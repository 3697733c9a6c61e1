"""Finds a blocked event loop from outside it: a thread that ends the process, saying where it hangs."""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable

CHECK_S = 5.0
BLOCKED_S = 30.0


class Sentinel:
    """`seen` is called by the event loop at least every few seconds; `say` writes one line of the log."""

    def __init__(
        self,
        say: Callable[[float], None],
        *,
        check_s: float = CHECK_S,
        blocked_s: float = BLOCKED_S,
        end: Callable[[], None] = lambda: os._exit(1),
    ) -> None:
        self._say = say
        self._check_s = check_s
        self._blocked_s = blocked_s
        self._end = end
        self._seen = time.monotonic()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sentinel", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def seen(self) -> None:
        """The event loop turns."""
        self._seen = time.monotonic()

    def stop(self) -> None:
        self._done.set()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._done.wait(self._check_s):
            now = time.monotonic()
            if now - before > 2 * self._check_s:
                self._seen = now  # the whole process was stopped: the loop gets its time anew
            before = now
            if now - self._seen > self._blocked_s:
                threading.Timer(self._check_s, self._end).start()  # should saying so block, too
                faulthandler.dump_traceback(all_threads=True)
                self._say(now - self._seen)
                self._end()
                return
