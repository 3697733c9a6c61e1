"""The engines that the contract suites run against, and the few words that those suites speak in.

Another engine joins by a maker of its own in `ENGINES`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from poller.core.documents import notice_body
from poller.core.orders import Change, NewOrder, NoticeType, Order, OrderKey, State, end
from poller.core.replies import Payment
from poller.ports import Accepted, Delivery, Making, Pending, Progress
from poller.stores import KeptStore
from poller.stores.postgres import PostgresStore
from poller.stores.sqlite import SqliteStore
from tests.integration.postgres_server import schema_for, shared_server

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOT = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
ALL = float("inf")

Opener = Callable[[], Awaitable[KeptStore]]
ENGINES: dict[str, Callable[[Path], Awaitable[KeptStore]]] = {
    "sqlite": lambda folder: SqliteStore.open(folder / "poller.db"),
    "sqlite in simulated time": lambda folder: SqliteStore.open(folder / "poller.db", inline=True),
    "postgresql": lambda folder: PostgresStore.open(shared_server().url(schema_for(folder))),
}


@asynccontextmanager
async def reopening(engine: str, folder: Path) -> AsyncIterator[Opener]:
    """Gives what opens the same store at each call, closing the one before."""
    opened: list[KeptStore] = []

    async def opener() -> KeptStore:
        if opened:
            await opened.pop().close()
        opened.append(await ENGINES[engine](folder))
        return opened[-1]

    try:
        yield opener
    finally:
        for store in opened:
            await store.close()


def key(name: str, lot: str = LOT) -> OrderKey:
    return OrderKey(lot, name)


def making(event: str, *, webhook: bool = True, due: float = 5.0) -> Making:
    def body(kind: NoticeType, order: Order) -> str:
        return notice_body(kind, order, AT, None)

    return Making(event, AT, run=3.0, due=due, webhook=webhook, body=body)


async def take_on(store: KeptStore, *names: str, run: float = 0.0, due: float = 1.0) -> list[Pending]:
    answers = await store.submit([NewOrder(key(name)) for name in names], AT, run, due)
    return [answer.pending for answer in answers if isinstance(answer, Accepted)]


def give_back(store: KeptStore, pending: Pending) -> None:
    store.note(Progress(pending.id, None, pending.due, pending.errors, keep=False))


def paid(order: Order) -> Change:
    return end(order, State.PAID, AT, Payment("serial", "4", "支付宝"))


def names(pending: list[Pending]) -> list[str]:
    return [one.key.pay_partner for one in pending]


def events(deliveries: list[Delivery]) -> list[str]:
    return [one.notice.event_id for one in deliveries]
