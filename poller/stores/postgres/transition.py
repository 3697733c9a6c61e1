"""Changes of orders and the notices of them, in one transaction: the transactional outbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from poller.core.orders import Change, Order, OrderKey, State
from poller.ports import HeldElsewhereError, HistoryEntry, LeaseLostError, Making
from poller.stores.postgres import deliveries, history, orders
from poller.stores.postgres.lane import Transaction
from poller.stores.postgres.notes import settle_orders
from poller.stores.postgres.orders import Loaded
from poller.stores.postgres.rows import columns, kept_order

_ORDERS = (
    "UPDATE orders o SET state = n.state, undecided_at = n.undecided_at, final_at = n.final_at, "
    "conflict_at = n.conflict_at, opened_run = n.opened_run, polls = n.polls, pay_serial = n.serial, "
    "pay_origin = n.origin, pay_origin_desc = n.origin_desc, "
    "ended_run = CASE WHEN n.turned THEN n.ended_run ELSE o.ended_run END FROM unnest($1::bigint[], $2::text[], "
    "$3::timestamptz[], $4::timestamptz[], $5::timestamptz[], $6::float8[], $7::int[], $8::text[], $9::text[], "
    "$10::text[], $11::bool[], $12::float8[]) AS n (id, state, undecided_at, final_at, conflict_at, opened_run, "
    "polls, serial, origin, origin_desc, turned, ended_run) WHERE o.id = n.id"
)
_ENDED = "DELETE FROM schedule USING unnest($1::bigint[]) AS n (number) WHERE order_id = n.number"
_OPENED = (
    "INSERT INTO schedule (order_id, due, opened_run, polls, errors, cancelling, untold) "
    "SELECT * FROM unnest($1::bigint[], $2::float8[], $3::float8[], $4::int[], $5::int[], $6::bool[], $7::bool[])"
)
# What a transition leaves alone is null here: whoever holds the order may have noted it meanwhile.
_MOVED = (
    "UPDATE schedule s SET due = coalesce(n.due, s.due), opened_run = coalesce(n.opened_run, s.opened_run), "
    "polls = s.polls + n.polls, errors = coalesce(n.errors, s.errors), "
    "cancelling = coalesce(n.cancelling, s.cancelling), untold = coalesce(n.untold, s.untold) "
    "FROM unnest($1::bigint[], $2::float8[], $3::float8[], $4::int[], $5::int[], $6::bool[], $7::bool[]) "
    "AS n (id, due, opened_run, polls, errors, cancelling, untold) WHERE s.order_id = n.id"
)


@dataclass(slots=True)
class Wish:
    """One call of `Store.change`; `tried` is what came of it in a transaction since undone."""

    key: OrderKey
    change: Callable[[Order], Change | None]
    making: Making
    tried: tuple[Order, Change | None] | None = None

    def apply(self, order: Order) -> Change | None:
        """Ask the transition; again only where the order is another than the last time. Raises what it raises."""
        if self.tried is None or self.tried[0] != order:
            self.tried = order, self.change(order)
        return self.tried[1]


@dataclass(slots=True)
class Work:
    """What a transaction does to one order."""

    loaded: Loaded
    now: Order
    ended_run: float | None = None


async def change(transaction: Transaction, wishes: Sequence[Wish]) -> Sequence[Order | Exception]:
    """Load, change and write orders; each as it stands afterwards. What a transition raises is its outcome."""
    keys = {wish.key for wish in wishes}
    locked = await transaction.connection.fetch(orders.LOCK, *columns(sorted(keys), 2))
    await settle_orders(transaction, [number for (number,) in locked])
    loaded = await orders.load(transaction.connection, keys)  # as it is now that nobody else can change it
    works = {key: Work(one, one.order) for key, one in loaded.items()}
    outcomes: list[Order | Exception] = []
    notices: list[deliveries.New] = []
    for wish in wishes:
        work = works.get(wish.key)
        try:
            outcomes.append(orders.unknown(wish.key) if work is None else _apply(transaction, work, wish, notices))
        except Exception as error:  # the caller's own, and its alone
            outcomes.append(error)
    await _write(transaction, [work for work in works.values() if work.now is not work.loaded.order])
    await deliveries.make(transaction, notices)
    return outcomes


def _apply(transaction: Transaction, work: Work, wish: Wish, notices: list[deliveries.New]) -> Order:
    before = work.now
    changed = wish.apply(before)
    if changed is None:
        return before
    if before.state is State.PENDING and changed.order.state is not State.PENDING:
        _fence(transaction, work.loaded)
    answer = changed.order.last_answer
    after = kept_order(changed.order._replace(id=before.id))
    if changed.notice is not None:
        making = wish.making
        notices.append(deliveries.New(after.id, changed.notice, making, making.body(changed.notice, after)))
    if answer is not None and answer is not before.last_answer:
        work.loaded.tail.append([HistoryEntry(1, answer.at, answer)])
    if _is_pending(before) is not _is_pending(after):
        work.ended_run = None if _is_pending(after) else wish.making.run
    work.now = after
    return after


def _fence(transaction: Transaction, loaded: Loaded) -> None:
    """Only who holds an order ends it, or anybody where nobody does; not who has lost it."""
    if loaded.holder == transaction.me:
        return
    if loaded.holder is not None:
        raise HeldElsewhereError("another daemon of the fleet holds the order: it will end it")
    if transaction.orders.is_lost(loaded.order.id):
        raise LeaseLostError("the lease under which the order was held was lost: it is asked about anew")


async def _write(transaction: Transaction, works: Sequence[Work]) -> None:
    if not works:
        return
    rows = [_order_row(work) for work in sorted(works, key=lambda work: work.now.id)]
    await transaction.write(_ORDERS, *columns(rows, 12))
    was = [work for work in works if _is_pending(work.loaded.order)]
    was_not = [work for work in works if not _is_pending(work.loaded.order)]
    ended = [work.now.id for work in was if not _is_pending(work.now)]
    moved = [_moved_row(work.loaded.order, work.now) for work in was if _is_pending(work.now)]
    opened = [work.now for work in was_not if _is_pending(work.now)]
    if ended:
        await transaction.write(_ENDED, ended)
        transaction.held_orders.release(ended)
    if moved:
        await transaction.write(_MOVED, *columns(moved, 7))
    await schedule(transaction, opened)
    await history.write(transaction, [work.loaded.tail for work in works])
    for work in works:
        before, after = work.loaded.order, work.now
        transaction.tally.add(
            pending=_is_pending(after) - _is_pending(before),
            undecided=_is_undecided(after) - _is_undecided(before),
        )


async def schedule(transaction: Transaction, opened: Sequence[Order]) -> None:
    """Enter orders that are pending from now on; nobody holds them."""
    if opened:
        await transaction.write(_OPENED, *columns(map(_opened_row, opened), 7))


def _order_row(work: Work) -> Sequence[object]:
    before, after = work.loaded.order, work.now
    return (
        after.id,
        after.state.value,
        after.undecided_at,
        after.final_at,
        after.conflict_at,
        after.opened_run,
        after.polls,
        after.payment.serial,
        after.payment.origin,
        after.payment.origin_desc,
        _is_pending(before) is not _is_pending(after),
        work.ended_run,
    )


def _moved_row(before: Order, after: Order) -> Sequence[object]:
    return (
        after.id,
        after.due if after.due != before.due else None,
        after.opened_run if after.opened_run != before.opened_run else None,
        after.polls - before.polls,
        after.errors if after.errors != before.errors else None,
        after.cancelling if after.cancelling is not before.cancelling else None,
        after.undecided_at is None,
    )


def _opened_row(order: Order) -> Sequence[object]:
    return (
        order.id,
        order.due,
        order.opened_run,
        order.polls,
        order.errors,
        order.cancelling,
        order.undecided_at is None,
    )


def _is_pending(order: Order) -> bool:
    return order.state is State.PENDING


def _is_undecided(order: Order) -> bool:
    return _is_pending(order) and order.undecided_at is not None
