"""Broken promises of a fleet planted by hand, to show that the world catches them."""

from __future__ import annotations

from typing import Any

import pytest

from poller.stores.postgres import session, transition
from poller.stores.postgres.fleet import Tally
from poller.stores.postgres.membership import Membership
from poller.stores.postgres.session import Session
from tests.world.adapters import Throttle
from tests.world.planted import Plant


def fence_left_out(patch: pytest.MonkeyPatch) -> None:
    """A transaction of a session that is dead is committed all the same."""
    fence = Session.fence

    async def careless(self: Session, connection: Any, number: int, tally: Tally | None = None) -> None:
        if await connection.fetchval("SELECT NOT dead FROM sessions WHERE id = $1", number):
            await fence(self, connection, number, tally)

    patch.setattr(Session, "fence", careless)


def lease_not_checked_before_a_send(patch: pytest.MonkeyPatch) -> None:
    """A daemon asks about what it held, however long it was out of touch."""
    patch.setattr(Membership, "holds", lambda _self: True)


def holds_of_the_dead_not_freed(patch: pytest.MonkeyPatch) -> None:
    """What a dead session held is held for ever."""
    patch.setattr(session, "FREE", ())


def ended_by_whoever_wants(patch: pytest.MonkeyPatch) -> None:
    """An outcome is written without a look at who holds the order, or whether the writer is dead."""
    fence_left_out(patch)
    patch.setattr(transition, "_fence", lambda _transaction, _loaded: None)


def numbers_of_the_dead_forgotten(patch: pytest.MonkeyPatch) -> None:
    """What a session that has ended had counted is counted no more."""
    patch.setattr(session, "_FOLD", session._FOLD.replace("f.pending + gone.pending", "f.pending"))


def a_rate_for_each_daemon(patch: pytest.MonkeyPatch) -> None:
    """Each daemon keeps the rate, and the fleet does not."""

    def throttle(_self: Membership, _account: str, rate: int) -> Throttle:
        return Throttle(rate)

    patch.setattr(Membership, "throttle", throttle)


FLEET_PLANTS: dict[str, Plant] = {
    plant.__name__: plant
    for plant in (
        fence_left_out,
        lease_not_checked_before_a_send,
        holds_of_the_dead_not_freed,
        ended_by_whoever_wants,
        numbers_of_the_dead_forgotten,
        a_rate_for_each_daemon,
    )
}
