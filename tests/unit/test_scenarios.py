"""What orders do at the simulated platform, and how their numbers choose it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.simulator import (
    FORMS,
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
    choose,
    describe,
    draw,
    parse,
)
from poller.simulator.record import Life, Record
from poller.simulator.scenarios import HangsUp, Says, SendsGarbage, Word, settling, turn

SETTLED = st.sampled_from([Outcome.PAID, Outcome.FAILED])
SECONDS = st.integers(0, 999_999_999).map(lambda ms: ms / 1000)
UNTIL = st.builds(AfterSeconds, SECONDS) | st.builds(AfterQueries, st.integers(0, 999_999))
SCENARIOS: st.SearchStrategy[Scenario] = st.one_of(
    st.builds(Settles, UNTIL, SETTLED),
    st.builds(Rejects),
    st.builds(Faulty, st.sampled_from(Fault), UNTIL, SETTLED),
    st.builds(Garbles, UNTIL, st.none() | st.sampled_from(Garbage), SETTLED),
    st.builds(Slow, SECONDS, st.integers(0, 999_999), SETTLED),
    st.builds(Contradicts, UNTIL),
    st.builds(Pending),
)


@given(SCENARIOS, st.sampled_from(["", "-", "-0001", "-a-2s-x7"]))
def test_a_scenario_is_read_back_from_its_text_whatever_follows_it(scenario: Scenario, rest: str) -> None:
    assert parse(describe(scenario) + rest) == scenario


@pytest.mark.parametrize(
    ("number", "scenario"),
    [
        ("settle-3s-0001", Settles(AfterSeconds(3.0))),
        ("settle-0.25s", Settles(AfterSeconds(0.25))),
        ("fail-1s-x", Settles(AfterSeconds(1.0), Outcome.FAILED)),
        ("paid-after-2-queries-7", Settles(AfterQueries(2))),
        ("failed-after-0-queries", Settles(AfterQueries(0), Outcome.FAILED)),
        ("reject-1", Rejects()),
        ("error500-3-1", Faulty(Fault.ERROR500, AfterQueries(3))),
        ("busy503-2s-1", Faulty(Fault.BUSY503, AfterSeconds(2.0))),
        ("nostatus-2-failed-9", Faulty(Fault.NO_STATUS, AfterQueries(2), Outcome.FAILED)),
        ("hangup-2-17", Faulty(Fault.HANGS_UP, AfterQueries(2))),
        ("garbage-2-17", Garbles(AfterQueries(2))),
        ("garbage-html-1-paid", Garbles(AfterQueries(1), Garbage.HTML, Outcome.PAID)),
        ("slow-2s-00017", Slow(2.0, 2)),
        ("slow-2s-x5-1", Slow(2.0, 5)),
        ("contradict-1s-1", Contradicts(AfterSeconds(1.0))),
        ("pending-1", Pending()),
    ],
)
def test_an_order_number_names_its_scenario(number: str, scenario: Scenario) -> None:
    assert parse(number) == scenario


@pytest.mark.parametrize("number", ["111112", "", "rejected-1", "settle-", "settle-3.5-1", "settle3s", "x-reject"])
def test_an_order_number_that_only_resembles_one_names_none(number: str) -> None:
    assert parse(number) is None


@pytest.mark.parametrize("form", [form for form, _ in FORMS])
def test_every_form_that_is_shown_to_people_can_be_read(form: str) -> None:
    assert parse(form) is not None


@given(st.text(max_size=20), st.integers(0, 5))
def test_the_same_seed_and_number_give_the_same_scenario(number: str, seed: int) -> None:
    assert choose(number, seed=seed, mean_settle_s=5.0) == choose(number, seed=seed, mean_settle_s=5.0)


def test_the_mix_has_every_outcome_and_every_kind_that_ends_and_changes_with_the_seed() -> None:
    drawn = [draw(str(number), seed=1, mean_settle_s=5.0) for number in range(2000)]
    assert {type(scenario) for scenario in drawn} == {Settles, Rejects, Faulty, Garbles, Slow}
    endings = [settling(scenario) for scenario in drawn]
    counts = Counter(ending[1] for ending in endings if ending)
    assert counts.total() == len(drawn)
    assert counts[Outcome.PAID] > counts[Outcome.FAILED] > counts[Outcome.REJECTED] > 0
    assert drawn != [draw(str(number), seed=2, mean_settle_s=5.0) for number in range(2000)]


@given(SCENARIOS.filter(lambda scenario: not isinstance(scenario, Pending)), st.integers(0, 9))
def test_every_order_but_a_pending_one_tells_its_outcome_once_it_has_settled(
    scenario: Scenario, asked: int
) -> None:
    ending = settling(scenario)
    answer = turn(scenario, asked=asked, told=0, settled=True)
    assert ending is not None
    assert isinstance(answer, Says)
    assert answer.word.value == ending[1].value


@given(SCENARIOS, st.integers(0, 9))
def test_no_order_but_a_rejected_one_tells_an_outcome_before_it_settles(scenario: Scenario, asked: int) -> None:
    answer = turn(scenario, asked=asked, told=0, settled=False)
    final = isinstance(answer, Says) and answer.word in {Word.PAID, Word.FAILED, Word.REJECTED}
    assert final == isinstance(scenario, Rejects)


def test_a_faulty_order_shows_its_own_fault() -> None:
    two = AfterQueries(2)
    assert turn(Faulty(Fault.BUSY503, two), asked=0, told=0, settled=False) == Says(Word.BUSY503)
    assert turn(Faulty(Fault.HANGS_UP, two), asked=1, told=0, settled=False) == HangsUp()
    assert turn(Garbles(two, Garbage.CUT), asked=0, told=0, settled=False) == SendsGarbage(Garbage.CUT)


def test_a_slow_order_is_slow_for_so_many_queries_only() -> None:
    slow = Slow(2.0, 2)
    assert turn(slow, asked=1, told=0, settled=True) == Says(Word.PAID, 2.0)
    assert turn(slow, asked=2, told=1, settled=True) == Says(Word.PAID)


def test_a_contradicting_order_says_paid_once_and_failed_ever_after() -> None:
    contradicts = Contradicts(AfterSeconds(1.0))
    said = [turn(contradicts, asked=told, told=told, settled=True) for told in range(3)]
    assert said == [Says(Word.PAID), Says(Word.FAILED), Says(Word.FAILED)]


def ask(record: Record, life: Life, at: float) -> object:
    """One query of an order that is answered in a tenth of a second."""
    number = record.arrive(life, at)
    said = life.turn(at)
    record.end(number, said.word if isinstance(said, Says) else "other", at + 0.1)
    return said


def test_an_order_that_counts_queries_settles_when_the_last_one_before_that_has_ended() -> None:
    record, key = Record(), ("lot", "1")
    life = record.life(key)
    record.begin(life, Settles(AfterQueries(2)), 10.0)
    assert [ask(record, life, at) for at in (11.0, 12.0)] == [Says(Word.IN_PROGRESS)] * 2
    assert record.settled_at(key) == pytest.approx(12.1)
    assert ask(record, life, 15.0) == Says(Word.PAID)
    assert record.lateness(key, 15.1) == pytest.approx(3.0)


def test_an_order_begins_only_once() -> None:
    record, key = Record(), ("lot", "1")
    record.begin(record.life(key), Settles(AfterSeconds(3.0)), 10.0)
    record.begin(record.life(key), Rejects(), 11.0)
    assert record.settled_at(key) == 13.0
    assert record.scenario(key) == Settles(AfterSeconds(3.0))


@given(st.lists(st.integers(0, 300), max_size=60).map(sorted))
def test_the_busiest_window_is_counted_exactly(ticks: list[int]) -> None:
    record = Record()
    for tick in ticks:
        record.arrive(None, tick / 64)
    busiest = max((sum(start <= tick < start + 64 for tick in ticks) for start in ticks), default=0)
    assert record.max_queries_in_window(1.0) == busiest


def test_queries_in_the_air_are_counted_for_each_order_and_for_all() -> None:
    record = Record()
    one, other = record.life(("lot", "1")), record.life(("lot", "2"))
    first = record.arrive(one, 1.0)
    record.arrive(other, 1.1)
    record.end(first, "in-progress", 1.2)
    record.arrive(one, 1.3)
    assert (record.max_concurrent_for_one_order(), record.max_concurrent()) == (1, 2)
    record.arrive(one, 1.4)
    assert (record.max_concurrent_for_one_order(), record.max_concurrent()) == (2, 3)
    assert record.queries_by_order() == {("lot", "1"): 3, ("lot", "2"): 1}
