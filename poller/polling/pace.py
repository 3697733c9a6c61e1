"""The learned cadence at work: what is known of each lot's orders, and the plan by which they are asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from poller.core.cadence import Cadence
from poller.core.learning import HORIZON_S, Plan, Settlements
from poller.core.replies import InProgress, Result, Settled
from poller.ports import Pending
from poller.ports.records import Records, Settlement

REPLAN = 10  # settled orders of a lot, after which its plan is made anew
RECALLED = 300  # orders of each lot: what is older has faded by then


@dataclass(slots=True)
class _Lot:
    plan: Plan
    settlements: Settlements = field(default_factory=Settlements)
    since: int = 0  # orders taken in since the plan was made


class Pace:
    """Nothing of it is stored: it is read back from what the store keeps of orders anyway."""

    def __init__(self, cadence: Cadence) -> None:
        self._recalled = False
        self._cadence = cadence
        self._lots: dict[str, _Lot] = {}

    def configure(self, cadence: Cadence) -> None:
        """Take new settings over; what is known stays."""
        self._cadence = cadence
        for lot in self._lots.values():
            self._replan(lot)

    async def recall(self, records: Records) -> None:
        """Begin with what the store knows, once. Raises StoreUnavailableError."""
        if self._recalled:
            return
        self._begin_with(await records.settlements(RECALLED))
        self._recalled = True

    def plan(self, park_uuid: str) -> Plan:
        """How the lot's orders are asked now."""
        return self._lot(park_uuid).plan

    def after(self, pending: Pending, result: Result, age: float) -> Plan:
        """Learn from the answer to a pending order of that age; returns the plan for its next query.

        Each order counts once: when it settles, or when it is still in progress past the horizon. One of which
        it is not known when it was last in progress does not count, as after a restart.
        """
        lot, waited = self._lot(pending.key.park_uuid), pending.unsettled_until
        if isinstance(result, Settled):
            pending.unsettled_until = None
            self._learn(lot, waited, age)
        elif isinstance(result, InProgress):
            is_old = age >= HORIZON_S
            pending.unsettled_until = None if is_old else age
            if is_old and waited is not None:
                self._learn(lot, age, float("inf"))
        return lot.plan

    def _begin_with(self, settlements: Iterable[Settlement]) -> None:
        self._lots = {}
        for one in settlements:
            self._lot(one.park_uuid).settlements.add(one.after, one.by)
        for lot in self._lots.values():
            self._replan(lot)

    def _learn(self, lot: _Lot, after: float | None, by: float) -> None:
        if after is None:
            return
        lot.settlements.add(after, by)
        lot.since += 1
        if lot.since >= REPLAN:
            self._replan(lot)

    def _replan(self, lot: _Lot) -> None:
        lot.plan, lot.since = Plan(self._cadence, lot.settlements), 0

    def _lot(self, park_uuid: str) -> _Lot:
        lot = self._lots.get(park_uuid)
        if lot is None:
            lot = self._lots[park_uuid] = _Lot(Plan(self._cadence, Settlements()))
        return lot


def pace_of(cadence: Cadence, before: Pace | None) -> Pace | None:
    """The pace that goes with the settings, with what was known `before`; None where nothing is to be learned."""
    if cadence.queries_per_order is None:
        return None
    if before is None:
        return Pace(cadence)
    before.configure(cadence)
    return before
