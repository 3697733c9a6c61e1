"""The outage of a fleet: it opens and closes for all, and one canary goes at a time."""

from __future__ import annotations

from poller.metrics import Metrics
from poller.polling.query import tell_turn
from poller.polling.turns import Turns
from poller.ports import Clock, Fleet, StoreUnavailableError
from poller.trouble import StoreTrouble


class SharedOutage:
    """Between a daemon's own `outage` and what the fleet knows. Whatever the store refuses is told again later."""

    def __init__(self, fleet: Fleet, turns: Turns, clock: Clock, metrics: Metrics, trouble: StoreTrouble) -> None:
        self._fleet = fleet
        self._turns = turns
        self._outage = turns.outage
        self._clock = clock
        self._metrics = metrics
        self._trouble = trouble
        self._known = False  # as the fleet had it when it was last told or asked

    async def may_go(self) -> bool:
        """Whether the next canary is this daemon's; then the others wait until `tell`, or for some seconds."""
        try:
            if not self._known:
                await self._tell_turn()
            if await self._fleet.take_canary(self._outage.canaries):
                return True
            await self._look()
        except StoreUnavailableError as error:
            self._trouble.met(error, "sharing the platform's state")
        return False

    async def tell(self, *, canary: bool) -> None:
        """An answer has come, to a canary or not: tell the others where it matters."""
        if self._outage.is_open is self._known and not canary:
            return
        try:
            if self._outage.is_open is not self._known:
                await self._tell_turn()
            elif (told := self._outage.told(self._clock.monotonic())) is not None:
                await self._fleet.canary_failed(told)
        except StoreUnavailableError as error:
            self._trouble.met(error, "sharing the platform's state")

    async def look(self) -> None:
        """Take over what the others have found out. Raises StoreUnavailableError."""
        if self._outage.is_open is self._known:
            await self._look()
        else:
            await self._tell_turn()

    async def _look(self) -> None:
        told, is_open = await self._fleet.outage(), self._outage.is_open
        if is_open is not self._known:
            return  # it has turned meanwhile, and that is told next
        now = self._clock.monotonic()
        self._known = told is not None
        turn = self._outage.follow(told, now, jitter=self._clock.jitter())
        tell_turn(turn, self._outage, self._metrics, len(self._turns))

    async def _tell_turn(self) -> None:
        told = self._outage.told(self._clock.monotonic())
        if told is not None:
            await self._fleet.outage_opened(told)
        else:
            await self._fleet.outage_over()
        self._known = told is not None
