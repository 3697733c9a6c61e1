"""What a receiver's answer means for a notice: delivered, to be tried again, or dead."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import assert_never

FIRST_HOUR_S = 3600.0
FIRST_HOUR_CAP_S = 60.0
LATER_CAP_S = 600.0
JITTER = 0.1  # at most this part of a pause is taken off


class DeliveryState(enum.StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"
    LOGGED = "logged"  # no webhook was configured when the notice was made: the log was its receiver


@dataclass(frozen=True, slots=True)
class Received:
    """HTTP 2xx."""

    status: int


@dataclass(frozen=True, slots=True)
class Gone:
    """HTTP 410: the receiver wants no more of this notice."""

    status: int = 410


@dataclass(frozen=True, slots=True)
class NotReceived:
    """Any other status (a redirect included), or none; `retry_after` is the receiver's wish in seconds."""

    error: str
    status: int | None = None
    retry_after: float | None = None


ReceiverAnswer = Received | Gone | NotReceived


@dataclass(frozen=True, slots=True)
class Delivered:
    pass


@dataclass(frozen=True, slots=True)
class TryAgain:
    pause: float


@dataclass(frozen=True, slots=True)
class Dead:
    why: str


DeliveryDecision = Delivered | TryAgain | Dead


def decide_delivery(
    answer: ReceiverAnswer, *, attempts: int, age: float, jitter: float, give_up_after: float
) -> DeliveryDecision:
    """Decide on attempt number `attempts` (>= 1) of a notice that is `age` seconds of running time old.

    In the first hour after 1 s, doubling to 60 s; later every 10 minutes at most; `Retry-After` is honoured
    within those. `jitter` is in [0, 1) and only shortens.
    """
    match answer:
        case Received():
            return Delivered()
        case Gone():
            return Dead("the receiver answered 410: it wants this notice no more")
        case NotReceived(error=error, retry_after=retry_after):
            if age >= give_up_after:
                return Dead(f"not received in {give_up_after:.0f} s, last: {error}")
            cap = FIRST_HOUR_CAP_S if age < FIRST_HOUR_S else LATER_CAP_S
            pause = min(2.0 ** min(attempts - 1, 30), cap) * (1.0 - JITTER * jitter)
            return TryAgain(min(max(pause, retry_after or 0.0), cap))
        case _:
            assert_never(answer)
