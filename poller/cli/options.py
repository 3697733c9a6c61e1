"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click


def readable_number(ctx: click.Context, param: click.Parameter, value: object) -> object:
    """Refuse an order number that no daemon could take, before it becomes part of a request."""
    for number in value if isinstance(value, tuple) else (value,):
        try:
            str(number).encode()
        except UnicodeEncodeError:
            raise click.BadParameter("it is not UTF-8 text") from None
        if number in {"", ".", ".."}:
            raise click.BadParameter("an order's number is 1 to 128 characters, and not . or ..")
    return value


config_option = click.option(
    "--config",
    "path",
    default="/etc/poller/poller.toml",
    show_default=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The configuration file.",
)
park_option = click.option(
    "--park", metavar="UUID", callback=readable_number, help="The lot; not needed where one is configured."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
number_argument = click.argument("pay_partner", callback=readable_number)
