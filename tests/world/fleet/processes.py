"""The daemons' processes in one event loop: each can be stopped in its tracks, go on later, or die."""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.world.fleet.plan import Blow, Fault, Place
from tests.world.loop import VirtualLoop

BACK_S = {Blow.FREEZE: 2.0, Blow.CUT: 12.0}  # until it is in touch again, once that is over

PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


@dataclass(slots=True)
class Fuse:
    """What is to befall a process after some more places."""

    place: Place
    steps: int
    burn: Callable[[], None]


@dataclass(eq=False)
class Process:
    """One life of a daemon. `boot` is the world's time when its machine's monotonic clock was zero.

    `frozen` is what SIGSTOP makes of it: none of its callbacks run, while the world, the kernel's buffers
    included, goes on. `cut` is its way to the database, `sessions` are those that it has begun.
    """

    name: str
    boot: float
    frozen: bool = False
    dead: bool = False
    cut: bool = False
    fuse: Fuse | None = None
    sessions: set[int] = field(default_factory=set)
    struck: list[tuple[float, Fault]] = field(default_factory=list)  # when, and by what
    born: float = 0.0
    died: float | None = None
    held: list[asyncio.Handle] = field(default_factory=list)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    def __post_init__(self) -> None:
        self.context.run(PROCESS.set, self)

    def lives_at(self, at: float) -> bool:
        return self.born <= at and (self.died is None or at < self.died)

    async def step(self, place: Place = Place.ANYWHERE) -> None:
        """A place in the daemon where it may be hit."""
        if self.hit(place):
            await asyncio.sleep(0)  # which ends when it goes on, if ever

    def hit(self, place: Place = Place.ANYWHERE) -> bool:
        """A place outside the daemon where it may be hit, as when what it sent is executed; True if it was."""
        if self.fuse is None or self.fuse.place not in (place, Place.ANYWHERE):
            return False
        self.fuse.steps -= 1
        if self.fuse.steps >= 0:
            return False
        burn, self.fuse = self.fuse.burn, None
        burn()
        return True


def leaps(lives: list[Process]) -> float:
    """How far, in seconds, the fleet's time may have leapt for those that joined while all others were away.

    A daemon that is frozen or cut off writes down no more how far it has come. Who joins then begins there, and
    moves forward when the other goes on.
    """
    return sum(
        min(
            (_away(one, joined.born) for one in lives if one is not joined and one.lives_at(joined.born)),
            default=0,
        )
        for joined in lives
    )


def _away(process: Process, at: float) -> float:
    """For how long it had been out of touch then; a cut one takes a while to come back."""
    blows = (
        (since, BACK_S[fault.blow] + fault.seconds) for since, fault in process.struck if fault.blow in BACK_S
    )
    return max((at - since for since, seconds in blows if since <= at <= since + seconds), default=0.0)


class FleetLoop(VirtualLoop):
    """Holds back the callbacks of processes that are frozen or dead."""

    def __init__(self) -> None:
        super().__init__(0.0, lambda: None)
        self.world = contextvars.copy_context()
        self.defects: list[BaseException] = []  # of callbacks, which asyncio only tells of
        self.set_exception_handler(self._met)
        self._kept: set[asyncio.Task[Any]] = set()  # nobody else keeps those of a process that died

    def create_task(self, coro: Any, **words: Any) -> Any:
        task = super().create_task(coro, **words)
        self._kept.add(task)
        task.add_done_callback(self._kept.discard, context=self.world)
        return task

    def _met(self, _loop: object, context: dict[str, Any]) -> None:
        if "handle" in context and "exception" in context:
            self.defects.append(context["exception"])

    def outside(self, delay: float, callback: Callable[..., object], *args: Any) -> None:
        """Have something done by the world, whatever becomes of the process that this is called in."""
        self.call_later(delay, callback, *args, context=self.world)

    def thaw(self, process: Process) -> None:
        """Let a frozen process go on: all that it missed comes at once."""
        process.frozen = False
        held, process.held = process.held, []
        self._ready.extend(held)  # type: ignore[attr-defined]

    def _call_soon(self, callback: Any, args: Any, context: contextvars.Context | None) -> asyncio.Handle:
        handle = _Handle(callback, args, self, context)
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        timer = _Timer(when, callback, args, self, context)
        self._push(timer)
        return timer

    def _push(self, timer: asyncio.TimerHandle) -> None:
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]


def _is_held(handle: Any) -> bool:
    process = handle._context.get(PROCESS)
    if process is None or not (process.frozen or process.dead):
        return False
    if not process.dead:
        process.held.append(handle)
    return True


class _Handle(asyncio.Handle):
    def _run(self) -> None:
        if not _is_held(self):
            super()._run()


class _Timer(asyncio.TimerHandle):
    def _run(self) -> None:
        if not _is_held(self):
            super()._run()


def clock() -> float:
    """The monotonic clock of the machine whose daemon asks."""
    process = PROCESS.get()
    assert process is not None, "nobody's clock"
    return asyncio.get_running_loop().time() - process.boot
