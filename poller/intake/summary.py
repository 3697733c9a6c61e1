"""`/v1/summary`: what stands now and how the last day went, for a page or a terminal that shows it at a glance."""

from __future__ import annotations

from aiohttp import web

from poller import __version__
from poller.core.documents import timestamp
from poller.core.orders import Order, State
from poller.daybook import Hour
from poller.intake.answers import answer
from poller.intake.deliveries import delivery_document
from poller.intake.desk_port import Desk
from poller.lookout import OutageSpan, Summary
from poller.ports.records import COUNTED, Group, Undelivered


class SummaryHandler:
    """The handler of the summary, on one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def show(self, request: web.Request) -> web.Response:
        summary = await self._desk.summary()
        _, readiness = self._desk.readiness()
        overview = summary.overview
        return answer(
            {
                "at": timestamp(summary.at),
                "version": __version__,
                "park_uuids": list(self._desk.park_uuids),
                "webhook": self._desk.webhook,
                "platform": _platform(summary),
                "store": readiness["store"],
                "waiting": self._group(overview.waiting),
                "undecided": self._group(overview.undecided),
                "conflicting": self._group(overview.conflicting),
                "late": self._group(overview.late),
                "undelivered": {
                    **_counts(overview.undelivered),
                    "deliveries": [self._undelivered(one) for one in overview.undelivered.shown],
                },
                "results": [self._desk.document(order) for order in overview.results],
                "day": {
                    "complete": summary.complete,
                    "hours": [_hour(hour) for hour in summary.hours],
                    "outages": [_outage(outage) for outage in summary.outages],
                },
            }
        )

    def _group(self, group: Group[Order]) -> dict[str, object]:
        return {**_counts(group), "orders": [self._desk.document(order) for order in group.shown]}

    def _undelivered(self, one: Undelivered) -> dict[str, object]:
        return {**delivery_document(self._desk, one.delivery), "order": self._desk.document(one.order)}


def _counts(group: Group[Order] | Group[Undelivered]) -> dict[str, object]:
    return {"count": group.count, "more": group.count >= COUNTED}


def _platform(summary: Summary) -> dict[str, object]:
    if summary.up_since is not None:
        return {"status": "up", "since": timestamp(summary.up_since), "kind": None, "cause": None}
    outage = summary.outages[-1]
    return {"status": "down", "since": timestamp(outage.since), "kind": outage.kind, "cause": outage.cause}


def _outage(outage: OutageSpan) -> dict[str, object]:
    return {
        "since": timestamp(outage.since),
        "until": timestamp(outage.until) if outage.until else None,
        "kind": outage.kind,
        "cause": outage.cause,
    }


def _hour(hour: Hour) -> dict[str, object]:
    return {
        "start": timestamp(hour.start),
        **{state.value: hour.outcomes.get(state, 0) for state in State if state is not State.PENDING},
        "mean_seconds": _rounded(hour.mean),
        "p50_seconds": _rounded(hour.half),
        "p95_seconds": _rounded(hour.most),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)
