"""What daemons and people ask of a store, through the store's own code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from poller.core.delivery import DeliveryState
from poller.core.orders import Answer, Change, NewOrder, NoticeType, Order, OrderKey, State, end
from poller.core.replies import Payment
from poller.ports import Attempt, Making, Progress
from poller.ports.records import Ending, Since
from poller.stores.journal import Journal
from poller.stores.notes import Notes
from poller.stores.postgres import (
    deliveries,
    history,
    membership,
    migration,
    orders,
    overview,
    schedule,
    transition,
)
from poller.stores.postgres.connecting import Life
from poller.stores.postgres.fleet import FleetTime
from poller.stores.postgres.holds import Holds
from poller.stores.postgres.horizon import Horizon
from poller.stores.postgres.lane import Transaction
from poller.stores.postgres.notes import settle
from poller.stores.postgres.rate import SharedRate
from poller.stores.postgres.session import Session
from poller.stores.postgres.terms import Terms
from tests.bench.plans.filling import DEAD, HELD, PER_S, Size, event, lot, partner
from tests.bench.plans.measuring import Measured

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
ME = DEAD + 1
PAGE = 100


@dataclass(frozen=True, slots=True)
class Asking:
    """Somebody at a filled store, in a transaction that is undone afterwards."""

    connection: Measured
    size: Size
    transaction: Transaction

    @classmethod
    def at(cls, connection: Measured, size: Size) -> Asking:
        return cls(connection, size, Transaction(connection, ME, Notes(Journal()), Holds(), Holds()))

    @property
    def due(self) -> float:
        """By then a third of what is pending is due."""
        return self.size.run + 300

    async def keys(self, numbers: Sequence[int]) -> list[OrderKey]:
        """Of orders with these ids."""
        rows = await self.connection.connection.fetch(
            f"SELECT {lot('i')}, {partner('i')} FROM unnest($1::int[]) AS i", list(numbers)
        )
        return [OrderKey(*row) for row in rows]

    async def event(self, number: int) -> str:
        """The id of an order's notice."""
        return str(
            await self.connection.connection.fetchval(f"SELECT {event('i')} FROM unnest($1::int[]) i", [number])
        )

    def pending(self, count: int) -> list[int]:
        """Orders that are pending and nobody holds, from all over."""
        step = max(self.size.pending // count, 1) // 10 * 10 or 10
        first = self.size.final + 1
        first += (2 - first) % 10
        return [first + index * step for index in range(count) if first + index * step <= self.size.orders]

    def kept(self, count: int) -> list[int]:
        """Final orders that have their history still."""
        return [self.size.first_kept + index * (self.size.kept // count) // 2 for index in range(count)]

    def sent(self, count: int) -> range:
        """Deliveries that are pending and nobody holds."""
        last = self.size.final - HELD
        return range(last - count + 1, last + 1)

    async def submit(self, keys: Sequence[OrderKey]) -> None:
        calls = [orders.Submission([NewOrder(key)], AT, self.size.run, self.size.run) for key in keys]
        await orders.submit(self.transaction, calls)

    async def note(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            answer = Answer(AT, "1001", "SUCCESS", None, "20261101", "0", None)
            self.transaction.notes.add(Progress(number, answer, self.size.run + 9, 0))
        await settle(self.transaction)

    async def end(self, keys: Sequence[OrderKey]) -> None:
        making = Making("", AT, self.size.run, self.size.run, webhook=True, body=_body)
        wishes = [transition.Wish(key, _paid, _named(making, key)) for key in keys]
        outcomes = await transition.change(self.transaction, wishes)
        assert all(isinstance(one, Order) for one in outcomes), outcomes

    async def attempt(self, numbers: Sequence[int]) -> None:
        await deliveries.record(
            self.transaction, [Attempt(number, DeliveryState.DELIVERED, AT, status=200) for number in numbers]
        )

    async def log(self, numbers: Sequence[int]) -> None:
        self.transaction.notes.add_logged(numbers)
        await settle(self.transaction)

    async def beat(self) -> None:
        session = Session("daemon", Terms(), FleetTime(self.size.run), lambda: None)
        await session.ensure(self.connection)
        await session.beat(self.connection)

    async def reserve(self) -> None:
        await SharedRate(Lent(self.connection), "account", 1000).acquire()  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Lent:
    """A line for a moment."""

    connection: Measured
    life: Life | None = None

    @asynccontextmanager
    async def use(self, _seconds: float) -> AsyncIterator[Measured]:
        yield self.connection


def _body(_kind: NoticeType, order: Order) -> str:
    return f'{{"type":"payment.paid","pay_partner":"{order.key.pay_partner}"}}'


def _named(making: Making, key: OrderKey) -> Making:
    return Making(f"event {key}", making.at, making.run, making.due, webhook=True, body=making.body)


def _paid(order: Order) -> Change:
    return end(order, State.PAID, AT, Payment("serial", "4", "支付宝"))


Ask = Callable[[Asking], Awaitable[object]]


async def _new(it: Asking) -> None:
    await it.submit(await it.keys([-number for number in range(1, 21)]))


async def _known(it: Asking) -> None:
    await it.submit(await it.keys(it.kept(20)))


async def _end(it: Asking) -> None:
    await it.end(await it.keys(it.pending(20)))


async def _hold(it: Asking) -> None:
    await schedule.hold(it.transaction, (await it.keys(it.pending(1)))[0])


async def _order(it: Asking) -> None:
    [key] = await it.keys(it.kept(1))
    await orders.find(it.connection, key)
    await history.of(it.connection, key)
    await deliveries.some(it.connection, None, key, PAGE, before=None, after=None, complete=None)


async def _again(it: Asking) -> None:
    await deliveries.again(
        it.transaction, await it.event(it.size.first_kept + 7), run=it.size.run, due=it.size.run
    )


async def _claim_deliveries(it: Asking, *, freshest: bool) -> None:
    assert await deliveries.claim(it.transaction, it.size.run + 30, PAGE, freshest=freshest)


async def _claim(it: Asking, *, freshest: bool) -> None:
    assert await schedule.claim(it.transaction, it.due, PAGE, freshest=freshest)


async def _lot(it: Asking, number: int, state: State | None) -> None:
    [key] = await it.keys([number])
    park = key.park_uuid if number > 0 else "a lot that has none"
    await orders.newest(it.connection, state, park, PAGE, None)


async def _page(it: Asking, **wanted: object) -> None:
    given = {"state": None, "before": None, "after": None, **wanted}
    await deliveries.some(
        it.connection,
        given["state"],  # type: ignore[arg-type]
        None,
        PAGE,
        before=given["before"],  # type: ignore[arg-type]
        after=given["after"],  # type: ignore[arg-type]
        complete=None,
    )


ASKED: dict[str, Ask] = {
    "take 20 orders on": _new,
    "recognise 20 orders": _known,
    "claim 100, the longest overdue": lambda it: _claim(it, freshest=False),
    "claim 100, the freshest": lambda it: _claim(it, freshest=True),
    "write 100 queries down": lambda it: it.note(it.pending(100)),
    "end 20 orders, with notices": _end,
    "hold one order": _hold,
    "claim 100 deliveries, the longest due": lambda it: _claim_deliveries(it, freshest=False),
    "claim 100 deliveries, the freshest": lambda it: _claim_deliveries(it, freshest=True),
    "write 20 attempts down": lambda it: it.attempt(it.sent(20)),
    "when the next delivery is due": lambda it: deliveries.next_due(it.connection),
    "make 500 deliveries due": lambda it: deliveries.bring_forward(it.transaction, it.size.run, 500, None),
    "what is not logged": lambda it: deliveries.unlogged(it.transaction, PAGE),
    "write 20 logged notices down": lambda it: it.log(it.sent(20)),
    "whom to tell undecided": lambda it: schedule.undecided(it.connection, it.size.run, PAGE, ME),
    "whom to tell undecided next": lambda it: schedule.oldest_untold(it.connection, ME),
    "how far notices are complete": lambda it: Horizon().reach(it.connection, it.size.orders),
    "admit a program": lambda it: migration.admit(it.connection),
    "a heartbeat": Asking.beat,
    "reserve the rate": Asking.reserve,
    "take errands": lambda it: it.connection.fetch(membership._TAKE, ME),
    "counts": lambda it: overview.counts(it.connection),
    "the status page": lambda it: overview.overview(
        it.connection, Since(it.size.run - 86_400, AT - timedelta(days=7), it.size.run - 60), 20
    ),
    "what ended, a page": lambda it: overview.ended(it.connection, Ending(it.size.final / PER_S - 5000, 0), 1000),
    "what settled": lambda it: overview.settlements(it.connection, 400),
    "one order with everything": _order,
    "orders": lambda it: orders.newest(it.connection, None, None, PAGE, None),
    "orders, a later page": lambda it: orders.newest(it.connection, None, None, PAGE, it.size.orders // 2),
    **{
        f"orders, {state}": lambda it, state=state: orders.newest(it.connection, state, None, PAGE, None)  # type: ignore[misc]
        for state in State
    },
    "orders of a lot": lambda it: _lot(it, 1, None),
    "orders of a lot without any": lambda it: _lot(it, -1, None),
    "orders of a lot, pending": lambda it: _lot(it, 1, State.PENDING),
    "deliveries": _page,
    "deliveries, read on": lambda it: _page(it, after=it.size.first_kept + 9),
    **{
        f"deliveries, {state}": lambda it, state=state: _page(it, state=state)  # type: ignore[misc]
        for state in DeliveryState
    },
    "send a notice again": _again,
    "let go of 100 orders' history": lambda it: overview.prune(it.transaction, it.size.run, PAGE, float("-inf")),
}
