"""How a lease's time is shared out: nobody sends when another may claim, and all is over within the lease."""

from __future__ import annotations

import pytest

from poller.ports.fleet import LEASE_S, LONGEST_LEASE_S, SHORTEST_LEASE_S
from poller.stores.postgres.terms import Terms

leases = pytest.mark.parametrize("lease", [SHORTEST_LEASE_S, LEASE_S, LONGEST_LEASE_S])


@leases
def test_the_others_have_claimed_within_the_lease_though_late_by_a_heartbeat_and_behind_by_one(
    lease: float,
) -> None:
    terms = Terms(lease)
    assert terms.expiry + 2 * terms.heartbeat < lease


@leases
def test_the_holder_stops_before_others_claim_whose_reading_of_the_time_is_a_heartbeat_ahead(lease: float) -> None:
    terms = Terms(lease)
    assert terms.expiry - terms.margin < terms.expiry - terms.heartbeat


@leases
def test_the_holder_may_miss_a_heartbeat(lease: float) -> None:
    terms = Terms(lease)
    assert terms.expiry - terms.margin > 2 * terms.heartbeat


@leases
def test_locks_of_one_who_is_stopped_are_gone_before_its_session_is_over(lease: float) -> None:
    terms = Terms(lease)
    assert terms.patience + terms.heartbeat < terms.expiry
