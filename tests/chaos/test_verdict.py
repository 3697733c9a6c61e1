"""The verdict itself: a run without a fault passes, and each broken promise is found."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace

import pytest

from poller.simulator import Query
from tests.acceptance.processes import PARK
from tests.chaos.evidence import Evidence, Told
from tests.chaos.lives import Life
from tests.chaos.load import Handed
from tests.chaos.plan import Kind, Plan, fates
from tests.chaos.spans import Span
from tests.chaos.verdict import judge
from tests.chaos.witness import Asked


def asked(number: str, arrived: float, ended: float, heard_since: float = 0.0) -> Asked:
    return Asked(Query(arrived, ended, (PARK, number), "in-progress"), heard_since)


def told(event_id: str, kind: str, number: str, at: float, *, late: bool = False) -> Told:
    return Told(event_id, kind, number, late, faithful=True, first_at=at, received_at=at + 0.1, receipts=1)


def life(begun: float, ended: float, *acts: signal.Signals, code: int = -9) -> Life:
    return Life(begun, begun + 0.5, ended, code, [(ended, act) for act in acts])


def sound() -> Evidence:
    """Two orders, two lives, one of them killed; the second order was told late."""
    return Evidence(
        rate=3,
        handed={"a": Handed(0.0, 1, 1.0), "b": Handed(0.0, 2, 1.0)},
        states={"a": "paid", "b": "failed"},
        expected={"a": "paid", "b": "failed"},
        spoken={"a": frozenset({"paid"}), "b": frozenset({"failed"})},
        settled={"a": 2.0, "b": 2.0},
        told=[
            told("1", "payment.paid", "a", 3.0),
            told("2", "payment.undecided", "b", 5.0),
            told("3", "payment.failed", "b", 14.0, late=True),
        ],
        lives=[life(0.0, 10.0, signal.SIGKILL), life(10.0, 20.0, signal.SIGTERM, code=0)],
        asked=[asked("a", 2.0, 2.1), asked("b", 2.0, 2.1), asked("b", 9.9, 15.0), asked("b", 10.4, 10.5)],
        logged=frozenset({"1", "2", "3"}),
    )


def test_a_run_that_kept_every_promise_passes() -> None:
    verdict = judge(sound())
    assert {name: found for name, found in verdict.broken.items() if found} == {}
    assert verdict.ok
    assert verdict.rate.sure == 2
    assert verdict.late_in_all == pytest.approx(12.1)
    assert verdict.late_after_recovery == pytest.approx(3.6)


def _second_outcome(run: Evidence) -> Evidence:
    return replace(run, told=[*run.told, told("4", "payment.failed", "a", 6.0)], logged=None)


def _received_by_nobody(run: Evidence) -> Evidence:
    return replace(run, told=[replace(run.told[0], received_at=None, receipts=0), *run.told[1:]])


def _undecided_after_the_end(run: Evidence) -> Evidence:
    return replace(run, told=[run.told[0], replace(run.told[1], received_at=14.5), run.told[2]])


def _second_id(run: Evidence) -> Evidence:
    return replace(run, told=[*run.told, told("4", "payment.paid", "a", 6.0)], logged=None)


BREACHES: dict[str, tuple[str, Callable[[Evidence], Evidence]]] = {
    "an acknowledged order is gone": (
        "acknowledged orders lost",
        lambda run: replace(run, states={"b": "failed"}),
    ),
    "the gate is refused": (
        "orders refused or never acknowledged",
        lambda run: replace(run, handed={**run.handed, "a": Handed(0.0, 1, refused="409")}),
    ),
    "the platform never said so": (
        "contradictory outcomes",
        lambda run: replace(run, spoken={**run.spoken, "a": frozenset()}),
    ),
    "an order ended as two things": ("contradictory outcomes", _second_outcome),
    "an order nobody handed in": (
        "contradictory outcomes",
        lambda run: replace(run, handed={"b": run.handed["b"]}),
    ),
    "an order is forgotten": (
        "pending that should be final",
        lambda run: replace(run, states={**run.states, "a": "pending"}),
    ),
    "an end is not received": ("notices missing", _received_by_nobody),
    "late, and nobody was told that it is undecided": (
        "notices missing",
        lambda run: replace(run, told=[run.told[0], run.told[2]]),
    ),
    "an end has two ids": ("notices under two ids", _second_id),
    "a body changes": (
        "bodies changed under one id",
        lambda run: replace(run, told=[replace(run.told[0], changed=True), *run.told[1:]]),
    ),
    "a body is of another order": (
        "notices unsigned or of another order",
        lambda run: replace(run, told=[replace(run.told[0], faithful=False), *run.told[1:]]),
    ),
    "a notice is not signed": ("notices unsigned or of another order", lambda run: replace(run, forged=1)),
    "undecided comes after the end": ("notices out of order", _undecided_after_the_end),
    "the log lacks a notice": ("notices not in the log", lambda run: replace(run, logged=frozenset({"1", "2"}))),
    "a life ends by itself": (
        "crashes and wrong exits",
        lambda run: replace(run, lives=[life(0.0, 10.0, code=1), *run.lives[1:]]),
    ),
    "a drain does not exit with 0": (
        "crashes and wrong exits",
        lambda run: replace(run, lives=[run.lives[0], life(10.0, 20.0, signal.SIGTERM, code=1)]),
    ),
    "a traceback is on stderr": (
        "crashes and wrong exits",
        lambda run: replace(run, lives=[replace(run.lives[0], stderr="Traceback (most …"), *run.lives[1:]]),
    ),
    "four queries in a second": (
        "queries above the rate",
        lambda run: replace(run, asked=[asked("a", 2.0 + part / 4, 2.1 + part / 4) for part in range(4)]),
    ),
    "two queries at once": (
        "two queries at once for an order",
        lambda run: replace(run, asked=[asked("a", 2.0, 4.0), asked("a", 3.0, 3.1)]),
    ),
}


@pytest.mark.parametrize(("promise", "breach"), BREACHES.values(), ids=BREACHES.keys())
def test_a_broken_promise_is_found(promise: str, breach: Callable[[Evidence], Evidence]) -> None:
    verdict = judge(breach(sound()))
    assert verdict.broken[promise]
    assert not verdict.ok


def test_a_start_that_a_full_disk_refused_is_no_crash() -> None:
    run = replace(sound(), lives=[life(0.0, 1.0, code=1), *sound().lives])
    assert not judge(run).ok
    assert judge(replace(run, full=[Span(0.5, 4.0)])).ok


def test_queries_that_a_cut_held_up_are_not_held_against_the_daemon() -> None:
    at_once = [asked("a", 8.1, 8.2), *(asked("b", 8.1, 8.2) for _ in range(3))]
    run = replace(sound(), asked=at_once)
    assert not judge(run).ok
    mended = judge(replace(run, cuts=[Span(5.0, 8.0)]))
    assert mended.ok
    assert mended.rate.around == 4


def test_queries_by_connections_made_after_a_cut_count() -> None:
    at_once = [asked("abcd"[count], 8.1, 8.2, heard_since=8.1) for count in range(4)]
    verdict = judge(replace(sound(), asked=at_once, cuts=[Span(5.0, 8.0)]))
    assert verdict.broken["queries above the rate"]


def test_queries_that_the_witness_was_late_to_see_get_the_benefit_of_the_doubt() -> None:
    run = replace(sound(), asked=[asked("a", at, at + 0.1) for at in (4.5, 4.65, 4.8, 5.4)])
    assert not judge(run).ok
    verdict = judge(replace(run, blocked=[Span(4.3, 4.6)]))
    assert verdict.ok
    assert verdict.rate.away == 4


def test_a_seed_draws_the_same_fates_and_as_many_kills_as_were_planned() -> None:
    plan = Plan(seed=7, count=50)
    drawn = list(fates(plan))
    assert drawn == list(fates(plan))
    assert sum(act.signal is signal.SIGKILL for fate in drawn for act in fate) == 50
    assert list(fates(replace(plan, kinds=frozenset({Kind.DISK})))) == []
