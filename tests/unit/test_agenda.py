"""Who goes next, against a naive model that looks at everything each time."""

import random
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from poller.core.agenda import FAIR_SHARE, SLACK, Agenda

numbers = st.integers(0, 12)
moments = st.integers(0, 60).map(float)
HEAPS = ("_later", "_longest", "_freshest")


@dataclass(frozen=True)
class Item:
    number: int
    due: float
    freshness: float


class AgainstTheModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.agenda: Agenda[Item] = Agenda()
        self.model: dict[int, Item] = {}
        self.now = 0.0
        self.turns = 0

    def due(self) -> list[Item]:
        return [item for item in self.model.values() if item.due <= self.now]

    @rule(number=numbers, due=moments, freshness=moments)
    def put(self, number: int, due: float, freshness: float) -> None:
        item = Item(number, due, freshness)
        self.agenda.put(number, due, freshness, item)
        self.model[number] = item

    @rule(number=numbers)
    def remove(self, number: int) -> None:
        assert self.agenda.remove(number) == self.model.pop(number, None)

    @rule(seconds=st.integers(0, 20))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def pop(self) -> None:
        due = self.due()
        item = self.agenda.pop(self.now)
        if not due:
            assert item is None
            return
        self.turns += 1
        assert item in due
        if self.turns % FAIR_SHARE == 0:
            assert item.due == min(other.due for other in due)
        else:
            assert item.freshness == max(other.freshness for other in due)
        del self.model[item.number]

    @rule()
    def pop_the_earliest(self) -> None:
        item = self.agenda.pop_earliest()
        if not self.model:
            assert item is None
            return
        assert item is not None
        assert item == self.model[item.number]
        assert item.due == min(other.due for other in self.model.values())
        del self.model[item.number]

    @precondition(lambda self: self.now > 0)
    @rule()
    def count_the_overdue(self) -> None:
        assert self.agenda.overdue(self.now) == len(self.due())

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        assert len(self.agenda) == len(self.model)
        assert all((number in self.agenda) is (number in self.model) for number in range(13))

    @invariant()
    def it_knows_the_earliest_and_the_freshest(self) -> None:
        items = self.model.values()
        assert self.agenda.next_due() == min((item.due for item in items), default=None)
        assert self.agenda.freshest() == max((item.freshness for item in items), default=None)


AgainstTheModel.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestAgainstTheModel = AgainstTheModel.TestCase


def filled(count: int) -> Agenda[int]:
    """All due at 0; the higher the number, the fresher and the shorter overdue."""
    agenda: Agenda[int] = Agenda()
    for number in range(count):
        agenda.put(number, number - count, number, number)
    return agenda


def test_an_empty_agenda_has_nothing_to_give() -> None:
    agenda: Agenda[int] = Agenda()
    assert (agenda.pop(1e9), agenda.pop_earliest(), agenda.next_due(), agenda.freshest()) == (None,) * 4
    assert agenda.overdue(1e9) == 0


def test_four_turns_go_to_the_freshest_and_the_fifth_to_the_longest_overdue() -> None:
    agenda = filled(20)
    assert [agenda.pop(0.0) for _ in range(10)] == [19, 18, 17, 16, 0, 15, 14, 13, 12, 1]


def test_nothing_is_given_before_its_time() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.put(1, 5.0, 0.0, "a")
    assert agenda.pop(4.999) is None
    assert agenda.pop(5.0) == "a"


def test_taking_the_earliest_before_its_time_makes_no_other_due() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.put(1, 100.0, 0.0, "a")
    agenda.put(2, 100.0, 0.0, "b")
    assert agenda.pop_earliest() == "a"
    assert agenda.pop(0.0) is None
    assert agenda.overdue(0.0) == 0


def test_an_item_entered_anew_has_its_new_freshness_even_with_the_same_due_time() -> None:
    agenda = filled(3)
    assert agenda.overdue(0.0) == 3
    agenda.put(2, -1.0, -5.0, 2)
    assert [agenda.pop(0.0) for _ in range(3)] == [1, 0, 2]


def test_none_starves_though_fresh_ones_come_faster_than_they_are_served() -> None:
    agenda = filled(10)
    for turn in range(10 * FAIR_SHARE):
        for new in range(2):
            agenda.put(1000 + 2 * turn + new, float(turn), 1000.0 + turn, -1)
        agenda.pop(float(turn))
    assert not any(number in agenda for number in range(10))


def test_memory_does_not_grow_over_a_long_life_behind_time() -> None:
    agenda = filled(50)
    dice = random.Random(7)
    for step in range(20_000):
        now = float(step)
        number = agenda.pop(now)
        assert number is not None
        agenda.put(number, now - dice.random() * 10, dice.random(), number)
        assert agenda.overdue(now) == 50
    assert max(len(getattr(agenda, heap)) for heap in HEAPS) <= 2 * 50 + SLACK + 1


def test_memory_does_not_grow_where_items_are_entered_anew_or_removed_before_their_time() -> None:
    agenda: Agenda[int] = Agenda()
    for step in range(20_000):
        agenda.put(step % 50, 1e9 + step, 0.0, 0)
        if step % 3 == 0:
            agenda.remove((step * 7) % 50)
    assert max(len(getattr(agenda, heap)) for heap in HEAPS) <= 2 * 50 + SLACK + 1
