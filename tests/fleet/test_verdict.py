"""The verdict on a fleet: a run without a fault passes, and each broken promise is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from poller.simulator import Query
from tests.acceptance.processes import PARK
from tests.chaos.evidence import Evidence, Told
from tests.chaos.load import Handed
from tests.chaos.spans import Span
from tests.chaos.witness import Asked
from tests.fleet.audit import Audit
from tests.fleet.verdict import Seen, Way, judge


def query(number: str, arrived: float, ended: float) -> Query:
    return Query(arrived, ended, (PARK, number), "in-progress")


def told(event_id: str, number: str) -> Told:
    return Told(
        event_id, "payment.paid", number, late=False, faithful=True, first_at=9.0, received_at=9.1, receipts=1
    )


def sound() -> Seen:
    """A daemon with port 1 is stopped from 3 to 7 and knows it at 7.5; the other one has port 2."""
    return asked(
        Seen(
            evidence=Evidence(
                rate=3,
                handed={"a": Handed(0.0, 1, 1.0), "b": Handed(0.0, 1, 1.0)},
                states={"a": "paid", "b": "paid"},
                expected={"a": "paid", "b": "paid"},
                spoken={"a": frozenset({"paid"}), "b": frozenset({"paid"})},
                settled={"a": 2.0, "b": 2.0},
                told=[told("1", "a"), told("2", "b")],
                lives=[],
            ),
            queries=[],
            asked=[],
            ports=[],
            ways=[Way(Span(3.0, 7.5), frozenset({1}), goes_on=7.0)],
            unaware=[],
            audit=Audit(5, [], 1),
            places=2,
            in_flight=2,
            in_flight_wanted=2,
        ),
        (1, query("a", 2.0, 2.1)),
        (1, query("a", 2.9, 3.2)),
        (2, query("b", 4.0, 4.5)),
        (2, query("a", 6.9, 7.3)),
    )


def asked(seen: Seen, *queries: tuple[int, Query]) -> Seen:
    """The same with these queries, and the ports that they came from."""
    return replace(
        seen,
        queries=[one for _, one in queries],
        asked=[Asked(one, 0.0) for _, one in queries],
        ports=[port for port, _ in queries],
        ways=[Way(way.span, way.ports, way.goes_on) for way in seen.ways],
    )


def more(seen: Seen, *queries: tuple[int, Query]) -> Seen:
    return asked(seen, *zip(seen.ports, seen.queries, strict=True), *queries)


def broken_by(seen: Seen) -> set[str]:
    return {name for name, found in judge(seen).broken.items() if found}


def test_a_run_that_kept_every_promise_passes() -> None:
    verdict = judge(sound())
    assert {name: found for name, found in verdict.broken.items() if found} == {}
    assert verdict.ok
    assert (verdict.in_air, verdict.on_way, verdict.overlapping_of_these) == (1, 0, 0)
    assert verdict.longest_silence == pytest.approx(4.0)
    assert verdict.longest_pause == pytest.approx(2.9)


def test_a_query_that_was_on_its_way_at_the_stop_may_meet_the_others() -> None:
    verdict = judge(more(sound(), (1, query("a", 7.1, 7.2))))
    assert verdict.ok
    assert (verdict.on_way, verdict.on_way_after, verdict.overlapping_of_these) == (1, 1, 1)


def test_queries_on_their_way_at_the_stop_do_not_count_as_a_second_of_the_rate() -> None:
    burst = [(2, query(name, 7.1, 7.15)) for name in "cd"]
    assert judge(more(sound(), *burst, (1, query("e", 7.2, 7.3)))).ok
    verdict = judge(more(sound(), *burst, (2, query("e", 7.2, 7.3))))
    assert verdict.broken["seconds above the rate"]


def test_what_the_witness_saw_late_while_it_caught_up_is_not_held_against_the_daemons() -> None:
    late = [(2, query(name, 8.0 + number / 100, 8.5)) for number, name in enumerate("cdef")]
    seen = more(sound(), *late)
    assert judge(seen).broken["seconds above the rate"]

    def blocked(*spans: Span) -> Seen:
        return replace(seen, evidence=replace(seen.evidence, blocked=list(spans)))

    assert judge(blocked(Span(6.5, 7.99), Span(7.996, 8.1))).ok
    assert not judge(blocked(Span(7.9, 7.95), Span(7.996, 8.1))).ok


BREACHES: dict[str, tuple[str, Callable[[Seen], Seen]]] = {
    "an acknowledged order is gone": (
        "acknowledged orders lost",
        lambda seen: replace(seen, evidence=replace(seen.evidence, states={"a": "paid"})),
    ),
    "the platform never said so": (
        "contradictory outcomes",
        lambda seen: replace(seen, evidence=replace(seen.evidence, spoken={})),
    ),
    "an end has two ids": (
        "notices under two ids",
        lambda seen: replace(seen, evidence=replace(seen.evidence, told=[*seen.evidence.told, told("3", "a")])),
    ),
    "a stale write": ("stale writes", lambda seen: replace(seen, audit=Audit(5, ["one"], 1))),
    "a stopped daemon that notices nothing": (
        "stopped daemons that did not find their lease lost",
        lambda seen: replace(seen, unaware=["daemon-1"]),
    ),
    "another daemon asks about what is in the air": (
        "queries of one order overlapping, others than those",
        lambda seen: more(seen, (3, query("a", 7.2, 7.4))),
    ),
    "the stopped daemon asks on after it knew": (
        "queries of one order overlapping, others than those",
        lambda seen: more(seen, (2, query("b", 8.0, 9.0)), (1, query("b", 8.5, 8.6))),
    ),
    "more than it could have had on their way": (
        "more on their way than a daemon has places",
        lambda seen: more(seen, (1, query("c", 7.1, 7.2)), (1, query("d", 7.3, 7.4))),
    ),
    "fewer in flight than planned": (
        "fewer orders in flight than planned",
        lambda seen: replace(seen, in_flight=1),
    ),
}


@pytest.mark.parametrize(("promise", "breach"), BREACHES.values(), ids=BREACHES.keys())
def test_a_broken_promise_is_found(promise: str, breach: Callable[[Seen], Seen]) -> None:
    assert promise in broken_by(breach(sound()))
    assert not judge(breach(sound())).ok
