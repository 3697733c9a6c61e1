"""What a person needs to see at a glance: is the platform up, who waits, what needs somebody, how the day went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from poller.core.outage import Outage
from poller.core.replies import Cause
from poller.daybook import DAY_S, Daybook, Hour
from poller.ports import Clock
from poller.ports.records import Overview, Records, Since
from poller.timeline import Timeline

SHOWN = 30  # of each kind
LATE_S = DAY_S
CONFLICTS = timedelta(days=7)
UNDELIVERED_S = 60.0  # a notice on its way for longer than this needs somebody


@dataclass(frozen=True, slots=True)
class OutageSpan:
    """`until` is None while it lasts. `cause` is a text for people, of its last failure as is `kind`."""

    since: datetime
    until: datetime | None
    kind: Cause | None
    cause: str | None


@dataclass(frozen=True, slots=True)
class Summary:
    """`up_since` is None while the platform is down; `complete` says whether `hours` hold the whole day yet.

    Outages are those of the last day that this process has seen, oldest first.
    """

    at: datetime
    up_since: datetime | None
    outages: Sequence[OutageSpan]
    overview: Overview
    hours: Sequence[Hour]
    complete: bool


class Lookout:
    """Built once at the start: without an outage the platform counts as up since then."""

    def __init__(self, records: Records, clock: Clock, timeline: Timeline, outage: Outage) -> None:
        self._records = records
        self._clock = clock
        self._timeline = timeline
        self._outage = outage
        self._daybook = Daybook(records, clock, timeline)
        self._started = clock.monotonic()

    async def summary(self) -> Summary:
        """Raises StoreUnavailableError."""
        now, run = self._clock.wall(), self._timeline.run()
        since = Since(run - LATE_S, now - CONFLICTS, run - UNDELIVERED_S)
        complete = await self._daybook.catch_up()
        return Summary(
            at=now,
            up_since=None if self._outage.is_open else self._wall_at(self._last_end()),
            outages=self._outages(),
            overview=await self._records.overview(since, SHOWN),
            hours=self._daybook.hours(),
            complete=complete,
        )

    def _last_end(self) -> float:
        return self._outage.past[-1].until if self._outage.past else self._started

    def _outages(self) -> list[OutageSpan]:
        outage, from_then_on = self._outage, self._clock.monotonic() - DAY_S
        spans = [
            OutageSpan(self._wall_at(past.since), self._wall_at(past.until), past.kind, past.cause)
            for past in outage.past
            if past.until >= from_then_on
        ]
        if outage.is_open:
            spans.append(OutageSpan(self._wall_at(outage.since), None, outage.kind, outage.cause))
        return spans

    def _wall_at(self, monotonic: float) -> datetime:
        return self._clock.wall() - timedelta(seconds=self._clock.monotonic() - monotonic)
