"""A change of an order and the notice of it, in one transaction: the transactional outbox."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from poller.core.orders import Change, Order, OrderKey, State
from poller.ports import Making, Recorded
from poller.stores.notes import Noted, Notes
from poller.stores.sqlite import deliveries as outbox
from poller.stores.sqlite import orders, schedule
from poller.stores.sqlite.holds import DeliveryHolds, OrderHolds
from poller.stores.sqlite.rows import whole_ms
from poller.stores.sqlite.tally import Tally


def apply(
    connection: sqlite3.Connection,
    key: OrderKey,
    change: Callable[[Order], Change | None],
    making: Making,
    *,
    notes: Notes,
    holds: OrderHolds,
    deliveries: DeliveryHolds,
    tally: Tally,
) -> Recorded:
    """Load, change and write an order, and its notice. An ended one is held no more.

    Raises UnknownOrderError and whatever `change` raises.
    """
    kept = orders.load(connection, key)
    noted = notes.take_order(kept.id)
    before = kept if noted is None else _with_noted(kept, noted)
    changed = change(before)
    if changed is None:
        if noted is not None:
            schedule.write_noted(connection, holds, {kept.id: noted})
        return Recorded(before)
    if noted is not None:
        orders.append_history(connection, kept.id, noted.runs, is_first=not kept.polls)
        if noted.released:
            holds.release(kept.id)
    after = orders.write(connection, before, changed.order, making.run)
    handed = (
        (None, None)
        if changed.notice is None
        else outbox.make(connection, deliveries, after, changed.notice, making)
    )
    tally.add(
        pending=_is_pending(after) - _is_pending(before),
        undecided=_is_undecided(after) - _is_undecided(before),
        undelivered=changed.notice is not None and making.webhook,
    )
    if after.due is None:
        holds.release(after.id)
    elif after.id not in holds:
        holds.reveal(after.id, after.due)
    return Recorded(after, *handed)


def _with_noted(order: Order, noted: Noted) -> Order:
    """The order as it would be read, were what is noted of it written down."""
    last = noted.runs[-1].answer if noted.runs else order.last_answer
    if last is not None:
        last = last._replace(at=whole_ms(last.at))
    if order.state is not State.PENDING or noted.due is None:
        return order._replace(polls=order.polls + noted.polls, last_answer=last)
    return order._replace(polls=order.polls + noted.polls, last_answer=last, due=noted.due, errors=noted.errors)


def _is_pending(order: Order) -> bool:
    return order.state is State.PENDING


def _is_undecided(order: Order) -> bool:
    return _is_pending(order) and order.undecided_at is not None
