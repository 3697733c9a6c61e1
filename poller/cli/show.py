"""`poller show`: why an order is where it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any

import click

from poller.cli.client import DaemonClient, talk
from poller.cli.deliveries import kind_of, print_deliveries, receiver_answer
from poller.cli.layout import Column
from poller.cli.options import config_option, json_option, number_argument, park_option
from poller.cli.printing import answer_text, print_facts, print_json, print_table, print_text, shown
from poller.core.delivery import DeliveryState
from poller.core.orders import NoticeType, State

HISTORY_COLUMNS = (
    Column("count"),
    Column("first", drop=1),
    Column("last"),
    Column("answer", fold=True),
    Column("seqno"),
)
FACTS = (
    "metadata",
    "accepted_at",
    "polls",
    "next_poll_at",
    "undecided_at",
    "final_at",
    "pay_serial",
    "pay_origin",
    "pay_origin_desc",
)


@click.command()
@number_argument()
@park_option
@json_option
@config_option
def show(pay_partner: str, park: str | None, as_json: bool, path: Path) -> None:
    """One order: its state and its whole history.

    Why it is where it is; each query with its time, answer and seqno, when the next one is due, and its notices.
    """

    async def conversation(client: DaemonClient) -> dict[str, Any]:
        key = (client.park(park), pay_partner)
        order: dict[str, Any] = await client.order(*key)
        history = await client.order(*key, "history")
        query = {"park_uuid": key[0], "pay_partner": pay_partner}
        deliveries = [delivery async for delivery in client.pages("deliveries", query, None)]
        reasons = {"reason": history.get("reason"), "why": history.get("why")}
        return {**order, **reasons, "history": history["history"], "deliveries": deliveries}

    order = talk(path, conversation)
    if as_json:
        print_json(order)
    else:
        _print_order(order)


def _print_order(order: dict[str, Any]) -> None:
    click.echo(f"{shown(order['pay_partner'])} of lot {shown(order['park_uuid'])}")
    for sentence in explained(order):
        print_text(sentence)
    click.echo()
    print_facts({name: order[name] for name in FACTS})
    if order["history"]:
        click.echo("\nqueries")
        print_table(HISTORY_COLUMNS, map(_history_row, order["history"]))
    if order["deliveries"]:
        click.echo("\nnotices")
        print_deliveries(order["deliveries"], of_one_order=True)


def _prompted(entry: dict[str, Any]) -> str:
    prompt = entry.get("prompt", "schedule")
    return answer_text(entry) if prompt == "schedule" else f"{answer_text(entry)} (on {prompt})"


def _history_row(entry: dict[str, Any]) -> list[object]:
    return [entry["count"], entry["first_at"], entry["last_at"], _prompted(entry), entry["seqno"]]


def explained(order: dict[str, Any]) -> Iterator[str]:
    """In sentences: what the order's state means, why it is so, and what is still to come or to be done."""
    state = order["state"]
    yield f"{state}: {_meaning(order)}"
    if state == State.PENDING and order["next_poll_at"]:
        yield f"next query at {order['next_poll_at']}"
    if order["undecided_at"]:
        yield f"the gate was told at {order['undecided_at']} that nothing was known yet"
    for delivery in order["deliveries"]:
        if delivery["type"] == NoticeType.CONFLICT and state != State.PENDING:
            yield (
                f"CONFLICT: at {delivery['made_at']} the platform said otherwise of this order; nothing was "
                "changed. Ask the platform's support, with the seqno of both answers"
            )
    yield from map(_on_its_way, filter(_is_underway, order["deliveries"]))


def _meaning(order: dict[str, Any]) -> str:
    again = f"`poller reopen {shown(quote(order['pay_partner']))}` asks again"
    match order["state"]:
        case State.PENDING:
            return shown(order["why"])
        case State.PAID | State.FAILED:
            return "this is the platform's own word and stays"
        case State.REJECTED:
            answer = shown(answer_text(order["last_reply"])) or "code 400"
            return f"the platform will not know this order as it was asked for ({answer}); {again}"
        case State.EXPIRED:
            return f"it was given up at {order['final_at']}: whether it was paid is not known; {again}"
        case State.CANCELLED:
            return f"by an operator, at {order['final_at']}; {again}"
        case state:
            return str(state)


def _is_underway(delivery: dict[str, Any]) -> bool:
    return delivery["state"] in {DeliveryState.PENDING, DeliveryState.DEAD}


def _on_its_way(delivery: dict[str, Any]) -> str:
    told = f"the webhook has not received {kind_of(delivery)} yet, after {delivery.get('attempts', 0)} attempts"
    told += f" ({shown(answer)})" if (answer := receiver_answer(delivery)) else ""
    if delivery["state"] == DeliveryState.DEAD:
        return f"{told}, and it is not tried any more: `poller redeliver {delivery['event_id']}` sends it again"
    due = delivery.get("next_attempt_at")
    return f"{told}; it is sent again at {due}" if due else told
