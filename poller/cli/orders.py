"""`poller list`, `cancel`, `poll` and `reopen`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from poller.cli.client import DaemonClient, talk
from poller.cli.completing import lots
from poller.cli.layout import Column
from poller.cli.options import config_option, json_option, number_argument, park_option, readable_number
from poller.cli.printing import answer_text, print_json, print_table, print_text, shown, to_the_second
from poller.core.orders import REOPENABLE, State

NOT_ASKED = "lot not configured"  # why a pending order has no next query


@click.command("list")
@click.option("--state", type=click.Choice([state.value for state in State]), help="Only orders in this state.")
@click.option(
    "--park", metavar="UUID", callback=readable_number, shell_complete=lots, help="Only orders of this lot."
)
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
        several = len({order["park_uuid"] for order in orders}) > 1
        print_table(_columns(several), map(_row, orders))


def _columns(several_lots: bool) -> list[Column]:
    return [
        Column("pay_partner"),
        Column("state"),
        Column("polls", drop=2),
        Column("accepted", drop=3),
        Column("final, or next query"),
        Column("last reply", fold=True),
        Column("park_uuid", drop=0 if several_lots else 1),
    ]


def _row(order: dict[str, Any]) -> list[object]:
    accepted, final, due = (to_the_second(order[name]) for name in ("accepted_at", "final_at", "next_poll_at"))
    if order["state"] == State.PENDING and not due:
        due = NOT_ASKED
    named = [order["pay_partner"], order["state"], order["polls"]]
    return [*named, accepted, final or due, answer_text(order["last_reply"]), order["park_uuid"]]


@click.command()
@number_argument([State.PENDING])
@park_option
@json_option
@config_option
def cancel(pay_partner: str, park: str | None, as_json: bool, path: Path) -> None:
    """Stop asking about an order.

    Where a query is in the air, the order ends when that does: as paid, if it says so.
    """
    order = _act("cancel", pay_partner, park, path)
    if as_json:
        print_json(order)
    elif order["state"] == State.PENDING:
        print_text(
            f"{shown(order['pay_partner'])}  pending: the cancellation is noted; the order ends when the query "
            "in the air does, as paid if that says so"
        )
    else:
        click.echo(f"{shown(order['pay_partner'])}  {order['state']}")


@click.command()
@number_argument()
@park_option
@json_option
@config_option
def poll(pay_partner: str, park: str | None, as_json: bool, path: Path) -> None:
    """Ask about an order now.

    A final one is asked about once more, and does not change.
    """
    order = _act("poll", pay_partner, park, path)
    if as_json:
        print_json(order)
    else:
        click.echo(f"{shown(order['pay_partner'])}  {order['state']}, asked about now")


@click.command()
@number_argument(sorted(REOPENABLE))
@park_option
@json_option
@config_option
def reopen(pay_partner: str, park: str | None, as_json: bool, path: Path) -> None:
    """Ask again after rejected, expired or cancelled.

    Both deadlines of the order start anew.
    """
    order = _act("reopen", pay_partner, park, path)
    if as_json:
        print_json(order)
    else:
        click.echo(f"{shown(order['pay_partner'])}  {order['state']}")


def _act(action: str, pay_partner: str, park: str | None, path: Path) -> dict[str, Any]:
    async def conversation(client: DaemonClient) -> dict[str, Any]:
        order: dict[str, Any] = await client.act(client.park(park), pay_partner, action)
        return order

    return talk(path, conversation)
