"""The daemon's promises, held against what the witnesses saw."""

from __future__ import annotations

import signal
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.chaos.evidence import FINAL, Evidence, Told
from tests.chaos.lives import Life
from tests.chaos.queries import Rate, at_once, rate


@dataclass(frozen=True, slots=True)
class Verdict:
    """`broken` has an entry for each thing that must not happen, with what was found of it.

    Lateness is in seconds from the platform's word and the order's acknowledgement to the receiver's 2xx:
    `late_in_all`, and `late_after_recovery` not counting from before the last fault was over.
    """

    broken: dict[str, list[str]]
    rate: Rate
    duplicates: int
    late_in_all: float
    late_after_recovery: float

    @property
    def ok(self) -> bool:
        return not any(self.broken.values())


def judge(evidence: Evidence) -> Verdict:
    """Judge a run that was given the time to finish."""
    asked = list(evidence.asked)
    speed = rate(asked, evidence.cuts, evidence.blocked)
    broken = {name: sorted(find(evidence)) for name, find in _PROMISES.items()}
    broken["queries above the rate"] = _too_fast(evidence, speed)
    broken["two queries at once for an order"] = at_once(asked, evidence.lives, evidence.cuts)
    return Verdict(
        broken=broken,
        rate=speed,
        duplicates=sum(max(told.receipts - 1, 0) for told in evidence.told),
        late_in_all=max(_lateness(evidence, ()), default=0.0),
        late_after_recovery=max(_lateness(evidence, _recoveries(evidence)), default=0.0),
    )


def _too_fast(evidence: Evidence, speed: Rate) -> list[str]:
    if speed.sure <= evidence.rate:
        return []
    life = sum(life.begun <= speed.sure_at for life in evidence.lives)
    over = [speed.sure_at - cut.end for cut in evidence.cuts if cut.end <= speed.sure_at]
    when = f"in life {life}" + (f", {over[-1]:.1f} s after a network cut" if over else "")
    return [f"{speed.sure} queries in one second, {evidence.rate} allowed: {when}"]


def _lost(evidence: Evidence) -> Iterable[str]:
    for number, handed in evidence.handed.items():
        if handed.acknowledged is not None and number not in evidence.states:
            yield f"{number}: acknowledged and gone"


def _refused(evidence: Evidence) -> Iterable[str]:
    for number, handed in evidence.handed.items():
        if handed.refused is not None:
            yield f"{number}: refused with {handed.refused}"
        elif handed.acknowledged is None:
            yield f"{number}: not acknowledged after {handed.tries} tries"


def _contradictory(evidence: Evidence) -> Iterable[str]:
    ends: dict[str, set[str]] = defaultdict(set)
    for told in evidence.told:
        if told.type in FINAL:
            ends[told.number].add(told.type)
    for number, state in evidence.states.items():
        if number not in evidence.handed:
            yield f"{number}: nobody handed it in"
        if state != "pending" and not _may_be(evidence, number, state):
            yield f"{number}: {state}; {_word(evidence, number)}"
        if others := ends[number] - {f"payment.{state}"}:
            yield f"{number}: is {state}, and was told as {', '.join(sorted(others))}"


def _may_be(evidence: Evidence, number: str, state: str) -> bool:
    """The platform has said it; and where it said two things in turn, either was its word."""
    spoken = evidence.spoken.get(number, frozenset())
    return state in spoken and (state == evidence.expected.get(number) or len(spoken) > 1)


def _word(evidence: Evidence, number: str) -> str:
    spoken = ", ".join(sorted(evidence.spoken.get(number, ()))) or "nothing"
    return f"the platform said {spoken} and meant {evidence.expected.get(number)}"


def _pending(evidence: Evidence) -> Iterable[str]:
    for number, state in evidence.states.items():
        if state == "pending":
            yield f"{number}: still pending; {_word(evidence, number)}"


def _missing(evidence: Evidence) -> Iterable[str]:
    received: dict[str, set[str]] = defaultdict(set)
    for told in evidence.told:
        if told.received_at is not None:
            received[told.number].add(told.type)
    for number, state in evidence.states.items():
        if state != "pending" and f"payment.{state}" not in received[number]:
            yield f"{number}: payment.{state} was never received"
    for told in evidence.told:
        if told.late and "payment.undecided" not in received[told.number]:
            yield f"{told.number}: {told.type} says late, and payment.undecided was never received"


def _doubled(evidence: Evidence) -> Iterable[str]:
    ids: dict[tuple[str, str], list[str]] = defaultdict(list)
    for told in evidence.told:
        ids[told.number, told.type].append(told.id)
    for (number, kind), of_one in ids.items():
        if len(of_one) > 1:
            yield f"{number}: {kind} under {len(of_one)} ids: {', '.join(of_one)}"


def _changed(evidence: Evidence) -> Iterable[str]:
    return (f"{told.number}: another body under {told.id}" for told in evidence.told if told.changed)


def _unfaithful(evidence: Evidence) -> Iterable[str]:
    for told in evidence.told:
        if not told.faithful:
            yield f"{told.number}: {told.type} under {told.id} is not about the order as it was handed in"
    if evidence.forged:
        yield f"{evidence.forged} tries were not well signed"


def _out_of_order(evidence: Evidence) -> Iterable[str]:
    """`payment.undecided` is received before the end is told."""
    ends: dict[str, Told] = {told.number: told for told in evidence.told if told.type in FINAL}
    for told in evidence.told:
        end = ends.get(told.number)
        if told.type == "payment.undecided" and end and (told.received_at or end.first_at) > end.first_at:
            yield f"{told.number}: {end.type} was sent before payment.undecided had been received"


def _unlogged(evidence: Evidence) -> Iterable[str]:
    if evidence.logged is not None:
        for told in evidence.told:
            if told.id not in evidence.logged:
                yield f"{told.number}: {told.type} under {told.id} was sent and is not in the log"


def _fallen(evidence: Evidence) -> Iterable[str]:
    for count, life in enumerate(evidence.lives, start=1):
        trouble = _trouble(evidence, life)
        if trouble:
            yield f"life {count}: {trouble}; stderr: {life.stderr[-600:].strip() or 'empty'}"


def _trouble(evidence: Evidence, life: Life) -> str | None:
    if "Traceback" in life.stderr or "crashed" in life.stderr:
        return f"crashed, exit code {life.code}"
    if life.hung:
        return "did not end after SIGTERM"
    if life.by_itself and not (life.code == 1 and _disk_was_full(evidence, life)):
        return f"ended by itself with exit code {life.code}"
    if life.got(signal.SIGKILL) or not life.got(signal.SIGTERM):
        return None
    allowed = {0} | ({-signal.SIGTERM} if life.ready is None else set())
    if life.got(signal.SIGTERM) > 1:  # by its own hand or, once it had drained and let go of signals, the kernel's
        allowed |= {128 + signal.SIGTERM, -signal.SIGTERM}
    return None if life.code in allowed else f"exit code {life.code} after SIGTERM"


def _disk_was_full(evidence: Evidence, life: Life) -> bool:
    """A start on a full disk may be refused: one clear line, exit code 1."""
    return any(span.meets(life.begun, life.ended or life.begun) for span in evidence.full)


_PROMISES: dict[str, Callable[[Evidence], Iterable[str]]] = {
    "acknowledged orders lost": _lost,
    "orders refused or never acknowledged": _refused,
    "contradictory outcomes": _contradictory,
    "pending that should be final": _pending,
    "notices missing": _missing,
    "notices under two ids": _doubled,
    "bodies changed under one id": _changed,
    "notices unsigned or of another order": _unfaithful,
    "notices out of order": _out_of_order,
    "notices not in the log": _unlogged,
    "crashes and wrong exits": _fallen,
}


def _recoveries(evidence: Evidence) -> list[float]:
    """When something was over: a start, a stop, a cut, a full disk."""
    awake = [at for life in evidence.lives for at, got in life.acts if got is signal.SIGCONT]
    ready = [life.ready for life in evidence.lives if life.ready is not None]
    return sorted([*awake, *ready, *(span.end for span in (*evidence.cuts, *evidence.full))])


def _lateness(evidence: Evidence, recoveries: Iterable[float]) -> Iterable[float]:
    moments = list(recoveries)
    for told in evidence.told:
        settled, handed = evidence.settled.get(told.number), evidence.handed.get(told.number)
        if told.type not in FINAL or None in (told.received_at, settled) or handed is None:
            continue
        at = told.received_at or 0.0
        place = bisect_right(moments, at)
        known = [settled or 0.0, handed.acknowledged or 0.0, *moments[max(place - 1, 0) : place]]
        yield at - max(known)
