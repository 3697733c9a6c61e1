"""What the store tells people of many orders at once. The docstrings are the contract, as in `poller.ports`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, NamedTuple, Protocol, TypeVar

from poller.core.orders import Order, State
from poller.ports.values import Delivery

COUNTED = 1000  # nothing is counted further than this
RECENT = 10_000  # of what has ended, no more than this is looked at

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Group(Generic[T]):
    """Some of a kind, and how many there are: `COUNTED` stands for that many or more."""

    shown: Sequence[T]
    count: int


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A notice that has not been received, and its order as it stands."""

    delivery: Delivery
    order: Order


@dataclass(frozen=True, slots=True)
class Overview:
    """What stands at one moment."""

    waiting: Group[Order]  # pending, and the gate has not been told that nothing is known
    undecided: Group[Order]  # pending, and it has been told
    conflicting: Group[Order]
    late: Group[Order]
    undelivered: Group[Undelivered]  # dead ones first
    results: Sequence[Order]


@dataclass(frozen=True, slots=True)
class Since:
    """From when on things are told of: running time in seconds, but `conflicts`, which is a wall time.

    `undelivered` is when a notice must have been made, at the latest, to be told of while it is pending.
    """

    late: float
    conflicts: datetime
    undelivered: float


class Ending(NamedTuple):
    """When an order became final, by the daemon's running time, and its id: the order of these is a total one."""

    run: float
    id: int


@dataclass(frozen=True, slots=True)
class Ended:
    """An order that is final; `seconds` is how long that took of the daemon's running time."""

    ending: Ending
    state: State
    at: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Settlement:
    """How long an order took to settle: past an age of `after` and by one of `by`, seconds of running time.

    `after` is the age at its last answer in progress, 0 where it had none; 0 <= after <= by.
    """

    park_uuid: str
    after: float
    by: float


class Records(Protocol):
    """Reads, each of bounded work however many orders there are. All raise StoreUnavailableError."""

    async def overview(self, since: Since, limit: int) -> Overview:
        """At most `limit` of each, newest first; of notices that are pending, the oldest."""

    async def ended(self, after: Ending, limit: int) -> list[Ended]:
        """At most `limit` orders that became final after `after`, oldest first."""

    async def settlements(self, limit: int) -> list[Settlement]:
        """Of each lot the last `limit` orders at most that are paid or failed, oldest first.

        They are looked for among the last `RECENT` orders that became final, and are those that still have their
        history. `by` is the running time from when the order was opened to when it became final; `after` is less
        than that by as much as the wall clock ran from its last answer in progress, and an order with which that
        does not go together, since somebody set the clock or the daemon was away, is left out.
        """
