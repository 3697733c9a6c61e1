"""All that a store keeps of one order, as it goes from one store to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from poller.core.orders import Order
from poller.ports import Delivery, HistoryEntry


@dataclass(frozen=True, slots=True)
class Told:
    """A notice and how far it has come; `logged` says whether the log has told it, too."""

    delivery: Delivery
    logged: bool


@dataclass(frozen=True, slots=True)
class Dossier:
    """`ended_run` is the running time when the order became final, None while pending and once pruned.

    History and notices are oldest first.
    """

    order: Order
    ended_run: float | None
    history: Sequence[HistoryEntry]
    notices: Sequence[Told]


@dataclass(frozen=True, slots=True)
class Shift:
    """What has to be added to a store's numbers to make another's of them; times are in seconds."""

    ids: int
    run: float
    schedule: float

    def of(self, dossier: Dossier) -> Dossier:
        """The same order as the other store keeps it: of the same age, due after the same time."""
        order, ended_run = dossier.order, dossier.ended_run
        return Dossier(
            order=order._replace(
                id=order.id + self.ids,
                opened_run=order.opened_run + self.run,
                due=None if order.due is None else order.due + self.schedule,
            ),
            ended_run=None if ended_run is None else ended_run + self.run,
            history=dossier.history,
            notices=[Told(self._delivery(told.delivery), told.logged) for told in dossier.notices],
        )

    def _delivery(self, delivery: Delivery) -> Delivery:
        notice, due = delivery.notice, delivery.due
        return replace(
            delivery,
            notice=replace(notice, id=notice.id + self.ids, made_run=notice.made_run + self.run),
            due=None if due is None else due + self.schedule,
        )
