"""`poller completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


WHERE = (
    "For bash: `poller completion bash > /etc/bash_completion.d/poller`. For zsh: into a file _poller in a "
    "folder of $fpath. For fish: into ~/.config/fish/completions/poller.fish."
)


@click.command(epilog=WHERE)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """The script by which a shell completes these commands.

    Commands, options and states; and, where the daemon answers quickly, the numbers of recent orders, the ids of
    notices that were not received, and lots.
    """
    complete = get_completion_class(shell)
    if complete is None:
        raise click.UsageError(f"{shell} is not among those that can be served")
    click.echo(complete(ctx.find_root().command, {}, "poller", "_POLLER_COMPLETE").source())
