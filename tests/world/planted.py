"""Broken promises planted by hand, to show that the world catches them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from poller.core import learning
from poller.core.decision import AskAgain, Decision, End, decide
from poller.core.orders import State
from poller.core.replies import Result, Unclear
from poller.polling import query
from poller.ports import Stamp
from poller.stores.sqlite import SqliteStore, deliveries
from poller.stores.sqlite.holds import OrderHolds
from poller.stores.sqlite.writer import InlineWriter
from poller.timeline import Timeline

Plant = Callable[[pytest.MonkeyPatch], None]


def answered_before_it_is_on_disk(patch: pytest.MonkeyPatch) -> None:
    """Orders are acknowledged from a commit that was not synced."""

    submit = InlineWriter.submit

    def careless(self: InlineWriter, work: Any, *, durable: bool = False, **words: Any) -> Any:
        is_new = work.__qualname__.startswith("SqliteStore.submit")
        return submit(self, work, durable=durable and not is_new, **words)

    patch.setattr(InlineWriter, "submit", careless)


def notice_outside_the_transaction(patch: pytest.MonkeyPatch) -> None:
    """The outcome is committed first, its notice in a transaction of its own."""
    make, change, left = deliveries.make, SqliteStore.change, list[Any]()

    async def in_two_steps(self: SqliteStore, *words: Any) -> Any:
        order = await change(self, *words)
        while left:
            rest = left.pop(0)

            def work(connection: sqlite3.Connection, rest: Any = rest) -> None:
                make(connection, *rest)

            await self._writer.submit(work, durable=True)
        return order

    patch.setattr(deliveries, "make", lambda _connection, *rest: left.append(rest))
    patch.setattr(SqliteStore, "change", in_two_steps)


def unknown_taken_as_failed(patch: pytest.MonkeyPatch) -> None:
    """A reply that says nothing of the payment ends the order."""

    def hasty(result: Result, **words: Any) -> Decision:
        decision = decide(result, **words)
        if isinstance(decision, AskAgain) and isinstance(result, Unclear) and result.reply is not None:
            return End(State.FAILED)
        return decision

    patch.setattr(query, "decide", hasty)


def lease_never_given_back(patch: pytest.MonkeyPatch) -> None:
    """An order that is put down is still held, so that nobody asks about it again."""
    patch.setattr(OrderHolds, "release", lambda _self, _number: None)


def learned_without_a_bound(patch: pytest.MonkeyPatch) -> None:
    """An order is not asked about for as long as orders hardly ever settle at its age."""
    patch.setattr(learning, "LONGEST", 60.0)


def wall_clock_in_an_interval(patch: pytest.MonkeyPatch) -> None:
    """The schedule follows the wall clock."""
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def schedule(self: Timeline) -> float:
        return (self._clock.wall() - start).total_seconds()

    def stamp(self: Timeline) -> Stamp:
        return Stamp(self.run(), schedule(self), self._clock.wall())

    patch.setattr(Timeline, "schedule", schedule)
    patch.setattr(Timeline, "stamp", stamp)


PLANTS: dict[str, Plant] = {
    plant.__name__: plant
    for plant in (
        answered_before_it_is_on_disk,
        notice_outside_the_transaction,
        unknown_taken_as_failed,
        lease_never_given_back,
        learned_without_a_bound,
        wall_clock_in_an_interval,
    )
}
