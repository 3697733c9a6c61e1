"""`poller submit`: hand orders in, and wait for what becomes of them."""

from __future__ import annotations

import json
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from poller.cli.client import DaemonClient, talk
from poller.cli.failing import FAILED, INTERRUPTED
from poller.cli.options import config_option, json_option, park_option, readable_number
from poller.cli.printing import print_json, shown
from poller.cli.refusals import not_taken_on
from poller.cli.waiting import Patience, finals

BATCH = 500  # orders in one request: with metadata well below what the intake reads
SETTLED = {"paid", "failed"}


def _metadata(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, object] | None:
    if value is None:
        return None
    try:
        metadata = json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"it is not JSON: {error}") from None
    if not isinstance(metadata, dict):
        raise click.BadParameter('it must be a JSON object, as in {"lane": 3}')
    return metadata


@click.command()
@click.argument("pay_partners", nargs=-1, required=True, metavar="PAY_PARTNER…", callback=readable_number)
@park_option
@click.option("--metadata", metavar="JSON", callback=_metadata, help="An object handed back in every notice.")
@click.option("--wait", is_flag=True, help="Print each order as it becomes final; 0 if all are paid or failed.")
@json_option
@config_option
def submit(
    *,
    pay_partners: tuple[str, ...],
    park: str | None,
    metadata: dict[str, object] | None,
    wait: bool,
    as_json: bool,
    path: Path,
) -> None:
    """Hand orders to the running daemon.

    One that is known already is shown as it stands; with other metadata than it has it is refused. With --wait,
    Ctrl-C ends the waiting alone, and a daemon that restarts meanwhile is waited for.
    """
    named = {"park_uuid": park, "metadata": metadata}
    rest = {name: value for name, value in named.items() if value is not None}
    orders: list[dict[str, object]] = [{"pay_partner": number, **rest} for number in dict.fromkeys(pay_partners)]

    async def conversation(client: DaemonClient) -> bool:
        taken = await _hand_in(client, orders)
        if wait:
            states = []
            async with aclosing(finals(client, taken, Patience(_tell))) as ended:
                async for order in ended:
                    _print(order, as_json)
                    states.append(order["state"])
            return len(taken) == len(orders) and SETTLED.issuperset(states)
        for order in taken:
            _print(order, as_json)
        return len(taken) == len(orders)

    try:
        done = talk(path, conversation)
    except KeyboardInterrupt:
        _tell("stopped waiting; the orders stay with the daemon, which goes on asking")
        raise click.exceptions.Exit(INTERRUPTED) from None
    if not done:
        raise click.exceptions.Exit(FAILED)


async def _hand_in(client: DaemonClient, orders: list[dict[str, object]]) -> list[dict[str, Any]]:
    """The orders that were taken on or known already; what was refused gets a line on stderr."""
    taken = []
    for start in range(0, len(orders), BATCH):
        batch = orders[start : start + BATCH]
        for order, item in zip(batch, await client.post("/v1/orders", batch), strict=True):
            if "order" in item:
                taken.append(item["order"])
            else:
                number, detail = str(order["pay_partner"]), str(item["problem"].get("detail"))
                _tell(f"{shown(number)}: {not_taken_on(item['status'], detail, number, client.config)}")
    return taken


def _tell(line: str) -> None:
    click.echo(f"poller: {line}", err=True)


def _print(order: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(order)
    else:
        click.echo(f"{shown(order['pay_partner'])}  {order['state']}")
