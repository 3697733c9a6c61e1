"""An event loop whose time is simulated: it jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

STEP_S = 1e-6  # what one turn of the loop takes: time passes in the simulated world too


class Crash(SystemExit):
    """The process dies here and now. asyncio lets SystemExit stop the loop in its tracks, as a crash does."""


class StalledError(Exception):
    """Nothing is ready and no timer is set: in a real process this would be a hang."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Starts at `now` seconds; nothing waits for real. `at_turn` is called at each turn, and may raise Crash."""

    def __init__(self, now: float, at_turn: Callable[[], None]) -> None:
        super().__init__()
        self._now = now
        self._at_turn = at_turn
        self._selector = self
        self.set_exception_handler(lambda _loop, _context: None)  # a crash leaves tasks behind

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        """What BaseEventLoop asks of a selector."""
        if timeout is None:
            raise StalledError
        if timeout > 0:
            self._now = max(self._now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        self._now += STEP_S
        self._at_turn()
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        return

    def _write_to_self(self) -> None:
        return
