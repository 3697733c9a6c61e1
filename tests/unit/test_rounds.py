"""Whose turn it is among lots: a fair share for each, what is over for the others, and for one lot the agenda."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from poller.core.agenda import SLACK, Agenda
from poller.core.rounds import Rounds

LOTS = ("a", "b", "c")
numbers = st.integers(0, 12)
moments = st.integers(0, 60).map(float)


def lot_of(number: int) -> str:
    """Most are of one lot, so that others come late, or not at all."""
    return LOTS[max(number - 7, 0) % len(LOTS)]


@dataclass(frozen=True)
class Item:
    number: int
    due: float
    freshness: float

    @property
    def lot(self) -> str:
        return lot_of(self.number)


class AgainstTheModel(RuleBasedStateMachine):
    """Each lot beside an agenda of its own; none waits for more than two rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds: Rounds[Item] = Rounds()
        self.lots: dict[str, Agenda[Item]] = {lot: Agenda() for lot in LOTS}
        self.waited: Counter[str] = Counter()  # turns of others since it had something due without a break
        self.now = 0.0

    @rule(number=numbers, due=moments, freshness=moments)
    def put(self, number: int, due: float, freshness: float) -> None:
        item = Item(number, due, freshness)
        self.rounds.put(number, item.lot, due, freshness, item)
        self.lots[item.lot].put(number, due, freshness, item)

    @rule(number=numbers)
    def remove(self, number: int) -> None:
        lot = lot_of(number)
        assert self.rounds.remove(number, lot) == self.lots[lot].remove(number)

    @rule(seconds=st.integers(0, 20))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def pop(self) -> None:
        due = {lot for lot, agenda in self.lots.items() if agenda.overdue(self.now)}
        item = self.rounds.pop(self.now)
        if not due:
            assert item is None
            return
        assert item is not None
        assert item == self.lots[item.lot].pop(self.now)
        self.waited = Counter({lot: self.waited[lot] + 1 for lot in due - {item.lot}})
        assert all(turns < 2 * len(LOTS) for turns in self.waited.values())

    @rule()
    def pop_the_earliest(self) -> None:
        dues = [due for agenda in self.lots.values() if (due := agenda.next_due()) is not None]
        item = self.rounds.pop_earliest()
        if item is None:
            assert not dues
            return
        assert item.due == min(dues)
        self.lots[item.lot].remove(item.number)

    @precondition(lambda self: len(self.rounds) > 0)
    @rule()
    def nobody_is_asked_before_its_time(self) -> None:
        item = self.rounds.pop(self.now)
        if item is not None:
            assert item.due <= self.now
            self.rounds.give_back(item.lot)
            self.rounds.put(item.number, item.lot, item.due, item.freshness, item)
            self.lots[item.lot].pop(self.now)
            self.lots[item.lot].put(item.number, item.due, item.freshness, item)

    @invariant()
    def it_holds_what_the_lots_hold(self) -> None:
        assert len(self.rounds) == sum(map(len, self.lots.values()))
        assert {lot: self.rounds.of(lot) for lot in LOTS} == {
            lot: len(agenda) for lot, agenda in self.lots.items()
        }
        assert self.rounds.busy() == sum(len(agenda) > 0 for agenda in self.lots.values())

    @invariant()
    def it_knows_when_something_is_due(self) -> None:
        earliest = min(
            (due for agenda in self.lots.values() if (due := agenda.next_due()) is not None), default=None
        )
        told = self.rounds.next_due()
        assert told == earliest or (told is not None and told <= self.now)

    @invariant()
    def it_knows_the_freshest(self) -> None:
        all_of_them = [fresh for agenda in self.lots.values() if (fresh := agenda.freshest()) is not None]
        assert self.rounds.freshest() == max(all_of_them, default=None)


AgainstTheModel.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestAgainstTheModel = AgainstTheModel.TestCase


def served(rates: dict[str, float], capacity: int, seconds: int, backlog: int = 0) -> dict[str, float]:
    """How many turns a second each lot gets that has so many items falling due a second, and a backlog."""
    rounds: Rounds[str] = Rounds()
    numbers = iter(range(10**9))
    for lot in rates:
        for _ in range(backlog):
            number = next(numbers)
            rounds.put(number, lot, 0.0, -number, lot)
    turns: Counter[str] = Counter()
    owed = dict.fromkeys(rates, 0.0)
    for step in range(seconds * capacity):
        now = step / capacity
        for lot, rate in rates.items():
            owed[lot] += rate / capacity
            while owed[lot] >= 1.0:
                owed[lot] -= 1.0
                rounds.put(next(numbers), lot, now, now, lot)
        taken = rounds.pop(now)
        if taken is not None:
            turns[taken] += 1
    return {lot: turns[lot] / seconds for lot in rates}


def test_those_who_need_less_than_their_share_have_all_they_need_and_the_rest_share_equally() -> None:
    shares = served({"flood": 500.0, "surge": 90.0, "some": 8.0, "little": 1.0}, capacity=100, seconds=60)
    assert abs(shares["little"] - 1.0) < 0.05
    assert abs(shares["some"] - 8.0) < 0.2
    assert abs(shares["flood"] - 45.5) < 1.0
    assert abs(shares["surge"] - 45.5) < 1.0


def test_a_lone_lot_has_all() -> None:
    assert served({"busy": 500.0, "idle": 0.0}, capacity=100, seconds=10) == {"busy": 100.0, "idle": 0.0}


def test_who_was_idle_is_next_and_has_saved_no_turns_up() -> None:
    rounds: Rounds[str] = Rounds()
    for number in range(100):
        rounds.put(number, "a", 0.0, 0.0, "a")
        rounds.put(100 + number, "b", 0.0, 0.0, "b")
    for _ in range(50):
        rounds.pop(1.0)
    for number in range(10):
        rounds.put(200 + number, "idle", 1.0, 0.0, "idle")
    turns = [rounds.pop(1.0) for _ in range(9)]
    assert turns[0] == "idle" or turns[1] == "idle"
    assert Counter(turns) == {"a": 3, "b": 3, "idle": 3}


def test_for_one_lot_the_order_is_the_agendas() -> None:
    dice = random.Random(3)
    rounds: Rounds[int] = Rounds()
    agenda: Agenda[int] = Agenda()
    for number in range(3000):
        due, freshness = dice.random() * 100, dice.random() * 100
        rounds.put(number, "lot", due, freshness, number)
        agenda.put(number, due, freshness, number)
    for step in range(6000):
        now = step / 50
        assert rounds.next_due() == agenda.next_due()
        taken = rounds.pop(now)
        assert taken == agenda.pop(now)
        if taken is not None and dice.random() < 0.5:
            due = now + dice.random() * 10
            rounds.put(taken, "lot", due, float(taken), taken)
            agenda.put(taken, due, float(taken), taken)


def test_memory_does_not_grow_where_lots_have_something_due_and_then_nothing() -> None:
    rounds: Rounds[int] = Rounds()
    for step in range(20_000):
        lot = step % 7
        rounds.put(lot, str(lot), 1e9 - step if step % 3 else 0.0, 0.0, lot)
        if step % 5 == 0:
            taken = rounds.pop(float(step))
            if taken is not None and step % 2:
                rounds.remove(taken, str(taken))
        rounds.remove((step * 3) % 7, str((step * 3) % 7))
    assert max(len(heap) for heap in (rounds._later, rounds._ready)) <= 2 * 7 + SLACK + 1
