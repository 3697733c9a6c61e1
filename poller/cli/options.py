"""Arguments and options that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from poller.cli.completing import lots, numbers
from poller.cli.service import DEFAULT_CONFIG

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

LONGEST_NUMBER = 128  # characters, as the intake has it
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # Unicode category Cc


def readable_number(ctx: click.Context, param: click.Parameter, value: object) -> object:
    """Refuse an order number that no daemon could take, before it becomes part of a request."""
    if isinstance(value, tuple):
        return tuple(map(_readable, value))
    return value if value is None else _readable(str(value))


def _readable(text: str) -> str:
    try:
        text = os.fsencode(text).decode()  # where the locale has no letters for it, it came as mere bytes
    except UnicodeError:
        raise click.BadParameter("it is not UTF-8 text") from None
    if text in {"", ".", ".."} or len(text) > LONGEST_NUMBER or _CONTROL.search(text):
        raise click.BadParameter(
            f"an order's number is 1 to {LONGEST_NUMBER} characters, none a control character, and not . or .."
        )
    return text


def number_argument(states: Sequence[str | None] = (None,)) -> Decorator:
    """The number of an order; a shell completes those of orders in these states."""
    return click.argument("pay_partner", callback=readable_number, shell_complete=numbers(states))


config_option = click.option(
    "--config",
    "path",
    default=str(DEFAULT_CONFIG),
    show_default=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The configuration file.",
)
park_option = click.option(
    "--park",
    metavar="UUID",
    callback=readable_number,
    shell_complete=lots,
    help="The lot; not needed where one is configured.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
