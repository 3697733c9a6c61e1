"""`poller deliveries` and `redeliver`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from poller.cli.client import DaemonClient, DaemonError, talk
from poller.cli.failing import FAILED
from poller.cli.options import config_option, json_option
from poller.cli.printing import print_json, print_table, shown
from poller.core.delivery import DeliveryState

DELIVERY_COLUMNS = (
    "event_id",
    "type",
    "pay_partner",
    "state",
    "attempts",
    "made_at",
    "next_attempt_at",
    "last_status",
    "last_error",
)


def delivery_row(delivery: dict[str, Any]) -> list[object]:
    """A delivery under `DELIVERY_COLUMNS`."""
    return [delivery.get(name) for name in DELIVERY_COLUMNS]


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
        print_table(DELIVERY_COLUMNS, map(delivery_row, found))


@click.command()
@click.argument("event_ids", nargs=-1, metavar="[EVENT_ID…]")
@click.option("--dead", is_flag=True, help="All notices that are dead.")
@json_option
@config_option
def redeliver(event_ids: tuple[str, ...], dead: bool, as_json: bool, path: Path) -> None:
    """Send notices to the webhook again.

    Name them, or say --dead.
    """
    if dead is bool(event_ids):
        raise click.UsageError("name the notices to send again, or say --dead")

    async def conversation(client: DaemonClient) -> bool:
        wanted = list(event_ids)
        if dead:
            wanted = [one["event_id"] async for one in client.pages("deliveries", {"state": "dead"}, None)]
        sent = [await _retry(client, event_id, as_json) for event_id in wanted]
        if not sent and not as_json:
            click.echo("no notice is dead")
        return all(sent)

    if not talk(path, conversation):
        raise click.exceptions.Exit(FAILED)


async def _retry(client: DaemonClient, event_id: str, as_json: bool) -> bool:
    try:
        delivery = await client.post(f"/v1/deliveries/{quote(event_id, safe='')}/retry")
    except DaemonError as error:
        click.echo(f"poller: {shown(event_id)}: {error}", err=True)
        return False
    if as_json:
        print_json(delivery)
    else:
        click.echo(f"{shown(event_id)}  is sent again")
    return True
