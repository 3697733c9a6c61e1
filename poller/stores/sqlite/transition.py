"""A change of an order and the notice of it, in one transaction: the transactional outbox."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from poller.core.orders import Change, Order, OrderKey, State
from poller.ports import Making
from poller.stores.sqlite import deliveries, orders
from poller.stores.sqlite.holds import OrderHolds
from poller.stores.sqlite.tally import Tally


def apply(
    connection: sqlite3.Connection,
    key: OrderKey,
    change: Callable[[Order], Change | None],
    making: Making,
    *,
    holds: OrderHolds,
    tally: Tally,
) -> Order:
    """Load, change and write an order; the order as it stands afterwards. An ended one is held no more.

    Raises UnknownOrderError and whatever `change` raises.
    """
    before = orders.load(connection, key)
    changed = change(before)
    if changed is None:
        return before
    after = orders.write(connection, before, changed.order, making.run)
    if changed.notice is not None:
        deliveries.make(connection, after, changed.notice, making)
    tally.add(
        pending=_is_pending(after) - _is_pending(before),
        undecided=_is_undecided(after) - _is_undecided(before),
        undelivered=changed.notice is not None and making.webhook,
    )
    if after.due is None:
        holds.release(after.id)
    elif after.id not in holds:
        holds.reveal(after.id, after.due)
    return after


def _is_pending(order: Order) -> bool:
    return order.state is State.PENDING


def _is_undecided(order: Order) -> bool:
    return _is_pending(order) and order.undecided_at is not None
