"""What the witnesses saw of one run: the platform's record, the receiver, the gate and the log."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from poller.simulator import ReceivedNotice, WebhookReceiver
from tests.chaos.lives import Life
from tests.chaos.load import Handed, order
from tests.chaos.spans import Span
from tests.chaos.witness import Asked

FINAL = frozenset(f"payment.{state}" for state in ("paid", "failed", "rejected", "expired", "cancelled"))
TOLD_IN_LOG = frozenset({"order.final", "order.undecided", "order.conflict"})


@dataclass(slots=True)
class Told:
    """Everything that came under one `webhook-id`; monotonic times.

    `receipts` are the tries that were answered with 2xx. `faithful` says that the body is about an order as it
    was handed in, in the state of its type.
    """

    id: str
    type: str
    number: str
    late: bool
    faithful: bool
    first_at: float
    received_at: float | None = None
    receipts: int = 0
    changed: bool = False


@dataclass(slots=True)
class Evidence:
    """All of it. `states` are the daemon's own word at the end; `expected`, `spoken` and `settled` the platform's.

    `cuts` and `full` are when the network was cut and the disk full, `blocked` when the witness itself was late.
    """

    rate: int
    handed: Mapping[str, Handed]
    states: Mapping[str, str]
    expected: Mapping[str, str | None]
    spoken: Mapping[str, frozenset[str]]
    settled: Mapping[str, float | None]
    told: list[Told]
    lives: list[Life]
    asked: Iterable[Asked] = ()
    logged: frozenset[str] | None = None  # the ids of notices in the log
    forged: int = 0
    cuts: list[Span] = field(default_factory=list)
    full: list[Span] = field(default_factory=list)
    blocked: list[Span] = field(default_factory=list)


class Mailbox:
    """The receiver's notices, read as they come, so that the end of a run can be waited for."""

    def __init__(self, receiver: WebhookReceiver) -> None:
        self._receiver = receiver
        self._read: list[tuple[Told, ReceivedNotice]] = []

    def told(self) -> list[Told]:
        """Every notice so far."""
        fresh = islice(self._receiver.notices.values(), len(self._read), None)
        self._read += [(_told(notice), notice) for notice in fresh]
        for told, notice in self._read:
            told.received_at = notice.received_at
            told.receipts = sum(200 <= (a_try.status or 0) < 300 for a_try in notice.tries)
            told.changed = notice.changed
        return [told for told, _ in self._read]


def _told(notice: ReceivedNotice) -> Told:
    body: dict[str, Any] = json.loads(notice.body)
    data = body["data"]
    name, kind = data["pay_partner"], body["type"]
    as_handed = {key: data[key] for key in ("park_uuid", "pay_partner", "metadata")} == order(name)
    in_state = kind not in FINAL or kind == f"payment.{data['state']}"
    return Told(notice.id, kind, name, data["late"], as_handed and in_state, notice.tries[0].arrived)


def logged(path: Path) -> frozenset[str]:
    """The ids of all notices that the daemon's log tells of. A kill may have cut a line off: that one is none."""
    found = set()
    with path.open("rb") as lines:
        for line in lines:
            if b'"event_id"' not in line:
                continue
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if record["event"] in TOLD_IN_LOG:
                found.add(record["event_id"])
    return frozenset(found)
