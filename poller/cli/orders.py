"""`poller show`, `list`, `cancel`, `poll` and `reopen`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from poller.cli.client import DaemonClient, order_path, talk
from poller.cli.deliveries import DELIVERY_COLUMNS, delivery_row
from poller.cli.options import config_option, json_option, number_argument, park_option
from poller.cli.printing import answer_text, print_facts, print_json, print_table, shown, to_the_second
from poller.core.orders import State

ORDER_COLUMNS = ("pay_partner", "state", "polls", "accepted", "final, or next query", "last reply", "park_uuid")
HISTORY_COLUMNS = ("count", "first_at", "last_at", "answer", "seqno")
FACTS = ("state", "metadata", "accepted_at", "polls", "undecided_at", "final_at", "pay_serial", "pay_origin_desc")


@click.command()
@number_argument
@park_option
@json_option
@config_option
def show(pay_partner: str, park: str | None, as_json: bool, path: Path) -> None:
    """One order: its state and its whole history.

    Each query with its time, answer and seqno, when the next one is due and why, and the notices of it.
    """

    async def conversation(client: DaemonClient) -> dict[str, Any]:
        key = (client.park(park), pay_partner)
        order: dict[str, Any] = await client.get(order_path(*key))
        history = await client.get(order_path(*key, "history"))
        query = {"park_uuid": key[0], "pay_partner": pay_partner}
        deliveries = [delivery async for delivery in client.pages("deliveries", query, None)]
        return {**order, "why": history.get("why"), "history": history["history"], "deliveries": deliveries}

    order = talk(path, conversation)
    if as_json:
        print_json(order)
    else:
        _print_order(order)


def _print_order(order: dict[str, Any]) -> None:
    click.echo(f"{shown(order['pay_partner'])} of lot {shown(order['park_uuid'])}")
    due = f"{order['next_poll_at']}: " if order["next_poll_at"] else ""
    why = f"{due}{order['why']}" if order["why"] else order["next_poll_at"]
    print_facts({**{name: order[name] for name in FACTS}, "next query": why})
    if order["history"]:
        click.echo("\nqueries")
        print_table(
            HISTORY_COLUMNS,
            [
                (entry["count"], entry["first_at"], entry["last_at"], answer_text(entry), entry["seqno"])
                for entry in order["history"]
            ],
        )
    if order["deliveries"]:
        click.echo("\nnotices")
        print_table(DELIVERY_COLUMNS, map(delivery_row, order["deliveries"]))


@click.command("list")
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only orders in this state.")
@click.option("--park", metavar="UUID", help="Only orders of this lot.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@json_option
@config_option
def list_orders(state: str | None, park: str | None, limit: int, as_json: bool, path: Path) -> None:
    """Orders, newest first."""

    async def conversation(client: DaemonClient) -> list[dict[str, Any]]:
        return [order async for order in client.pages("orders", {"state": state, "park_uuid": park}, limit)]

    orders = talk(path, conversation)
    if as_json:
        for order in orders:
            print_json(order)
    else:
        print_table(ORDER_COLUMNS, map(_order_row, orders))


def _order_row(order: dict[str, Any]) -> list[object]:
    """An order under `ORDER_COLUMNS`."""
    accepted, final, due = (to_the_second(order[name]) for name in ("accepted_at", "final_at", "next_poll_at"))
    named = [order["pay_partner"], order["state"], order["polls"]]
    return [*named, accepted, final or due, answer_text(order["last_reply"]), order["park_uuid"]]


@click.command()
@number_argument
@park_option
@json_option
@config_option
def cancel(pay_partner: str, park: str | None, as_json: bool, path: Path) -> None:
    """Stop asking about an order."""
    _act("cancel", pay_partner, park, as_json, path)


@click.command()
@number_argument
@park_option
@json_option
@config_option
def poll(pay_partner: str, park: str | None, as_json: bool, path: Path) -> None:
    """Ask about an order now.

    A final one is asked about once more, and does not change.
    """
    _act("poll", pay_partner, park, as_json, path)


@click.command()
@number_argument
@park_option
@json_option
@config_option
def reopen(pay_partner: str, park: str | None, as_json: bool, path: Path) -> None:
    """Ask again after rejected, expired or cancelled.

    Both deadlines of the order start anew.
    """
    _act("reopen", pay_partner, park, as_json, path)


def _act(action: str, pay_partner: str, park: str | None, as_json: bool, path: Path) -> None:
    async def conversation(client: DaemonClient) -> dict[str, Any]:
        order: dict[str, Any] = await client.post(order_path(client.park(park), pay_partner, action))
        return order

    order = talk(path, conversation)
    if as_json:
        print_json(order)
    else:
        asked = ", asked about now" if action == "poll" else ""
        click.echo(f"{shown(order['pay_partner'])}  {order['state']}{asked}")
