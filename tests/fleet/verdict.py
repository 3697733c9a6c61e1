"""The fleet's promises, held against what the witnesses saw."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from poller.simulator import Query
from poller.simulator.record import Key
from tests.chaos import verdict as one_daemon
from tests.chaos.evidence import Evidence
from tests.chaos.faults import BEAT_S
from tests.chaos.queries import Rate, rate
from tests.chaos.spans import Span
from tests.chaos.witness import Asked
from tests.fleet.audit import Audit

ELSEWHERE = frozenset({"queries above the rate", "two queries at once for an order"})  # judged here, for many


@dataclass(frozen=True, slots=True)
class Way:
    """Queries that a daemon had in the air or on their way when it was stopped, by their numbers.

    `span` is from the stop until it knew that its lease was lost; `ports` are its connections at the stop. What
    came by one of these within the span was sent by a program that could not know better. `after` are those that
    came once it went on.
    """

    span: Span
    ports: frozenset[int]
    goes_on: float
    in_air: set[int] = field(default_factory=set)
    on_way: set[int] = field(default_factory=set)
    after: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Seen:
    """What there is beside the evidence of `tests.chaos`, whose `asked` is left empty.

    `queries` are all, with the port that each came from; `unaware` are stopped daemons that never told that their
    lease was lost; `places` is how many queries one daemon has in the air at most.
    """

    evidence: Evidence
    queries: Sequence[Query]
    asked: Sequence[Asked]
    ports: Sequence[int]
    ways: Sequence[Way]
    unaware: Sequence[str]
    audit: Audit
    places: int
    in_flight: int
    in_flight_wanted: int
    moments: Sequence[tuple[float, str]] = ()  # what happened, and when


@dataclass(frozen=True, slots=True)
class Verdict:
    """`broken` has an entry for each thing that must not happen. Seconds and counts.

    `longest_pause` is without any query, `longest_silence` between two queries of one order.
    """

    broken: dict[str, list[str]]
    repeated: int
    rate: Rate
    in_air: int
    on_way: int
    on_way_after: int
    overlapping_of_these: int
    longest_pause: float
    longest_silence: float
    lateness: float

    @property
    def ok(self) -> bool:
        return not any(self.broken.values())


def judge(seen: Seen) -> Verdict:
    """Judge a run that was given the time to finish."""
    find_ways(seen)
    excused = {number for way in seen.ways for number in way.in_air | way.on_way}
    of_these, others = overlapping(seen.queries, excused)
    common = one_daemon.judge(seen.evidence)
    late = {number for way in seen.ways for number in way.on_way}
    blocked = until_caught_up(seen.evidence.blocked)
    speed = rate((one for number, one in enumerate(seen.asked) if number not in late), (), blocked)
    broken = {name: found for name, found in common.broken.items() if name not in ELSEWHERE}
    broken["stale writes"] = seen.audit.stale
    broken["stopped daemons that did not find their lease lost"] = list(seen.unaware)
    broken["queries of one order overlapping, others than those"] = others
    broken["more on their way than a daemon has places"] = [
        f"{len(way.in_air | way.on_way)}, and {seen.places} places"
        for way in seen.ways
        if len(way.in_air | way.on_way) > seen.places
    ]
    limit = seen.evidence.rate
    broken["seconds above the rate"] = (
        [f"{speed.sure} queries, {limit} allowed: {_when(seen, speed.sure_at)}"] if speed.sure > limit else []
    )
    broken["fewer orders in flight than planned"] = (
        [f"{seen.in_flight} of {seen.in_flight_wanted}"] if seen.in_flight < seen.in_flight_wanted else []
    )
    return Verdict(
        broken=broken,
        repeated=common.duplicates,
        rate=speed,
        in_air=sum(len(way.in_air) for way in seen.ways),
        on_way=sum(len(way.on_way) for way in seen.ways),
        on_way_after=sum(len(way.after) for way in seen.ways),
        overlapping_of_these=len(of_these),
        longest_pause=_longest_pause(seen.queries),
        longest_silence=_longest_silence(seen.queries),
        lateness=common.late_in_all,
    )


def find_ways(seen: Seen) -> None:
    """Fill in which queries each stopped daemon had in the air and on their way."""
    for number, (query, port) in enumerate(zip(seen.queries, seen.ports, strict=True)):
        for way in seen.ways:
            if port not in way.ports:
                continue
            if query.arrived < way.span.start < query.ended:
                way.in_air.add(number)
            elif query.arrived in way.span:
                way.on_way.add(number)
                if query.arrived >= way.goes_on:
                    way.after.add(number)


def until_caught_up(blocked: Iterable[Span]) -> list[Span]:
    """Spans in which the witness was late, those as one between which it had no beat in time.

    What came while it did not run is seen after that, as fast as it can, which makes it late again.
    """
    joined: list[Span] = []
    for span in blocked:
        if joined and span.start - joined[-1].end < BEAT_S:
            joined[-1] = Span(joined[-1].start, span.end)
        else:
            joined.append(span)
    return joined


def overlapping(queries: Iterable[Query], excused: Collection[int]) -> tuple[list[str], list[str]]:
    """Where an order was asked about with a query of it in the air: one of the two excused, and otherwise."""
    in_air: dict[Key, list[tuple[int, Query]]] = {}
    with_excused: list[str] = []
    others: list[str] = []
    for number, query in enumerate(queries):
        if query.key is None:
            continue
        former = [one for one in in_air.get(query.key, ()) if query.arrived < one[1].ended]
        for other, before in former:
            said = f"{query.key[1]}: a second query {query.arrived - before.arrived:.3f} s after the first"
            (with_excused if excused and {number, other} & set(excused) else others).append(said)
        in_air[query.key] = [*former, (number, query)]
    return with_excused, others


def _when(seen: Seen, at: float) -> str:
    """How long after what."""
    before = [(at - moment, what) for moment, what in seen.moments if moment <= at]
    if not before:
        return f"{at - seen.queries[0].arrived:.1f} s after the first query"
    return "{:.1f} s after {}".format(*before[-1])


def _longest_pause(queries: Sequence[Query]) -> float:
    """Seconds in which the platform was asked nothing."""
    return max(
        (later.arrived - earlier.arrived for earlier, later in pairwise(queries)),
        default=0.0,
    )


def _longest_silence(queries: Iterable[Query]) -> float:
    last: dict[Key | None, float] = {}
    longest = 0.0
    for query in queries:
        longest = max(longest, query.arrived - last.get(query.key, query.arrived))
        last[query.key] = query.arrived
    return longest
