"""`poller demo`."""

from __future__ import annotations

import click

from poller.demo import run

ENDED_BY_A_SIGNAL = 128  # and its number


@click.command()
@click.option("--orders", type=click.IntRange(min=1), default=20, show_default=True, help="How many orders.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other orders.")
def demo(orders: int, seed: int) -> None:
    """The whole job on this machine, with nothing to configure.

    The simulated platform, the daemon with a temporary store, a webhook receiver, and orders of every kind;
    then a table of results. Exit 0 only if every order ended as it should and every result arrived once.
    """
    code = run(orders, seed)
    if code > ENDED_BY_A_SIGNAL:
        click.echo("poller: the demo was ended; nothing of it is left", err=True)
    raise click.exceptions.Exit(code)
