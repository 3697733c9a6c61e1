"""What the world decides by its seed, and what it sees: the record that promises are held against."""

from __future__ import annotations

import enum
import random
from collections import defaultdict
from dataclasses import dataclass, field

from poller.core.orders import OrderKey


class Word(enum.StrEnum):
    PAID = "paid"
    FAILED = "failed"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of an order at the platform: `word` from `settles_at` (world seconds) on; None never.

    `unclear` is the chance that a reply about it says nothing of the payment.
    """

    word: Word | None
    settles_at: float
    unclear: float


@dataclass(slots=True)
class Asked:
    """One query: when it went out, when its reply was made, and what that was in one word."""

    sent: float
    ended: float | None = None
    said: str | None = None


@dataclass(slots=True)
class Told:
    """One notice by its id, as the receiver saw it."""

    type: str
    key: OrderKey
    body: str
    first_at: float
    received: bool = False
    other_body: bool = False


@dataclass(slots=True)
class Record:
    """Everything is in world seconds, which only grow; the daemon never sees them."""

    handed_in: dict[OrderKey, float] = field(default_factory=dict)  # first; it may have been taken on since
    acknowledged: dict[OrderKey, float] = field(default_factory=dict)
    reopened: dict[OrderKey, int] = field(default_factory=lambda: defaultdict(int))
    cancel_asked: set[OrderKey] = field(default_factory=set)
    cancelled: set[OrderKey] = field(default_factory=set)  # acknowledged as such
    queries: dict[OrderKey, list[Asked]] = field(default_factory=lambda: defaultdict(list))
    told: dict[str, Told] = field(default_factory=dict)
    tried: dict[str, float] = field(default_factory=dict)  # when each notice was last sent, received or not
    gone: set[str] = field(default_factory=set)  # notices that the receiver answered with 410
    logged: dict[str, str] = field(default_factory=dict)  # event id to event name
    ups: list[list[float]] = field(default_factory=list)  # [from, to] of each life of the daemon
    trouble: list[tuple[float, float]] = field(default_factory=list)  # outages and full disks

    def spoken(self, key: OrderKey) -> set[str]:
        """The words that the platform really sent about an order, in replies that are to be believed."""
        return {asked.said for asked in self.queries[key] if asked.said in set(Word)}

    def up_seconds(self, since: float, until: float) -> float:
        """How long the daemon ran between two moments."""
        return sum(max(0.0, min(until, to) - max(since, start)) for start, to in self.ups)


@dataclass(frozen=True, slots=True)
class Plan:
    """One history, drawn by its seed."""

    seed: int
    orders: int
    calm: bool  # no faults at all: then news is held to the cadence
    lasts: float
    rate: int
    fates: dict[OrderKey, Fate]
    arrivals: dict[OrderKey, float]
    outages: list[tuple[float, float]]
    full_disk: list[tuple[float, float]]
    wall_steps: list[tuple[float, float]]  # (when, by how many seconds)
    crashes: list[tuple[int, bool, float]]  # (at which point of that life, power cut, seconds down)
    stops: list[float]  # graceful restarts
    operators: list[tuple[float, str, OrderKey]]
    latency: float
    webhook_faults: float
    queries_per_order: float | None  # where it is not None, the lot has a past to learn from


PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
DAY = 86_400.0


def draw(seed: int) -> Plan:
    """The plan of a seed, always the same."""
    dice = random.Random(seed)
    orders = dice.randint(1, 5)
    calm = dice.random() < 0.3
    lasts = dice.choice([20.0, 60.0, 120.0, 300.0])
    keys = [OrderKey(PARK, f"order-{seed}-{count}") for count in range(orders)]
    arrivals = {key: dice.uniform(0.0, lasts * 0.3) for key in keys}
    fates = {}
    for key in keys:
        word = dice.choices([Word.PAID, Word.FAILED, Word.REJECTED, None], [6, 2, 1, 1])[0]
        settles_at = arrivals[key] + min(dice.expovariate(1 / 20.0), lasts)
        fates[key] = Fate(word, settles_at, 0.0 if calm else dice.choice([0.0, 0.1, 0.5]))
    trouble = 0.0 if calm else 1.0
    return Plan(
        seed=seed,
        orders=orders,
        calm=calm,
        lasts=lasts,
        rate=20 if calm else dice.choice([1, 2, 5, 20]),
        fates=fates,
        arrivals=arrivals,
        outages=_spans(dice, lasts, 0.3 * trouble, 60.0),
        full_disk=_spans(dice, lasts, 0.15 * trouble, 20.0),
        wall_steps=[
            (dice.uniform(0, lasts), dice.choice([DAY, -DAY, 400 * DAY, -20_000 * DAY, 3600.0, -3600.0]))
            for _ in range(dice.choice([0, 0, 1, 2]))
        ],
        crashes=[
            (int(dice.expovariate(1 / 200.0)) + 1, dice.random() < 0.5, dice.choice([0.5, 1.0, 10.0, 300.0]))
            for _ in range(0 if calm else dice.choice([0, 1, 1, 2, 3]))
        ],
        stops=[dice.uniform(0, lasts) for _ in range(0 if calm else dice.choice([0, 0, 1]))],
        operators=sorted(
            (
                dice.uniform(0, lasts),
                dice.choice(["cancel", "poll", "poll", "reopen", "submit", "redeliver"]),
                dice.choice(keys),
            )
            for _ in range(0 if calm else dice.choice([0, 0, 1, 2, 4]))
        ),
        latency=dice.choice([0.0, 0.05, 0.5]),
        webhook_faults=0.0 if calm else dice.choice([0.0, 0.2, 0.6]),
        queries_per_order=dice.choice([None, None, None, None, 2.0, 12.0]),
    )


def _spans(dice: random.Random, lasts: float, chance: float, mean: float) -> list[tuple[float, float]]:
    if dice.random() >= chance:
        return []
    start = dice.uniform(0, lasts * 0.7)
    return [(start, start + dice.expovariate(1 / mean))]
