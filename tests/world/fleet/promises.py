"""The promises of a fleet, held against the world's own record of one history and against the store."""

from __future__ import annotations

from itertools import combinations, pairwise

from poller.core.orders import OrderKey
from poller.ports.fleet import LEASE_S
from tests.world.fleet.history import FleetHistory
from tests.world.fleet.outside import Flight
from tests.world.promises import late, longest_gap, too_fast, wrong

TAKEOVER_S = LEASE_S  # from the last sign of life of the one that held it to the query of the next
QUEUE_S = 4.0  # for a place in the rate, beside what the orders before it take


def broken(history: FleetHistory) -> list[str]:
    """What the fleet promised and did not keep; empty where all is well."""
    return [
        *wrong(history),
        *too_fast(history),
        *late(history),
        *_stale(history),
        *_asked_unheld(history),
        *_two_at_once(history),
        *_left_alone(history),
        *_counted(history),
    ]


def _stale(history: FleetHistory) -> list[str]:
    """Each order was ended by a daemon in whose live session it was held."""
    lives = {process.name: process for process in history.lives()}
    faults = []
    for number, writer, holder, is_dead in history.ends:
        if is_dead or writer not in lives or holder not in lives[writer].sessions:
            held = (
                "held by nobody" if holder is None else "held by another" if not is_dead else "under a dead lease"
            )
            faults.append(f"{number}: ended by {writer} while {held}")
    return faults


def _asked_unheld(history: FleetHistory) -> list[str]:
    """A pending order is asked about by the daemon that holds it, in PostgreSQL's own words, and nobody else."""
    return [
        f"{flight.key.pay_partner}: asked by {flight.by.name} at {flight.sent:.3f} without holding it"
        for flight in history.flights
        if not flight.of_final and not flight.held
    ]


def _two_at_once(history: FleetHistory) -> list[str]:
    """One query at a time for a pending order, but for those in the air when something befell their daemon."""
    faults = []
    for key in history.plan.fates:
        flights = [flight for flight in history.flights if flight.key == key and not flight.of_final]
        for former, following in combinations(flights, 2):
            is_over = former.ended is not None and former.ended <= following.sent
            if not is_over and (former.by is following.by or not _was_struck(former, following.sent)):
                faults.append(f"{key.pay_partner}: two queries at once at {following.sent:.1f}")
    return faults


def _was_struck(flight: Flight, by: float) -> bool:
    return any(at <= by for at, _ in flight.by.struck)


def _left_alone(history: FleetHistory) -> list[str]:
    """Whatever befalls the others, one daemon that is well asks about each order within the lease and a bound."""
    if not history.fleet.steady or history.plan.outages:
        return []
    faults = []
    for key, fate in history.plan.fates.items():
        if fate.unclear or key not in history.record.acknowledged or history.record.reopened[key]:
            continue  # who answers nothing of use is asked more rarely
        times = [history.record.acknowledged[key], *_asked_at(history, key)]
        if history.final[key] == "pending":
            times.append(history.ended_at)
        for before, after in pairwise(times):
            allowed = longest_gap(history, max(before - times[0], 0.0) + history.slack) + _grace(history)
            if after - before > allowed:
                gap = f"{after - before:.1f} s from {before:.1f}"
                faults.append(f"{key.pay_partner}: not asked for {gap}, {allowed:.1f} allowed")
    return faults


def _asked_at(history: FleetHistory, key: OrderKey) -> list[float]:
    return [flight.sent for flight in history.flights if flight.key == key and not flight.of_final]


def _grace(history: FleetHistory) -> float:
    queue = len(history.plan.fates) * 1.1 / history.plan.rate + 2 * history.plan.latency + QUEUE_S
    return queue + (TAKEOVER_S if history.fleet.faults else 0.0)


def _counted(history: FleetHistory) -> list[str]:
    """The fleet's numbers are the truth, and whatever is held can be freed."""
    faults = [f"session {holder} is gone and holds something" for (holder,) in history.held_by_nobody]
    if history.counts != history.truth:
        faults.append(f"counted {history.counts} and not {history.truth}")
    return faults
