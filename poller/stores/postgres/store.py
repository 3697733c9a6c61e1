"""The store itself: each call of the port as a job for the lane, or as a read beside it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar

from poller.core.delivery import DeliveryState
from poller.core.orders import Change, NewOrder, Order, OrderKey, State
from poller.ports import (
    Accepted,
    Attempt,
    Counts,
    Delivery,
    HistoryEntry,
    Making,
    Notice,
    Pending,
    Progress,
    Recorded,
    Stamp,
    Submitted,
)
from poller.ports.fleet import LEASE_S
from poller.ports.records import Ended, Ending, Overview, Settlement, Since
from poller.stores.dossier import Dossier
from poller.stores.postgres import arrivals, history, overview, schedule, transition
from poller.stores.postgres import deliveries as outbox
from poller.stores.postgres import orders as ledger
from poller.stores.postgres.connection import Connection
from poller.stores.postgres.engine import Engine
from poller.stores.postgres.horizon import Horizon
from poller.stores.postgres.lane import Transaction
from poller.stores.postgres.membership import Membership
from poller.stores.postgres.notes import settle
from poller.stores.postgres.terms import HEARTBEAT_S, Terms

T = TypeVar("T")


class PostgresStore:
    """`poller.ports.Store` in PostgreSQL, and `poller.stores.KeptStore`. Open it with `open`.

    A daemon holds what it holds under a lease (see `session`). Calls that would write for what was lost raise
    LeaseLostError, and those for what another daemon holds HeldElsewhereError: both are StoreUnavailableErrors.
    What is held is on disk, and on a synchronous standby, first: else a server that fails over could give the same
    to two.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._horizon = Horizon()
        self._pruned_to = float("-inf")

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        password: str | None = None,
        tls: ssl.SSLContext | str | None = None,
        name: str = "",
        lease: float = LEASE_S,
        heartbeat: float = HEARTBEAT_S,
    ) -> PostgresStore:
        """Open the store at `url`, which is libpq's without a password; its tables are made, or brought forward.

        `name` is the daemon's, the same at each of its starts: what an earlier one held is free at once. Without
        one that takes a lease. `lease` and `heartbeat` are in seconds, see `Terms`. Raises ValueError for another
        kind of url, StoreTooNewError and StoreUnavailableError.
        """
        terms = Terms(lease, heartbeat)
        return cls(await Engine.open(url, password=password, tls=tls, name=name, terms=terms))

    def last_stamp(self) -> Stamp | None:
        """The fleet's stamp as it was when the store was opened; None for a new store."""
        return self._engine.last_stamp

    def keep_time(self, stamp: Callable[[], Stamp]) -> None:
        """From now on write `stamp()` down with every transaction that writes, and at each heartbeat."""
        self._engine.fleet.stamp = stamp

    def lease_left(self) -> float:
        """For how many seconds from now nobody else can hold what this daemon holds; 0 where that is not sure."""
        return self._engine.session.lease_left()

    def fleet(self) -> Membership:
        """This daemon's place in the fleet."""
        return Membership(self._engine)

    def watch(self, wrote: Callable[[float, bool], None]) -> None:
        """From now on tell of each transaction that wrote: its seconds, and whether it was durable."""
        self._engine.lane.wrote = wrote

    def check(self) -> None:
        """Raises what has ended a task of the store's: a defect."""
        self._engine.check()

    def busy_since(self) -> float | None:
        """`time.monotonic()` when the transaction that is running now began; None while none runs."""
        return self._engine.lane.busy_since()

    def size_bytes(self) -> int:
        """What the tables and their indexes took a minute ago at most."""
        return self._engine.heartbeat.size_bytes

    async def identity(self) -> str:
        """Which cluster, database and schema this is, by whatever name it was reached."""
        return await self._engine.read(arrivals.identity)

    async def take_in(self, dossiers: Sequence[Dossier]) -> list[Order | None]:
        """Have orders move in, durably; for each that is here already, under another id, the order as it is."""
        return await self._engine.work(lambda transaction: arrivals.take_in(transaction, dossiers), durable=True)

    async def submit(self, orders: Sequence[NewOrder], at: datetime, run: float, due: float) -> list[Submitted]:
        def abandoned(answers: list[Submitted]) -> None:
            self._engine.give_back_orders(one.pending for one in answers if isinstance(one, Accepted))

        call = ledger.Submission(orders, at, run, due)
        return await self._engine.write(ledger.submit, call, durable=True, abandoned=abandoned)

    async def get(self, key: OrderKey) -> Order | None:
        return await self._engine.read(lambda connection: ledger.find(connection, key), noted=True)

    async def orders(
        self, state: State | None, park_uuid: str | None, limit: int, before: int | None
    ) -> list[Order]:
        return await self._engine.read(
            lambda connection: ledger.newest(connection, state, park_uuid, limit, before), noted=True
        )

    async def history(self, key: OrderKey) -> list[HistoryEntry]:
        return await self._engine.read(lambda connection: history.of(connection, key), noted=True)

    async def claim(self, by: float, limit: int, *, freshest: bool = False) -> list[Pending]:
        def abandoned(claimed: list[Pending]) -> None:
            self._engine.give_back_orders(claimed)

        return await self._engine.work(
            lambda transaction: schedule.claim(transaction, by, limit, freshest=freshest),
            durable=True,
            abandoned=abandoned,
        )

    async def claim_of_lots(self, by: float, wanted: Mapping[str, int]) -> list[Pending]:
        def abandoned(claimed: list[Pending]) -> None:
            self._engine.give_back_orders(claimed)

        return await self._engine.work(
            lambda transaction: schedule.claim_of_lots(transaction, by, wanted),
            durable=True,
            abandoned=abandoned,
        )

    async def hold(self, key: OrderKey) -> Pending:
        def abandoned(held: tuple[Pending, bool]) -> None:
            pending, is_new = held
            if is_new:
                self._engine.give_back_orders([pending])

        pending, _ = await self._engine.work(
            lambda transaction: schedule.hold(transaction, key), durable=True, abandoned=abandoned
        )
        return pending

    def give_back(self, orders: Iterable[Pending]) -> None:
        self._engine.give_back_orders(orders)

    def note(self, progress: Progress) -> None:
        self._engine.note(progress)

    async def change(self, key: OrderKey, change: Callable[[Order], Change | None], making: Making) -> Recorded:
        return Recorded(
            await self._engine.write(transition.change, transition.Wish(key, change, making), durable=True)
        )

    async def undecided(self, opened_by: float, limit: int) -> list[OrderKey]:
        me = self._engine.session.id
        return await self._engine.read(lambda connection: schedule.undecided(connection, opened_by, limit, me))

    async def oldest_untold(self) -> float | None:
        me = self._engine.session.id
        return await self._engine.read(lambda connection: schedule.oldest_untold(connection, me))

    async def unlogged(self, limit: int) -> list[Notice]:
        return await self._engine.work(lambda transaction: outbox.unlogged(transaction, limit))

    def note_logged(self, ids: Sequence[int]) -> None:
        self._engine.note_logged(ids)

    async def claim_deliveries(self, by: float, limit: int, *, freshest: bool = False) -> list[Delivery]:
        def abandoned(claimed: list[Delivery]) -> None:
            self.give_back_deliveries([one.notice.id for one in claimed])

        return await self._engine.work(
            lambda transaction: outbox.claim(transaction, by, limit, freshest=freshest),
            durable=True,
            abandoned=abandoned,
        )

    def give_back_deliveries(self, ids: Sequence[int]) -> None:
        self._engine.give_back_deliveries(ids)

    async def bring_deliveries_forward(self, due: float, limit: int, before: int | None = None) -> int | None:
        return await self._engine.work(lambda transaction: outbox.bring_forward(transaction, due, limit, before))

    def undelivered(self) -> int | None:
        """None: the others make notices, too."""
        return None

    async def next_delivery(self) -> float | None:
        return await self._engine.read(outbox.next_due, noted=self._engine.has_releases())

    async def record_attempt(self, attempt: Attempt) -> None:
        durable = attempt.state is not DeliveryState.PENDING
        await self._engine.write(outbox.record, attempt, durable=durable)

    async def deliveries(
        self,
        state: DeliveryState | None,
        key: OrderKey | None,
        limit: int,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Delivery]:
        async def read(connection: Connection) -> list[Delivery]:
            complete = None if after is None else await self._horizon.reach(connection, after)
            return await outbox.some(connection, state, key, limit, before=before, after=after, complete=complete)

        return await self._engine.read(read)

    async def delivery(self, event_id: str) -> Delivery | None:
        return await self._engine.read(lambda connection: outbox.find(connection, event_id))

    async def redeliver(self, event_id: str, run: float, due: float) -> Delivery:
        return await self._engine.work(
            lambda transaction: outbox.again(transaction, event_id, run=run, due=due), durable=True
        )

    async def overview(self, since: Since, limit: int) -> Overview:
        return await self._engine.read(lambda connection: overview.overview(connection, since, limit), noted=True)

    async def ended(self, after: Ending, limit: int) -> list[Ended]:
        return await self._engine.read(lambda connection: overview.ended(connection, after, limit))

    async def settlements(self, limit: int) -> list[Settlement]:
        return await self._engine.read(lambda connection: overview.settlements(connection, limit), noted=True)

    async def prune(self, ended_by: float, limit: int) -> int:
        async def work(transaction: Transaction) -> list[float]:
            await settle(transaction)  # or what was noted of such an order would come after
            return await overview.prune(transaction, ended_by, limit, self._pruned_to)

        pruned = await self._engine.work(work)
        self._pruned_to = max(pruned, default=float("-inf"))  # after a round it is looked for from the start
        return len(pruned)

    async def counts(self) -> Counts:
        return await self._engine.read(overview.counts)

    async def flush(self) -> None:
        await self._engine.flush()

    async def close(self) -> None:
        """Write everything down and leave the fleet: what this daemon held is free. Bounded in time."""
        await self._engine.close()
