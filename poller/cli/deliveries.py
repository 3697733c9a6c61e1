"""`poller deliveries` and `redeliver`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from poller.cli.client import DaemonClient, talk
from poller.cli.completing import events
from poller.cli.failing import FAILED
from poller.cli.layout import Column
from poller.cli.options import config_option, json_option
from poller.cli.printing import print_json, print_table, print_text, shown, to_the_second
from poller.cli.refusals import RefusedError, no_notice
from poller.core.delivery import DeliveryState

COLUMNS = (
    Column("event_id"),
    Column("type"),
    Column("pay_partner"),
    Column("state"),
    Column("attempts", drop=2),
    Column("made", drop=1),
    Column("next attempt", drop=3),
    Column("last answer", fold=True),
)


def print_deliveries(deliveries: Iterable[dict[str, Any]], *, of_one_order: bool = False) -> None:
    """A table of notices; their types are without the `payment.` that all have."""
    kept = [index for index, column in enumerate(COLUMNS) if not (of_one_order and column.name == "pay_partner")]
    rows = [_row(delivery) for delivery in deliveries]
    print_table([COLUMNS[index] for index in kept], [[row[index] for index in kept] for row in rows])


def _row(delivery: dict[str, Any]) -> list[object]:
    made, due = (to_the_second(delivery.get(name)) for name in ("made_at", "next_attempt_at"))
    named = [delivery["event_id"], kind_of(delivery), delivery["pay_partner"], delivery["state"]]
    return [*named, delivery.get("attempts"), made, due, receiver_answer(delivery)]


def kind_of(notice: dict[str, Any]) -> str:
    """The type of a notice in a word."""
    return str(notice["type"]).removeprefix("payment.")


def receiver_answer(delivery: dict[str, Any]) -> str:
    """What the webhook said last, or why it said nothing."""
    status, error = delivery.get("last_status"), delivery.get("last_error")
    return error or (f"HTTP {status}" if status else "")


@click.command()
@click.option(
    "--state", type=click.Choice([state.value for state in DeliveryState]), help="Only notices in this state."
)
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")
@json_option
@config_option
def deliveries(state: str | None, limit: int, as_json: bool, path: Path) -> None:
    """Notices to the webhook, newest first."""

    async def conversation(client: DaemonClient) -> list[dict[str, Any]]:
        return [delivery async for delivery in client.pages("deliveries", {"state": state}, limit)]

    found = talk(path, conversation)
    if as_json:
        for delivery in found:
            print_json(delivery)
    else:
        print_deliveries(found)


@click.command()
@click.argument("event_ids", nargs=-1, metavar="[EVENT_ID…]", shell_complete=events)
@click.option("--dead", is_flag=True, help="All notices that are dead.")
@json_option
@config_option
def redeliver(event_ids: tuple[str, ...], dead: bool, as_json: bool, path: Path) -> None:
    """Send notices to the webhook again.

    Name them, or say --dead. Notices of one order go in the order in which they were made.
    """
    if dead is bool(event_ids) or "" in event_ids:
        raise click.UsageError("name the notices to send again, or say --dead")

    async def conversation(client: DaemonClient) -> bool:
        wanted = list(event_ids)
        if dead:
            wanted = [one["event_id"] async for one in client.pages("deliveries", {"state": "dead"}, None)]
            wanted.reverse()  # the oldest first, as they are sent
        sent = [await _retry(client, event_id, as_json) for event_id in wanted]
        if not sent and not as_json:
            click.echo("no notice is dead")
        return all(sent)

    if not talk(path, conversation):
        raise click.exceptions.Exit(FAILED)


async def _retry(client: DaemonClient, event_id: str, as_json: bool) -> bool:
    try:
        delivery = await client.post(f"/v1/deliveries/{quote(event_id, safe='')}/retry")
    except RefusedError as error:
        said = no_notice(event_id) if error.status == 404 else f"{shown(event_id)}: {error}"
        click.echo(f"poller: {said}", err=True)
        return False
    if as_json:
        print_json(delivery)
        return True
    first = await _ahead(client, delivery)
    if first is None:
        click.echo(f"{shown(event_id)}  is sent again")
    else:
        print_text(
            f"{shown(event_id)}  is sent again once {first['event_id']} ({kind_of(first)}) has been received, "
            "which is of the same order and was made before"
        )
    return True


async def _ahead(client: DaemonClient, delivery: dict[str, Any]) -> dict[str, Any] | None:
    """The notice of the same order that has to be delivered before this one."""
    query = {"park_uuid": delivery["park_uuid"], "pay_partner": delivery["pay_partner"], "state": "pending"}
    pending: list[dict[str, Any]] = [one async for one in client.pages("deliveries", query, None)]  # newest first
    ids = [one["event_id"] for one in pending]
    behind = delivery["event_id"] in ids and ids[-1] != delivery["event_id"]
    return pending[-1] if behind else None
