"""What an order does at the simulated platform: pure. A faulty phase always ends in an outcome."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, assert_never


class Outcome(enum.StrEnum):
    PAID = "paid"
    FAILED = "failed"
    REJECTED = "rejected"


class Word(enum.StrEnum):
    """What a well-formed reply says."""

    IN_PROGRESS = "in-progress"
    PAID = "paid"
    FAILED = "failed"
    REJECTED = "rejected"
    ERROR500 = "error500"
    BUSY503 = "busy503"
    NO_STATUS = "nostatus"


class Garbage(enum.StrEnum):
    """Replies that must not be believed. All but `html`, `empty` and `status2` say paid to a careless reader."""

    HTML = "html"
    CUT = "cut"  # JSON that ends too early
    UTF8 = "utf8"  # not valid UTF-8
    ARRAY = "array"
    DUPLICATE = "duplicate"  # the key `status` twice
    STATUS2 = "status2"
    TRUE = "true"  # `status` is the JSON true
    REDIRECT = "redirect"  # HTTP 302 to a page that says paid
    HTTP500 = "http500"  # a paid body with HTTP status 500
    EMPTY = "empty"
    SHORT = "short"  # the connection closes before the announced length has come
    HUGE = "huge"  # 2 MiB; only by name
    DRIP = "drip"  # bytes that never stop coming; only by name


ROTATION: Final = tuple(kind for kind in Garbage if kind not in {Garbage.HUGE, Garbage.DRIP})


@dataclass(frozen=True, slots=True)
class AfterSeconds:
    """That long after the order began."""

    seconds: float


@dataclass(frozen=True, slots=True)
class AfterQueries:
    """When that many queries have been answered."""

    queries: int


Until = AfterSeconds | AfterQueries


@dataclass(frozen=True, slots=True)
class Settles:
    until: Until
    outcome: Outcome = Outcome.PAID


@dataclass(frozen=True, slots=True)
class Rejects:
    pass


class Fault(enum.StrEnum):
    ERROR500 = "error500"
    BUSY503 = "busy503"
    NO_STATUS = "nostatus"
    HANGS_UP = "hangup"


@dataclass(frozen=True, slots=True)
class Faulty:
    """A fault at every query until the order settles."""

    fault: Fault
    until: Until
    outcome: Outcome = Outcome.PAID


@dataclass(frozen=True, slots=True)
class Garbles:
    """Garbage until the order settles; every kind in turn where `kind` is None.

    It ends as failed unless told otherwise, so that believing the garbage shows in the outcome.
    """

    until: Until
    kind: Garbage | None = None
    outcome: Outcome = Outcome.FAILED


@dataclass(frozen=True, slots=True)
class Slow:
    """The first `queries` replies take `reply_s` each; the order settles `reply_s` after it began."""

    reply_s: float
    queries: int = 2
    outcome: Outcome = Outcome.PAID


@dataclass(frozen=True, slots=True)
class Contradicts:
    """Paid, said once; then failed, which must change nothing."""

    until: Until


@dataclass(frozen=True, slots=True)
class Pending:
    pass


Scenario = Settles | Rejects | Faulty | Garbles | Slow | Contradicts | Pending


@dataclass(frozen=True, slots=True)
class Says:
    word: Word
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class HangsUp:
    pass


@dataclass(frozen=True, slots=True)
class SendsGarbage:
    kind: Garbage | None  # None: whichever is next


Turn = Says | HangsUp | SendsGarbage


def settling(scenario: Scenario) -> tuple[Until, Outcome] | None:
    """When the order settles, and as what; None for one that never does."""
    match scenario:
        case Settles(until, outcome) | Faulty(_, until, outcome) | Garbles(until, _, outcome):
            return until, outcome
        case Slow(reply_s, _, outcome):
            return AfterSeconds(reply_s), outcome
        case Contradicts(until):
            return until, Outcome.PAID
        case Rejects():
            return AfterSeconds(0.0), Outcome.REJECTED
        case Pending():
            return None
        case _:
            assert_never(scenario)


def turn(scenario: Scenario, *, asked: int, told: int, settled: bool) -> Turn:
    """What the platform does at one query.

    `asked` counts the order's queries before this one, `told` those of them that were answered with its
    outcome; `settled` says whether the moment that `settling` names has come.
    """
    match scenario:
        case Rejects():
            return Says(Word.REJECTED)
        case Pending():
            return Says(Word.IN_PROGRESS)
        case Slow(reply_s, queries, outcome):
            return Says(Word(outcome) if settled else Word.IN_PROGRESS, reply_s if asked < queries else 0.0)
        case Contradicts() if settled:
            return Says(Word.FAILED if told else Word.PAID)
        case Settles() | Contradicts() if not settled:
            return Says(Word.IN_PROGRESS)
        case Faulty(fault) if not settled:
            return HangsUp() if fault is Fault.HANGS_UP else Says(Word(fault))
        case Garbles(_, kind) if not settled:
            return SendsGarbage(kind)
        case Settles(_, outcome) | Faulty(_, _, outcome) | Garbles(_, _, outcome):
            return Says(Word(outcome))
        case _:
            raise AssertionError(f"no turn for {scenario!r}")
