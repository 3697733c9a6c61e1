"""What settled orders show of how long the platform takes: which of them count, and how, in both engines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from poller.core.orders import State
from poller.ports.records import Settlement


class SettledOrder(NamedTuple):
    """`by` is its age at its end, in seconds of running time."""

    id: int
    park_uuid: str
    by: float
    final_at: datetime
    state: str


def counting(newest_first: Iterable[SettledOrder], limit: int) -> list[SettledOrder]:
    """Those that the platform settled, at most `limit` of each lot."""
    left: dict[str, int] = {}
    found: list[SettledOrder] = []
    for order in newest_first:
        if order.state in (State.PAID, State.FAILED) and left.setdefault(order.park_uuid, limit):
            left[order.park_uuid] -= 1
            found.append(order)
    return found


def settlements(newest_first: Iterable[SettledOrder], in_progress_at: Mapping[int, datetime]) -> list[Settlement]:
    """Each between its last answer in progress, or its beginning, and its end; oldest first.

    One whose wall clock was set meanwhile says nothing, and is left out.
    """
    found: list[Settlement] = []
    for order in newest_first:
        at = in_progress_at.get(order.id)
        waited = order.by if at is None else (order.final_at - at).total_seconds()
        if 0.0 <= waited <= order.by:
            found.append(Settlement(order.park_uuid, order.by - waited, order.by))
    return found[::-1]
