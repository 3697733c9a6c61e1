"""What the simulated platform saw and said, and what should have come of it."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from poller.simulator.naming import describe
from poller.simulator.scenarios import AfterSeconds, Outcome, Scenario, Turn, settling, turn

Key = tuple[str, str]
"""`park_uuid`, `pay_partner`."""

GONE = "gone"  # the client went away before its answer was there
_FINAL = frozenset(Outcome)


class Query(NamedTuple):
    """One query; times are monotonic seconds, `ended` is when its answer went out or its connection ended.

    `key` is None where the query named no order. `answer` is a scenario's word (`paid`, `busy503`, …),
    `garbage-KIND`, `hangup`, `outage-KIND`, `bad-sign`, `unknown-park`, `missing-parameter`, `gone`, or None
    while the query is in the air.
    """

    arrived: float
    ended: float
    key: Key | None
    answer: str | None


@dataclass(slots=True)
class Life:
    """One order. `settles_at` is a monotonic time, None for one that never settles or whose time is not fixed yet.

    `scenario` is None until the order has begun: a query with a wrong sign begins none.
    """

    key: Key
    index: int
    scenario: Scenario | None = None
    began_at: float = 0.0
    settles_at: float | None = None
    outcome: Outcome | None = None
    asked: int = 0
    queries: int = 0
    in_air: int = 0
    spoken: Counter[Outcome] = field(default_factory=Counter)

    def turn(self, now: float) -> Turn:
        """What the platform does at the query that came at `now`; counts it."""
        if self.scenario is None:
            raise RuntimeError("the order has not begun")
        settled = self.settles_at is not None and self.settles_at <= now
        told = sum(self.spoken.values())
        self.asked += 1
        return turn(self.scenario, asked=self.asked - 1, told=told, settled=settled)

    def settle_by_queries(self, now: float) -> None:
        """Let an order settle whose last query before that has ended."""
        if self.settles_at is not None or self.scenario is None:
            return
        ending = settling(self.scenario)
        if ending and not isinstance(ending[0], AfterSeconds) and self.asked >= ending[0].queries:
            self.settles_at = now


class Record:
    """Kept by the platform as it goes; read by tests, the demo and people.

    A query takes some 21 bytes, so hundreds of thousands are no burden.
    """

    def __init__(self) -> None:
        self._arrived = array("d")
        self._ended = array("d")
        self._order = array("l")
        self._answer = array("B")
        self._answers: list[str | None] = [None]
        self._answer_numbers: dict[str, int] = {}
        self._lives: list[Life] = []
        self._by_key: dict[Key, Life] = {}
        self._in_air = 0
        self._most_in_air = 0
        self._most_for_one = 0
        self._grown = asyncio.Event()

    def life(self, key: Key) -> Life:
        """The order's record, made on first sight."""
        life = self._by_key.get(key)
        if life is None:
            life = self._by_key[key] = Life(key, len(self._lives))
            self._lives.append(life)
        return life

    def begin(self, life: Life, scenario: Scenario, now: float) -> None:
        """The order lives from `now` on, unless it does already."""
        if life.scenario is not None:
            return
        life.scenario, life.began_at = scenario, now
        ending = settling(scenario)
        if ending:
            until, life.outcome = ending
            if isinstance(until, AfterSeconds):
                life.settles_at = now + until.seconds
        life.settle_by_queries(now)

    def arrive(self, life: Life | None, now: float) -> int:
        """A query has come; the number returned is what `end` wants."""
        self._arrived.append(now)
        self._ended.append(float("nan"))
        self._order.append(life.index if life else -1)
        self._answer.append(0)
        self._in_air += 1
        self._most_in_air = max(self._most_in_air, self._in_air)
        if life:
            life.queries += 1
            life.in_air += 1
            self._most_for_one = max(self._most_for_one, life.in_air)
        self._grown.set()
        return len(self._arrived) - 1

    async def queried(self, count: int) -> None:
        """Wait until so many queries have come, answered or not."""
        while len(self) < count:
            self._grown.clear()
            await self._grown.wait()

    def end(self, number: int, answer: str, now: float) -> None:
        """The query has been answered, or its connection has ended."""
        self._ended[number] = now
        self._answer[number] = self._number_of(answer)
        self._in_air -= 1
        if self._order[number] < 0:
            return
        life = self._lives[self._order[number]]
        life.in_air -= 1
        life.settle_by_queries(now)
        if answer in _FINAL:
            life.spoken[Outcome(answer)] += 1

    def _number_of(self, answer: str) -> int:
        number = self._answer_numbers.get(answer)
        if number is None:
            number = self._answer_numbers[answer] = len(self._answers)
            self._answers.append(answer)
        return number

    def __len__(self) -> int:
        """How many queries have come."""
        return len(self._arrived)

    def queries(self) -> Iterator[Query]:
        """Every query, in the order of arrival."""
        for arrived, ended, order, answer in zip(
            self._arrived, self._ended, self._order, self._answer, strict=True
        ):
            yield Query(arrived, ended, self._lives[order].key if order >= 0 else None, self._answers[answer])

    def expected(self) -> dict[Key, Outcome | None]:
        """What should have come out by now of each order that has begun, None while it is unsettled."""
        now = time.monotonic()
        return {life.key: _outcome(life, now) for life in self._lives if life.scenario is not None}

    def spoken(self) -> dict[Key, frozenset[Outcome]]:
        """The final words sent for each order in well-formed replies, whether or not the client took them in.

        Garbage that says paid is not among them: an outcome that is not here was made up.
        """
        return {life.key: frozenset(life.spoken) for life in self._lives if life.spoken}

    def scenario(self, key: Key) -> Scenario | None:
        """What the order does; None for one that has not begun."""
        life = self._by_key.get(key)
        return life.scenario if life else None

    def settled_at(self, key: Key) -> float | None:
        """The monotonic moment at which the order settled or will settle; None while that is open."""
        life = self._by_key.get(key)
        return life.settles_at if life else None

    def lateness(self, key: Key, at: float) -> float | None:
        """Seconds from the order's settling to news of it at the monotonic time `at`; None while that is open."""
        settled = self.settled_at(key)
        return None if settled is None else at - settled

    def queries_by_order(self) -> dict[Key, int]:
        """How many queries came for each order, those with a wrong sign included."""
        return {life.key: life.queries for life in self._lives if life.queries}

    def answers(self) -> dict[str, int]:
        """How often each answer was given."""
        counts = Counter(self._answer)
        return {answer: counts[number] for answer, number in self._answer_numbers.items()}

    def max_queries_in_window(self, seconds: float = 1.0) -> int:
        """The most queries that arrived within any half-open window of that length; exact."""
        most = first = 0
        for last, arrived in enumerate(self._arrived):
            while arrived - self._arrived[first] >= seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    def max_concurrent_for_one_order(self) -> int:
        """The most queries of one order that were in the air at once."""
        return self._most_for_one

    def max_concurrent(self) -> int:
        """The most queries of all orders that were in the air at once."""
        return self._most_in_air

    def summary(self) -> dict[str, Any]:
        """Counts and maxima, ready for JSON."""
        outcomes = Counter(str(outcome or "unsettled") for outcome in self.expected().values())
        return {
            "order_count": sum(outcomes.values()),
            "expected_counts": dict(outcomes),
            "queries": len(self),
            "answers": self.answers(),
            "max_queries_in_one_second": self.max_queries_in_window(1.0),
            "max_concurrent": self._most_in_air,
            "max_concurrent_for_one_order": self._most_for_one,
        }

    def orders(self) -> list[dict[str, Any]]:
        """One entry for each order seen, ready for JSON; times are seconds of this machine's monotonic clock."""
        now = time.monotonic()
        return [
            {
                "park_uuid": life.key[0],
                "pay_partner": life.key[1],
                "scenario": describe(life.scenario) if life.scenario else None,
                "expected": _outcome(life, now),
                "spoken": sorted(life.spoken),
                "queries": life.queries,
                "settles_at": life.settles_at,
            }
            for life in self._lives
        ]

    def __str__(self) -> str:
        """The summary, for people: a line for each thing."""
        facts = self.summary()
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(facts["expected_counts"].items()))
        answers = ", ".join(f"{count} {name}" for name, count in sorted(facts["answers"].items()))
        return (
            f"orders: {facts['order_count']} ({outcomes or 'none'})\n"
            f"queries: {facts['queries']} ({answers or 'none'})\n"
            f"most in any one second: {facts['max_queries_in_one_second']}\n"
            f"most at once: {facts['max_concurrent']}, for one order: {facts['max_concurrent_for_one_order']}"
        )


def _outcome(life: Life, now: float) -> Outcome | None:
    return life.outcome if life.settles_at is not None and life.settles_at <= now else None
