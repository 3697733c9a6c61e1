"""The closed set of what a query to the platform can come back with, in the domain's words."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NamedTuple


class Reply(NamedTuple):
    """What a well-formed body said, for people and for the platform's support. Nothing here decides.

    `code` is always there; a field that the platform left out is None. Texts are capped by the adapter.
    """

    code: str
    message: str | None = None
    hint: str | None = None
    seqno: str | None = None
    status: str | None = None


class Payment(NamedTuple):
    """How a settled order was paid: the platform's serial and channel. None where it did not say."""

    serial: str | None = None
    origin: str | None = None
    origin_desc: str | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """The platform's own word: `status` 1 (paid) or -1 (not paid) in a reply that is believed."""

    paid: bool
    reply: Reply
    payment: Payment = Payment()


@dataclass(frozen=True, slots=True)
class InProgress:
    """`code` 1001 with `status` 0. Not an error: it uses up no error budget."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Rejected:
    """`code` 400: the platform will never know this order as it was asked for."""

    reply: Reply


class Cause(enum.StrEnum):
    """Why the platform as a whole could not be asked."""

    BUSY = "busy"  # 503 or 429, in the body or as the HTTP status; 502 and 504 of a gateway before it
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"  # no name, no route, refused, reset
    TLS = "tls"  # a certificate that is not believed: expired, another name, or our clock is wrong


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The platform as a whole did not serve the query. `retry_after` is its own wish, in seconds."""

    cause: Cause
    error: str
    reply: Reply | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Unclear:
    """Anything else: `code` 500 or unknown, 1001 without a usable `status`, or not a reply at all.

    `reply` is None where the body was not a well-formed reply.
    """

    error: str
    reply: Reply | None = None


Result = Settled | InProgress | Rejected | Unavailable | Unclear


def is_usable(result: Result) -> bool:
    """True where the platform itself spoke, whatever it said: it closes an outage and may precede `expired`."""
    match result:
        case Settled() | InProgress() | Rejected():
            return True
        case Unclear(reply=reply):
            return reply is not None
        case Unavailable():
            return False


def error_of(result: Result) -> str | None:
    """What went wrong, in words for the operator; None for a reply that says how the payment stands."""
    match result:
        case Unavailable(error=error) | Unclear(error=error):
            return error
        case Settled() | InProgress() | Rejected():
            return None
