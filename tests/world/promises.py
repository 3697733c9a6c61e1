"""The promises of the daemon, held against the world's own record of one history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from poller.core.delivery import FIRST_HOUR_CAP_S
from poller.core.learning import HORIZON_S, LONGEST
from poller.core.orders import OrderKey, State
from tests.world.history import CADENCE, History
from tests.world.truth import Plan, Record, Told, Word

FINAL = {"payment.paid", "payment.failed", "payment.rejected", "payment.expired", "payment.cancelled"}


class Lived(Protocol):
    """A history that has been lived through, by one daemon or by a fleet; `slack` is in seconds."""

    @property
    def plan(self) -> Plan: ...

    @property
    def record(self) -> Record: ...

    @property
    def final(self) -> Mapping[OrderKey, State]: ...

    @property
    def undelivered(self) -> Sequence[str]: ...

    @property
    def slack(self) -> float: ...


def broken(history: History) -> list[str]:
    """What the daemon promised and did not keep; empty where all is well."""
    return [*wrong(history), *too_fast(history), *_two_at_once(history), *late(history)]


def wrong(history: Lived) -> list[str]:
    """Orders that were lost, outcomes that nobody spoke, notices that were not told as they should be."""
    return [*_lost(history), *_invented(history), *_told(history)]


def _lost(history: Lived) -> list[str]:
    """Every acknowledged order is there and has ended, unless it may still be pending."""
    faults = []
    for key in history.record.acknowledged:
        state = history.final.get(key)
        if state is None:
            faults.append(f"{key.pay_partner}: acknowledged and gone")
        elif state is State.PENDING and not _may_be_pending(history, key):
            faults.append(f"{key.pay_partner}: still pending at the end, {history.record.queries[key][-3:]}")
    return faults


def _may_be_pending(history: Lived, key: OrderKey) -> bool:
    record, fate = history.record, history.plan.fates[key]
    if fate.unclear or record.reopened[key]:
        return True  # it may have been unlucky with each reply since
    now = history.record.ups[-1][1]
    longest = CADENCE.max_interval + 10.0 + history.slack
    if fate.word is not None:
        return record.up_seconds(fate.settles_at, now) < longest + _trouble(history)
    return record.up_seconds(record.acknowledged[key], now) < CADENCE.give_up_after + longest + _trouble(history)


def _trouble(history: Lived) -> float:
    spans = [*history.plan.outages, *history.plan.full_disk]
    return sum(end - start for start, end in spans) + (120.0 if spans else 0.0)


def _invented(history: Lived) -> list[str]:
    """No outcome that the world did not speak."""
    faults = []
    for key, state in history.final.items():
        spoken = history.record.spoken(key)
        if state in (State.PAID, State.FAILED, State.REJECTED) and Word(state.value) not in spoken:
            faults.append(f"{key.pay_partner}: {state}, which the platform never said ({spoken})")
        if state is State.CANCELLED and key not in history.record.cancel_asked:
            faults.append(f"{key.pay_partner}: cancelled, which nobody asked for")
        if state is State.EXPIRED:
            lived = history.record.up_seconds(history.record.handed_in[key], history.record.ups[-1][1])
            if lived < CADENCE.give_up_after - history.slack:
                faults.append(f"{key.pay_partner}: expired after {lived:.0f} s")
        if key in history.record.cancelled and state is State.PENDING and not history.record.reopened[key]:
            faults.append(f"{key.pay_partner}: cancelled, acknowledged, and pending again")
    return faults


def _told(history: Lived) -> list[str]:
    """Each outcome is told, once for each opening and under one id, and the log has it too."""
    faults = []
    by_order: dict[OrderKey, list[tuple[str, Told]]] = defaultdict(list)
    for event_id, told in history.record.told.items():
        by_order[told.key].append((event_id, told))
        if told.other_body:
            faults.append(f"{event_id}: another body under the same id")
        if event_id not in history.record.logged:
            faults.append(f"{event_id}: {told.type} was sent and never logged")
    for key, state in history.final.items():
        finals = [told.type for _, told in by_order[key] if told.type in FINAL]
        openings = 1 + history.record.reopened[key]
        gone = {history.record.told[event_id].type for event_id in history.record.gone}
        if len(finals) > openings:
            faults.append(f"{key.pay_partner}: {finals} told in {openings} openings")
        known = {*finals, *gone} if not history.undelivered else {f"payment.{state}"}  # those are looked at below
        if state is not State.PENDING and f"payment.{state}" not in known:
            faults.append(f"{key.pay_partner}: {state} was never told")
        undecided = [told for _, told in by_order[key] if told.type == "payment.undecided"]
        if len(undecided) > openings:
            faults.append(f"{key.pay_partner}: undecided told {len(undecided)} times")
        faults += _undecided(history, key, undecided)
    end = history.record.ups[-1][1]
    for event_id in history.undelivered:  # a receiver that fails every time is tried again, and no less often
        if end - history.record.tried.get(event_id, float("-inf")) > FIRST_HOUR_CAP_S + history.slack:
            faults.append(f"{event_id}: neither delivered nor tried again in the end")
    return faults


def _undecided(history: Lived, key: OrderKey, undecided: list[Told]) -> list[str]:
    accepted = history.record.handed_in.get(key)
    if accepted is None or history.record.reopened[key]:
        return []
    early = [
        told
        for told in undecided
        if history.record.up_seconds(accepted, told.first_at) < CADENCE.undecided_after - history.slack
    ]
    return [
        f"{key.pay_partner}: undecided told {told.first_at - accepted:.0f} s after acceptance" for told in early
    ]


def too_fast(history: Lived) -> list[str]:
    """The rate holds in every second."""
    sent = sorted(asked.sent for queries in history.record.queries.values() for asked in queries)
    rate = history.plan.rate
    for first, last in zip(sent, sent[rate:], strict=False):
        if last - first < 1.0:
            return [f"{rate + 1} queries in {last - first:.3f} s from {first:.1f}"]
    return []


def _two_at_once(history: History) -> list[str]:
    """One order has one query at a time."""
    faults = []
    for key, queries in history.record.queries.items():
        for former, following in pairwise(queries):
            if former.ended is None or following.sent < former.ended:
                faults.append(f"{key.pay_partner}: two queries at once at {following.sent:.1f}")
                break
    return faults


def late(history: Lived) -> list[str]:
    """Without faults, news is no later than the cadence allows, whatever the wall clock does."""
    if not history.plan.calm:
        return []
    faults = []
    waits = len(history.plan.fates) / history.plan.rate * 1.05 + 2 * history.plan.latency
    for key, fate in history.plan.fates.items():
        accepted = history.record.acknowledged[key]
        for told in history.record.told.values():
            if told.key != key or told.type not in FINAL or fate.word is None:
                continue
            age = max(fate.settles_at - accepted, 0.0)
            allowed = longest_gap(history, age)
            delay = told.first_at - max(fate.settles_at, accepted + CADENCE.initial_delay)
            if delay > allowed + waits + 1.0:
                faults.append(f"{key.pay_partner}: told {delay:.1f} s after it settled, {allowed:.1f} s allowed")
    return faults


def longest_gap(history: Lived, age: float) -> float:
    """How long after that age the next query may come, in seconds: thrice as long where the cadence is learned."""

    def gap(age: float, times: float = 1.0) -> float:
        return min(times * max(age * CADENCE.age_fraction, CADENCE.min_interval), CADENCE.max_interval)

    if history.plan.queries_per_order is None:
        return gap(age)
    young = min(age, HORIZON_S)
    return max(gap(young, LONGEST) - (age - young), gap(age))
