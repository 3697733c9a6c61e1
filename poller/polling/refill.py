"""What is due soon is brought in from the store, as far as there is room for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from poller.polling.query import KEPT_S, STORE_RETRY_S, Asker
from poller.polling.turns import HELD_MAX, Turns
from poller.ports import Pending, Platform, Store, StoreUnavailableError
from poller.ports.records import Records
from poller.timeline import Timeline
from poller.trouble import StoreTrouble

FAIR = 50  # of a backlog, this many of the longest overdue are brought in now and then, room or not
REFILL_S = 0.5  # not more often, while what is in memory can wait
FRESHEST = 2_000  # of a backlog, this many of the youngest are brought in with each refill


class Refill:
    """`barred` are orders that are being cancelled. `backlog` says that there is more than there is room for."""

    def __init__(
        self,
        *,
        store: Store,
        records: Records,
        platform: Platform,
        timeline: Timeline,
        trouble: StoreTrouble,
        turns: Turns,
        asker: Asker,
        barred: Collection[int],
        lots: Sequence[str],
    ) -> None:
        self.backlog = False
        self.lots = lots  # that are configured
        self._store = store
        self._records = records
        self._platform = platform
        self._timeline = timeline
        self._trouble = trouble
        self._turns = turns
        self._asker = asker
        self._barred = barred
        self._claimed_until = float("-inf")
        self._filled_at = float("-inf")
        self._refill_at = float("-inf")  # not before: the store has just refused

    def soon(self) -> None:
        """Look into the store at the next turn."""
        self._claimed_until = float("-inf")

    async def if_needed(self) -> float:
        """Bring in what is due soon; returns the seconds until this is to be looked at again."""
        now = self._timeline.schedule()
        is_low = self.backlog and len(self._turns) < HELD_MAX // 2
        is_needed = is_low or self._claimed_until - now < KEPT_S / 2 or self._misses_some(now)
        if is_needed and now >= self._refill_at:
            try:
                if self._asker.pace is not None:
                    await self._asker.pace.recall(self._records)
                await self._refill(now + KEPT_S)
            except StoreUnavailableError as error:
                self._trouble.met(error, "looking for due orders")
                self._refill_at = now + STORE_RETRY_S
        return STORE_RETRY_S if is_needed else min(max(self._turns.left_out - now, REFILL_S), KEPT_S / 2)

    def _misses_some(self, now: float) -> bool:
        """Whether what was left out is due, while nothing in memory is."""
        return now >= max(self._turns.left_out, self._filled_at + REFILL_S) and not self._turns.any_due()

    async def _refill(self, by: float) -> None:
        if len(self._turns) >= 2 * HELD_MAX:  # as in an outage that lasts
            self._claimed_until = by
            return
        losses, room = self._turns.losses, max(HELD_MAX - len(self._turns), FAIR)
        self._turns.left_out, self._filled_at = float("inf"), self._timeline.schedule()
        claimed = await self._store.claim(by, room)
        self._bring_in(claimed, losses)
        self.backlog = len(claimed) == room
        if self.backlog:
            self._turns.leave_out(claimed[-1].due)
            # Those that are due now: what is due later and younger would take the room of what is due before.
            self._bring_in(await self._store.claim(self._timeline.schedule(), FRESHEST, freshest=True), losses)
            await self._bring_in_shares(losses)
        if losses == self._turns.losses:
            self._claimed_until = by

    async def _bring_in_shares(self, losses: int) -> None:
        """A lot that has less than its share in memory may have more in the store, behind all of the others'."""
        share = max(HELD_MAX // (2 * max(len(self.lots), 1)), 1)
        here = {lot: self._turns.waiting(lot) for lot in self.lots} if len(self.lots) > 1 else {}
        wanted = {lot: share - waiting for lot, waiting in here.items() if waiting < share}
        if wanted:
            self._bring_in(await self._store.claim_of_lots(self._timeline.schedule(), wanted), losses)

    def _bring_in(self, claimed: Iterable[Pending], losses: int) -> None:
        if losses != self._turns.losses:  # it may have been claimed before that or after: it is claimed anew
            self._store.give_back(claimed)
            return
        for pending in claimed:
            if pending.id in self._barred:
                continue
            flight = self._turns.flight(pending.id)
            if flight is not None:
                if flight.lost:
                    flight.successor = pending
            elif self._platform.knows(pending.key.park_uuid):
                self._turns.put(pending)
            else:
                self._asker.put_off(pending)
