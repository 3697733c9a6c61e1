"""What other daemons of the fleet were asked for, of orders that this one holds, and what they have found out."""

from __future__ import annotations

from collections import deque

from poller.bell import Bell
from poller.liveness import Liveness
from poller.polling import Poller
from poller.ports import Errand, Fleet, StoreUnavailableError
from poller.trouble import StoreTrouble

RETRY_S = 2.0


class Errands:
    """The loop that runs them: at a hint, and every few seconds."""

    def __init__(self, fleet: Fleet, poller: Poller, liveness: Liveness, trouble: StoreTrouble) -> None:
        self._fleet = fleet
        self._poller = poller
        self._liveness = liveness
        self._trouble = trouble
        self._bell = Bell()
        self._taken: deque[Errand] = deque()
        self._stopping = False

    def look_again(self) -> None:
        """There may be some."""
        self._bell.ring()

    def stop(self) -> None:
        self._stopping = True
        self._bell.ring()

    async def run(self) -> None:
        """Runs until `stop`. One that is lost in a crash costs a query too late, never an order."""
        while not self._stopping:
            self._liveness.turn("errands")
            pause = None
            try:
                await self._poller.follow_outage()
                self._taken.extend(await self._fleet.errands())
                while self._taken:
                    await self._poller.run_errand(self._taken[0])
                    self._taken.popleft()
            except StoreUnavailableError as error:
                self._trouble.met(error, "looking for errands")
                pause = RETRY_S
            await self._bell.wait(pause)
