"""How the time of a lease is shared out between who holds and who waits for it to run out."""

from __future__ import annotations

from dataclasses import dataclass

from poller.ports.fleet import LEASE_S
from poller.stores.postgres.lines import IDLE_IN_TRANSACTION_S

# Of every daemon, whatever its lease: it bounds by how much their readings of the fleet's time differ, so that
# daemons of different leases are safe beside each other.
HEARTBEAT_S = 1.0
SLACK = 0.05  # of a lease: what a beat, a claim and two clocks' drift may take


@dataclass(frozen=True, slots=True)
class Terms:
    """`lease` is the most, in seconds, from a daemon's last sign of life to the others' queries."""

    lease: float = LEASE_S
    heartbeat: float = HEARTBEAT_S

    @property
    def expiry(self) -> float:
        """After so long a session has run out: the others may read the time a heartbeat behind its daemon's, and
        look a heartbeat later.
        """
        return self.lease * (1.0 - SLACK) - 2 * self.heartbeat

    @property
    def margin(self) -> float:
        """So long before that its daemon stops: the others may read the time a heartbeat ahead of it."""
        return self.heartbeat + SLACK * self.lease

    @property
    def patience(self) -> float:
        """The longest that a beat may take, and a transaction may stand still, with locks that are in the way."""
        return min(self.expiry / 2, IDLE_IN_TRANSACTION_S)

    @property
    def joining(self) -> float:
        """The longest that a stamp of a fleet that runs can be old."""
        return self.lease + 5.0
