"""Two promises judged by when queries came: the rate to the platform, and one query at a time for an order."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from poller.simulator import Query
from poller.simulator.record import Key
from tests.chaos.lives import Life
from tests.chaos.plan import QUERY_TIMEOUT_S
from tests.chaos.spans import Span
from tests.chaos.witness import Asked

YOUNGEST_S = 0.1  # a process asks nothing in this part of its life: what comes then was sent by the one before
GIVEN_UP_S = QUERY_TIMEOUT_S + 0.5  # the daemon waits no longer, whatever the simulator sees of the connection
RETRANSMISSION_S = 1.2  # after a cut as long as it lasted, and this: lost segments are on their way till then


@dataclass(frozen=True, slots=True)
class Rate:
    """The most queries in any one second, as they came: `away` from cuts and `around` them.

    A cut holds queries up, so that around it nobody knows when they were sent, unless they came by a connection
    that was made after it. `sure` is the most that were sent in one second beyond doubt, the witness's own delays
    aside; the last of them came `sure_at`.
    """

    away: int
    around: int
    sure: int
    sure_at: float


def blurred(cuts: Iterable[Span]) -> list[Span]:
    """When queries did not come as they were sent: while the network was cut, and as long again after it."""
    return [Span(cut.start, cut.end + (cut.end - cut.start) + RETRANSMISSION_S) for cut in cuts]


def rate(asked: Iterable[Asked], cuts: Sequence[Span], blocked: Sequence[Span]) -> Rate:
    """`asked` and `blocked` in the order of time. A query that came while the witness was blocked may have
    been sent when that began."""
    blurs = list(zip(blurred(cuts), cuts, strict=True))
    late = _Lateness(blocked)
    away: deque[float] = deque()
    around: deque[float] = deque()
    surely: deque[float] = deque()
    most_away = most_around = sure = 0
    sure_at = 0.0
    for query, heard_since in asked:
        at = query.arrived
        cuts_near = [cut for blur, cut in blurs if at in blur]
        if cuts_near:
            most_around = max(most_around, _within(around, at, at))
        else:
            most_away = max(most_away, _within(away, at, at))
        if any(heard_since <= cut.end for cut in cuts_near):
            continue
        if (count := _within(surely, at, late.earliest(at))) > sure:
            sure, sure_at = count, at
    return Rate(most_away, most_around, sure, sure_at)


def _within(window: deque[float], at: float, earliest: float) -> int:
    """How many queries, this one with them, were sent in the second that ends `at`."""
    while window and at - window[0] >= 1.0:
        window.popleft()
    window.append(earliest)
    return len(window)


class _Lateness:
    def __init__(self, blocked: Sequence[Span]) -> None:
        self._blocked = blocked
        self._starts = [span.start for span in blocked]

    def earliest(self, at: float) -> float:
        """When a query may have been sent that was seen `at`."""
        place = bisect_right(self._starts, at) - 1
        return self._starts[place] if place >= 0 and at in self._blocked[place] else at


def at_once(asked: Iterable[Asked], lives: Sequence[Life], cuts: Iterable[Span]) -> list[str]:
    """Where one life asked about an order while its query before that was in the air.

    A query ends with its answer, with the life that sent it, or when the daemon has waited long enough: what
    the simulator still holds open after that is a connection nobody is at the other end of. Around a cut, when
    a query was sent cannot be told.
    """
    blurs = blurred(cuts)
    begun = [life.begun + YOUNGEST_S for life in lives]
    in_air: dict[Key, list[tuple[int, Query]]] = defaultdict(list)
    faults = []
    for query, _ in asked:
        if query.key is None or any(query.arrived in blur for blur in blurs):
            continue
        life = bisect_right(begun, query.arrived)
        former = [
            (owner, other)
            for owner, other in in_air[query.key]
            if owner == life and query.arrived < min(other.ended, other.arrived + GIVEN_UP_S)
        ]
        if former:
            apart = query.arrived - former[0][1].arrived
            faults.append(f"{query.key[1]}: a second query {apart:.3f} s after the first, in life {life}")
        in_air[query.key] = [*former, (life, query)]
    return faults
