"""What a run does, all of it drawn from one seed: how many daemons, orders and queries, and which faults."""

from __future__ import annotations

import enum
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from poller.simulator import AfterSeconds, Garbles, Scenario, Settles
from poller.simulator.scenarios import Outcome

LEASE_S = 15.0  # a daemon's, where its configuration says nothing else
DEMAND = 0.75  # of the rate, asked for while everything is in flight


class Fault(enum.StrEnum):
    KILL = "kill"  # SIGKILL of a daemon
    STOP = "stop"  # SIGSTOP of another one, and SIGCONT once its lease has run out
    FAILOVER = "failover"  # SIGKILL of the primary, and the synchronous standby takes over


@dataclass(frozen=True, slots=True)
class Plan:
    """`orders` are in flight when the first fault comes; `trickle` more come in each second while faults last.

    `rate` is the fleet's, in queries per second, `lease` in seconds.
    """

    seed: int
    daemons: int = 5
    orders: int = 50_000
    rate: int = 1500
    faults: Sequence[Fault] = tuple(Fault)
    lease: float = LEASE_S
    trickle: float = 20.0

    @property
    def interval(self) -> float:
        """Between two queries of an order: so long that the rate suffices for all of them."""
        return max(self.orders / (DEMAND * self.rate), 1.0)

    @property
    def stopped_for(self) -> float:
        """Longer than a lease, and until the others have surely seen that."""
        return 1.25 * self.lease + 1.0

    @property
    def settling(self) -> tuple[float, float]:
        """From when on, and until when, orders settle, in seconds from when all are in flight."""
        return self.interval / 2, self.stopped_for + self.lease / 4 + self.interval

    def scenario(self, number: str, delay: float) -> Scenario:
        """What an order does that settles `delay` seconds from now: a few talk nonsense until then."""
        draw = _draw(self.seed, number, "outcome")
        if draw < 0.02:
            return Garbles(AfterSeconds(delay))
        return Settles(AfterSeconds(delay), Outcome.PAID if draw < 0.7 else Outcome.FAILED)

    def settles_after(self, number: str) -> float:
        """Seconds from when all are in flight until it settles."""
        first, last = self.settling
        return first + (last - first) * _draw(self.seed, number, "time")

    def rng(self, of: str) -> random.Random:
        """Chance of its own for each part of a run."""
        return random.Random(f"{self.seed}:{of}")


def _draw(seed: int, number: str, what: str) -> float:
    """Evenly between 0 and 1, the same for the same words."""
    return zlib.crc32(f"{seed}:{number}:{what}".encode()) / 2**32
