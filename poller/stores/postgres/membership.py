"""A daemon's place in the fleet, as `poller.ports.Fleet`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from poller.core.orders import OrderKey, Prompt
from poller.core.outage import Told
from poller.ports import Errand
from poller.stores.postgres import outages
from poller.stores.postgres.engine import Engine
from poller.stores.postgres.herald import Hint
from poller.stores.postgres.lane import Transaction
from poller.stores.postgres.orders import unknown
from poller.stores.postgres.rate import SharedRate

MOST = 500  # errands at once

_ADD = (
    "INSERT INTO errands (order_id, prompt) SELECT id, $3 FROM orders "
    "WHERE park_uuid = $1 AND pay_partner = $2 RETURNING order_id"
)
# One for an order that has ended is anybody's.
_TAKE = (
    "WITH mine AS MATERIALIZED (SELECT e.id FROM errands e LEFT JOIN schedule s ON s.order_id = e.order_id "  # noqa: S608
    f"WHERE s.holder IS NULL OR s.holder = $1 ORDER BY e.id LIMIT {MOST} FOR UPDATE OF e SKIP LOCKED), "
    "gone AS (DELETE FROM errands e USING mine m WHERE e.id = m.id RETURNING e.id, e.order_id, e.prompt) "
    "SELECT o.park_uuid, o.pay_partner, g.prompt FROM gone g JOIN orders o ON o.id = g.order_id ORDER BY g.id"
)
_ANY = "SELECT EXISTS (SELECT FROM errands)"


class Membership:
    """Call it from the loop's thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def holds(self) -> bool:
        return self._engine.session.lease_left() > 0

    def follow(self, advance: Callable[[float, float], None]) -> None:
        self._engine.fleet.advance = advance

    def on_lost(self, lost: Callable[[], None]) -> None:
        self._engine.lost = lost

    def on_news(self, news: Callable[[], None]) -> None:
        self._engine.herald.hearers[Hint.FREE] = news
        self._engine.heartbeat.beaten = news

    def on_change(self, changed: Callable[[], None]) -> None:
        self._engine.herald.hearers[Hint.CHANGED] = changed

    def on_replicated(self, replicated: Callable[[bool], None]) -> None:
        self._engine.heartbeat.replicated = replicated
        if self._engine.heartbeat.is_replicated is not None:
            replicated(self._engine.heartbeat.is_replicated)

    async def hand_over(self, errand: Errand) -> None:
        async def work(transaction: Transaction) -> None:
            if not await transaction.write(_ADD, *errand.key, errand.prompt.value):
                raise unknown(errand.key)
            transaction.hints.add(Hint.FREE)

        await self._engine.work(work, durable=True)

    async def errands(self) -> Sequence[Errand]:
        if not await self._engine.read(lambda connection: connection.fetchval(_ANY)):
            return []

        async def work(transaction: Transaction) -> list[Errand]:
            rows = await transaction.write(_TAKE, transaction.me)
            return [Errand(OrderKey(lot, number), Prompt(prompt)) for lot, number, prompt in rows]

        return await self._engine.work(work)

    async def outage(self) -> Told | None:
        return await self._engine.read(lambda connection: outages.get(connection, self._engine.fleet.run()))

    async def outage_opened(self, told: Told) -> None:
        await self._engine.work(lambda transaction: outages.opened(transaction, told, self._engine.fleet.run()))

    async def outage_over(self) -> None:
        await self._engine.work(outages.over)

    async def take_canary(self, canaries: int) -> bool:
        run = self._engine.fleet.run()
        return await self._engine.work(lambda transaction: outages.take_canary(transaction, canaries, run))

    async def canary_failed(self, told: Told) -> None:
        run = self._engine.fleet.run()
        await self._engine.work(lambda transaction: outages.canary_failed(transaction, told, run))

    def throttle(self, account: str, rate: int) -> SharedRate:
        return SharedRate(self._engine.another_line(synchronous_commit="off"), account, rate)
