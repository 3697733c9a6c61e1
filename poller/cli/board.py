"""The board of `poller watch`: a summary of the daemon in as many lines as the terminal has. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from poller.cli.deliveries import kind_of, receiver_answer
from poller.cli.happenings import metadata_text
from poller.cli.layout import Column, cut, laid_out
from poller.cli.orders import NOT_ASKED
from poller.cli.printing import answer_text, shown, to_the_second

LEAST_ROWS = 3  # of each part, where there are so many
ANSWER_CELLS, METADATA_CELLS = 40, 30

Style = str


class Line(NamedTuple):
    style: Style
    text: str


@dataclass(frozen=True, slots=True)
class Part:
    """A table under a title."""

    title: Line
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]


WAITING = (
    Column("waiting"),
    Column("metadata", drop=3),
    Column("for"),
    Column("next query"),
    Column("told undecided", drop=1),
    Column("last answer", drop=2),
)
RESULTS = (
    Column("result of"),
    Column("metadata", drop=3),
    Column("is"),
    Column("ago"),
    Column("after", drop=2),
    Column("paid with", drop=1),
)
UNDELIVERED = (
    Column("not received"),
    Column("of"),
    Column("is"),
    Column("event_id", drop=2),
    Column("attempts", drop=1),
    Column("last answer", drop=3),
)


def board(summary: dict[str, Any], *, listen: str, away: str | None, width: int, height: int) -> list[Line]:
    """The lines to show; `away` says why the daemon cannot be asked now, where the summary is an old one."""
    lines = [*_head(summary, listen, away), *_needs(summary)]
    parts = [part for part in (_waiting(summary), _undelivered(summary), _results(summary)) if part.rows]
    room = height - len(lines) - sum(3 for _ in parts)
    for part, rows in zip(parts, _shares([len(part.rows) for part in parts], room), strict=True):
        lines.append(Line("", ""))
        lines.append(part.title)
        table = laid_out(part.columns, part.rows[:rows], width)
        lines += [Line("bold" if text.startswith(part.columns[0].name) else "", text) for text in table]
    return [Line(style, cut(text, width)) for style, text in lines[:height]]


def _head(summary: dict[str, Any], listen: str, away: str | None) -> list[Line]:
    lines = [
        Line("dim", f"poller {summary['version']} on {listen}, {to_the_second(summary['at'])}; Ctrl-C ends this")
    ]
    if away:
        lines.append(Line("bold red", f"{away}; waiting for it"))
    platform, at = summary["platform"], summary["at"]
    since = f"since {to_the_second(platform['since'])} ({duration(platform['since'], at)})"
    if platform["status"] == "up":
        lines.append(Line("bold green", f"platform up {since}"))
    else:
        lines.append(Line("bold red", f"platform DOWN {since}: {shown(platform['cause'])}"))
    if summary["store"]["status"] != "ok":
        lines.append(Line("bold red", f"NO ORDERS TAKEN ON: {shown(summary['store'].get('cause'))}"))
    if not summary["webhook"]:
        lines.append(Line("dim", "no webhook is configured: results go to the log alone"))
    return lines


def _needs(summary: dict[str, Any]) -> list[Line]:
    """What a person has to look at."""
    lines = []
    conflicting, late = summary["conflicting"], summary["late"]
    if conflicting["count"]:
        named = ", ".join(shown(order["pay_partner"]) for order in conflicting["orders"])
        lines.append(Line("bold red", f"{_count(conflicting)} contradicted by the platform: {named}"))
    if late["count"]:
        named = ", ".join(shown(order["pay_partner"]) for order in late["orders"])
        lines.append(Line("yellow", f"{_count(late)} late in the last day: {named}"))
    return lines


def _waiting(summary: dict[str, Any]) -> Part:
    waiting, undecided = summary["waiting"], summary["undecided"]
    title = f"{_count(waiting)} waiting, {_count(undecided)} undecided"
    orders = sorted([*waiting["orders"], *undecided["orders"]], key=lambda order: str(order["accepted_at"]))
    rows = [
        (
            shown(order["pay_partner"]),
            cut(metadata_text(order["metadata"]), METADATA_CELLS),
            duration(order["accepted_at"], summary["at"]),
            f"in {duration(summary['at'], order['next_poll_at'])}" if order["next_poll_at"] else NOT_ASKED,
            to_the_second(order["undecided_at"]),
            cut(shown(answer_text(order["last_reply"])), ANSWER_CELLS),
        )
        for order in orders
    ]
    return Part(Line("yellow" if undecided["count"] else "bold", title), WAITING, rows)


def _results(summary: dict[str, Any]) -> Part:
    rows = [
        (
            shown(order["pay_partner"]),
            cut(metadata_text(order["metadata"]), METADATA_CELLS),
            f"{order['state']}{', late' if order['undecided_at'] else ''}",
            duration(order["final_at"], summary["at"]),
            duration(order["accepted_at"], order["final_at"]),
            shown(order["pay_origin_desc"] or order["pay_origin"]),
        )
        for order in summary["results"]
    ]
    return Part(Line("bold", "last results"), RESULTS, rows)


def _undelivered(summary: dict[str, Any]) -> Part:
    undelivered = summary["undelivered"]
    rows = [
        (
            kind_of(one),
            shown(one["pay_partner"]),
            one["state"],
            one["event_id"],
            str(one["attempts"]),
            cut(shown(receiver_answer(one)), ANSWER_CELLS),
        )
        for one in undelivered["deliveries"]
    ]
    return Part(Line("bold red", f"{_count(undelivered)} not received by the webhook"), UNDELIVERED, rows)


def _count(group: dict[str, Any]) -> str:
    return f"{group['count']}{' or more' if group['more'] else ''}"


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """How many rows each part gets of the room: some for each, then the first ones all that they want."""
    shares = [min(rows, LEAST_ROWS) for rows in wanted]
    for index, rows in enumerate(wanted):
        shares[index] += max(min(rows - shares[index], room - sum(shares)), 0)
    return shares


def duration(start: str, end: str) -> str:
    """From one timestamp to the other, in the one unit that tells most."""
    seconds = max((datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds(), 0.0)
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
