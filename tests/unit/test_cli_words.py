"""What `show` and `watch` make of the daemon's answers."""

from __future__ import annotations

from typing import Any

import pytest

from poller.cli.board import board, duration
from poller.cli.following import Told
from poller.cli.happenings import changes, of_notice
from poller.cli.layout import cells
from poller.cli.show import explained

AT = "2026-11-24T06:12:46.005Z"
LATER = "2026-11-24T06:15:46.005Z"


def order(state: str = "pending", number: str = "1", **rest: object) -> dict[str, Any]:
    names = (
        "next_poll_at",
        "last_reply",
        "undecided_at",
        "final_at",
        "pay_serial",
        "pay_origin",
        "pay_origin_desc",
    )
    document = {
        **dict.fromkeys(names),
        **{
            "park_uuid": "lot",
            "pay_partner": number,
            "state": state,
            "metadata": {},
            "accepted_at": AT,
            "polls": 2,
        },
        **{"reason": "in_progress", "why": "in progress: gaps grow", "history": [], "deliveries": []},
    }
    return document | rest


def notice(kind: str, state: str, **rest: object) -> dict[str, Any]:
    document = {"event_id": f"evt_{kind}", "type": f"payment.{kind}", "pay_partner": "1", "state": state}
    more = {"made_at": LATER, "attempts": 3, "next_attempt_at": None, "last_error": None, "last_status": None}
    return {**document, **more, **rest}


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (order(next_poll_at=LATER), ["pending: in progress: gaps grow", f"next query at {LATER}"]),
        (
            order(why="its lot is not configured: add it under [[parks]] and send SIGHUP"),
            ["pending: its lot is not configured: add it under [[parks]] and send SIGHUP"],
        ),
        (
            order(why="it is being cancelled as soon as the query in the air has ended", undecided_at=LATER),
            [
                "pending: it is being cancelled as soon as the query in the air has ended",
                f"the gate was told at {LATER} that nothing was known yet",
            ],
        ),
        (order("failed"), ["failed: this is the platform's own word and stays"]),
        (
            order("rejected", number="a b", last_reply={"code": "400", "hint": "检查"}),
            [
                "rejected: the platform will not know this order as it was asked for (code 400, 检查); "
                "`poller reopen 'a b'` asks again"
            ],
        ),
        (
            order("expired", final_at=LATER),
            [
                f"expired: it was given up at {LATER}: whether it was paid is not known; "
                "`poller reopen 1` asks again"
            ],
        ),
        (
            order("cancelled", final_at=LATER),
            [f"cancelled: by an operator, at {LATER}; `poller reopen 1` asks again"],
        ),
    ],
)
def test_show_says_why_an_order_is_where_it_is(document: dict[str, Any], told: list[str]) -> None:
    assert list(explained(document)) == told


def test_show_names_a_conflict_and_the_notices_that_were_not_received() -> None:
    deliveries = [
        notice("conflict", "logged"),
        notice("paid", "pending", next_attempt_at=LATER, last_error="HTTP status 500", last_status=500),
        notice("undecided", "dead", last_status=410),
    ]
    _, conflict, waiting, dead = explained(order("paid", deliveries=deliveries))
    assert conflict.startswith(f"CONFLICT: at {LATER} the platform said otherwise of this order")
    assert waiting == (
        f"the webhook has not received paid yet, after 3 attempts (HTTP status 500); it is sent again at {LATER}"
    )
    assert dead.endswith(
        "(HTTP 410), and it is not tried any more: `poller redeliver evt_undecided` sends it again"
    )


def summary(**rest: Any) -> dict[str, Any]:
    none = {"count": 0, "more": False}
    groups = {name: {**none, "orders": []} for name in ("waiting", "undecided", "conflicting", "late")}
    return {
        **{"at": LATER, "version": "1.2.3", "park_uuids": ["lot"], "webhook": True, "results": []},
        **{"platform": {"status": "up", "since": AT, "kind": None, "cause": None}, "store": {"status": "ok"}},
        **groups,
        "undelivered": {**none, "deliveries": []},
        **rest,
    }


DOWN = {"status": "down", "since": AT, "kind": "timeout", "cause": "no answer in 10 s"}
FULL = {"status": "unavailable", "cause": "the disk is full"}


def lines(document: dict[str, Any], *, away: str | None = None, width: int = 80, height: int = 24) -> list[str]:
    shown = board(document, listen="127.0.0.1:8710", away=away, width=width, height=height)
    return [text for _, text in shown]


def test_the_board_shows_the_platform_and_the_store() -> None:
    assert lines(summary())[1] == "platform up since 2026-11-24 06:12:46Z (3 min)"
    shown = lines(summary(platform=DOWN, store=FULL, webhook=False), away="no daemon listens")
    assert shown[1:] == [
        "no daemon listens; waiting for it",
        "platform DOWN since 2026-11-24 06:12:46Z (3 min): no answer in 10 s",
        "NO ORDERS TAKEN ON: the disk is full",
        "no webhook is configured: results go to the log alone",
    ]


def test_the_board_shows_who_waits_the_last_results_and_what_was_not_received() -> None:
    plate = {"x": 1, "plate": "粤B660PP", "lane": "exit-1"}
    waiting = [order(number="new", metadata=plate, accepted_at=LATER, next_poll_at=LATER)]
    undecided = [order(number="old", undecided_at=LATER)]
    shown = lines(
        summary(
            waiting={"count": 1, "more": False, "orders": waiting},
            undecided={"count": 1000, "more": True, "orders": undecided},
            results=[order("paid", number="done", final_at=LATER, undecided_at=AT)],
            conflicting={"count": 1, "more": False, "orders": [order("paid", number="odd")]},
            undelivered={"count": 1, "more": False, "deliveries": [notice("paid", "dead", last_status=410)]},
        )
    )
    text = "\n".join(shown)
    assert "1 waiting, 1000 or more undecided" in text
    oldest, newest = (next(line for line in shown if line.startswith(number)) for number in ("old", "new"))
    assert shown.index(oldest) < shown.index(newest)
    assert "3 min  lot not configured" in oldest
    assert "lane exit-1, plate 粤B660PP, …  0 s    in 0 s" in newest
    assert "done       paid, late  0 s  3 min" in text
    assert "1 contradicted by the platform: odd" in text
    assert "paid          1   dead" in text


def test_the_board_keeps_to_its_terminal() -> None:
    many = [order(number=f"A{count:019}", metadata={"lane": "出口" * 30}) for count in range(30)]
    crowded = summary(
        waiting={"count": 30, "more": False, "orders": many},
        results=[{**one, "state": "paid", "final_at": LATER} for one in many],
    )
    for width, height in ((80, 24), (40, 10), (200, 60)):
        shown = lines(crowded, width=width, height=height)
        assert len(shown) <= height
        assert max(map(cells, shown)) <= width
    assert sum(line.startswith("A0") for line in lines(crowded)) == 24 - 2 - 2 * 3


def test_what_happens_is_told_once_in_words_and_as_an_object() -> None:
    first, second = changes(None, summary())
    assert first.line() == "2026-11-24 06:12:46Z  the platform is up since 2026-11-24 06:12:46Z"
    assert second.document() == {
        "type": "store.available",
        "timestamp": LATER,
        "event_id": None,
        "data": {"status": "ok"},
    }
    assert list(changes(summary(), summary(at=LATER))) == []
    down, full = changes(summary(), summary(platform=DOWN, store=FULL))
    assert (down.type, full.type) == ("platform.down", "store.unavailable")
    assert full.line().endswith("no order can be taken on: the disk is full")


def test_a_notice_is_told_with_its_order() -> None:
    data = {**order("paid", metadata={"plate": "粤B660PP"}), "late": True}
    told = of_notice(Told("evt_1", {"type": "payment.paid", "timestamp": AT, "data": data}))
    assert told.line() == "2026-11-24 06:12:46Z  1  paid, late  plate 粤B660PP"
    assert told.document()["event_id"] == "evt_1"


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (AT, "0 s"),
        ("2026-11-24T06:14:45.005Z", "119 s"),
        ("2026-11-24T08:12:46.005Z", "2 h"),
        ("2026-11-27T06:12:46.005Z", "3 d"),
        ("2026-11-24T06:12:40.005Z", "0 s"),
    ],
)
def test_durations_are_in_the_unit_that_tells_most(end: str, words: str) -> None:
    assert duration(AT, end) == words
