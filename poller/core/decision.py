"""What a query's result means for its order: the one place where a reply becomes an outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from poller.core.cadence import BACKOFF_CAP_S, Cadence
from poller.core.learning import Plan
from poller.core.orders import State
from poller.core.replies import (
    InProgress,
    Payment,
    Rejected,
    Result,
    Settled,
    Unavailable,
    Unclear,
    is_usable,
)


@dataclass(frozen=True, slots=True)
class End:
    """The order is final."""

    state: State
    payment: Payment = Payment()


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Not known yet: ask again in `pause` seconds; `errors` is the order's new count of errors in a row."""

    pause: float
    errors: int


Decision = End | AskAgain


def decide(result: Result, *, age: float, errors: int, jitter: float, cadence: Cadence | Plan) -> Decision:
    """Decide on one result for a pending order.

    `age` is in seconds of the daemon's running time since the order was taken on; `errors` counts the
    answers in a row before this one that said nothing of the payment; `jitter` is in [0, 1).

    Only the platform's own `status` makes an order paid or failed, only its code 400 rejects one. An order
    past `give_up_after` expires, but only if the platform itself answered this last query: while it cannot
    be reached, giving up would be a guess.
    """
    match result:
        case Settled(paid=True, payment=payment):
            return End(State.PAID, payment)
        case Settled(payment=payment):
            return End(State.FAILED, payment)
        case Rejected():
            return End(State.REJECTED)
        case InProgress():
            pause, errors = cadence.gap(age, jitter), 0
        case Unavailable(retry_after=retry_after):
            errors += 1
            pause = max(cadence.backoff(errors, age, jitter), min(retry_after or 0.0, BACKOFF_CAP_S))
        case Unclear():
            errors += 1
            pause = cadence.backoff(errors, age, jitter)
        case _:
            assert_never(result)
    if age >= cadence.give_up_after:
        if is_usable(result):
            return End(State.EXPIRED)
        return AskAgain(pause, errors)
    return AskAgain(min(pause, max(cadence.give_up_after - age, 0.0)), errors)  # the last query is on time
