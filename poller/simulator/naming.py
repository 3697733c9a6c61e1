"""Which scenario an order gets: its own number says so.

A `pay_partner` that begins with a scenario's text form gets that scenario (`settle-3s-0001`,
`garbage-2-failed-x`); anything else draws from a realistic mix, the same for the same seed and number.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Final, assert_never

from poller.simulator.scenarios import (
    ROTATION,
    AfterQueries,
    AfterSeconds,
    Contradicts,
    Fault,
    Faulty,
    Garbage,
    Garbles,
    Outcome,
    Pending,
    Rejects,
    Scenario,
    Settles,
    Slow,
    Until,
)

FORMS: Final = (
    ("settle-3s", "paid 3 s after it began"),
    ("fail-1s", "failed 1 s after it began"),
    ("paid-after-2-queries", "in progress for 2 queries, then paid; also failed-after-2-queries"),
    ("reject", "code 400"),
    ("error500-3", "code 500 for 3 queries (error500-3s: for 3 s), then paid"),
    ("busy503-2s", "code 503 for 2 s (busy503-2: for 2 queries), then paid"),
    ("nostatus-2", "code 1001 without a status for 2 queries, then paid"),
    ("hangup-2", "the connection closed without a reply, 2 times, then paid"),
    (
        "garbage-2",
        "2 replies that must not be believed though most say paid, then failed; garbage-html-2: of a kind",
    ),
    ("slow-2s", "2 replies (slow-2s-x5: 5) that take 2 s each; paid 2 s after it began"),
    ("contradict-1s", "paid after 1 s to the first who asks, failed ever after"),
    ("pending", "in progress for ever"),
)
"""The text forms with what each does. The faulty and the slow ones take `-paid` or `-failed` after them."""

_HOW: Final = {"settle": Outcome.PAID, "fail": Outcome.FAILED}
_UNTIL = r"(?P<amount>\d{1,6}(?:\.\d{1,3}(?=s))?)(?P<unit>s?)"
_OUTCOME = r"(?:-(?P<outcome>paid|failed))?"
_PATTERNS: Final[tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Scenario]], ...]] = tuple(
    (re.compile(pattern + r"(?=-|$)"), make)
    for pattern, make in (
        (rf"(?P<how>settle|fail)-{_UNTIL}", lambda m: Settles(_until(m), _HOW[m["how"]])),
        (
            r"(?P<outcome>paid|failed)-after-(?P<queries>\d{1,6})-queries",
            lambda m: Settles(AfterQueries(int(m["queries"])), Outcome(m["outcome"])),
        ),
        (r"reject", lambda _: Rejects()),
        (
            rf"(?P<fault>{'|'.join(Fault)})-{_UNTIL}{_OUTCOME}",
            lambda m: Faulty(Fault(m["fault"]), _until(m), Outcome(m["outcome"] or "paid")),
        ),
        (
            rf"garbage-(?:(?P<kind>{'|'.join(Garbage)})-)?{_UNTIL}{_OUTCOME}",
            lambda m: Garbles(
                _until(m), Garbage(m["kind"]) if m["kind"] else None, Outcome(m["outcome"] or "failed")
            ),
        ),
        (
            rf"slow-(?P<reply>\d{{1,6}}(?:\.\d{{1,3}})?)s(?:-x(?P<queries>\d{{1,6}}))?{_OUTCOME}",
            lambda m: Slow(float(m["reply"]), int(m["queries"] or 2), Outcome(m["outcome"] or "paid")),
        ),
        (rf"contradict-{_UNTIL}", lambda m: Contradicts(_until(m))),
        (r"pending", lambda _: Pending()),
    )
)


def parse(text: str) -> Scenario | None:
    """The scenario whose text form `text` begins with, up to its end or a `-`; None where there is none."""
    for pattern, make in _PATTERNS:
        found = pattern.match(text)
        if found:
            return make(found)
    return None


def describe(scenario: Scenario) -> str:
    """The text form: `parse(describe(s)) == s` where seconds are whole milliseconds."""
    match scenario:
        case Settles(AfterQueries(queries), outcome):
            return f"{outcome}-after-{queries}-queries"
        case Settles(until, outcome):
            return f"{'settle' if outcome is Outcome.PAID else 'fail'}-{_amount(until)}"
        case Rejects():
            return "reject"
        case Faulty(fault, until, outcome):
            return f"{fault}-{_amount(until)}-{outcome}"
        case Garbles(until, kind, outcome):
            return f"garbage-{f'{kind}-' if kind else ''}{_amount(until)}-{outcome}"
        case Slow(reply_s, queries, outcome):
            return f"slow-{_seconds(reply_s)}s-x{queries}-{outcome}"
        case Contradicts(until):
            return f"contradict-{_amount(until)}"
        case Pending():
            return "pending"
        case _:
            assert_never(scenario)


def draw(pay_partner: str, *, seed: int, mean_settle_s: float) -> Scenario:
    """A scenario from a realistic mix, the same for the same seed and number; every one ends in an outcome."""
    rng = random.Random(f"{seed}:{pay_partner}")
    outcome = Outcome.FAILED if rng.random() < 0.1 else Outcome.PAID
    seconds = AfterSeconds(round(min(rng.expovariate(1.0 / mean_settle_s), 8 * mean_settle_s), 3))
    queries = AfterQueries(rng.randint(1, 3))
    roll = rng.random()
    if roll < 0.76:
        return Settles(seconds, outcome)
    if roll < 0.79:
        return Rejects()
    if roll < 0.94:
        return Faulty(rng.choice(tuple(Fault)), queries, outcome)
    if roll < 0.97:
        return Garbles(queries, rng.choice(ROTATION), outcome)
    return Slow(round(min(rng.uniform(0.1, 1.0) * mean_settle_s, 3.0), 3), 1, outcome)


def choose(pay_partner: str, *, seed: int, mean_settle_s: float) -> Scenario:
    """The scenario that the number names, else one drawn by seed."""
    return parse(pay_partner) or draw(pay_partner, seed=seed, mean_settle_s=mean_settle_s)


def _until(found: re.Match[str]) -> Until:
    return AfterSeconds(float(found["amount"])) if found["unit"] else AfterQueries(int(found["amount"]))


def _amount(until: Until) -> str:
    return f"{_seconds(until.seconds)}s" if isinstance(until, AfterSeconds) else str(until.queries)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
