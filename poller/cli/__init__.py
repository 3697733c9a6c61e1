"""The command line. Each command is imported when it is used, so that none pays for the others."""

from __future__ import annotations

from importlib import import_module

import click

from poller import __version__

COMMANDS = {
    "demo": ("poller.cli.demo:demo", "The whole job on this machine, with nothing to configure."),
    "simulate": ("poller.cli.simulate:simulate", "The platform's endpoint, simulated, over a real socket."),
    "run": ("poller.cli.run:run", "The daemon, in the foreground."),
    "check": ("poller.cli.check:check", "Check configuration, store, platform and webhook."),
    "submit": ("poller.cli.submit:submit", "Hand orders to the running daemon."),
    "show": ("poller.cli.orders:show", "One order: its state and its whole history."),
    "list": ("poller.cli.orders:list_orders", "Orders, newest first."),
    "cancel": ("poller.cli.orders:cancel", "Stop asking about an order."),
    "poll": ("poller.cli.orders:poll", "Ask about an order now."),
    "reopen": ("poller.cli.orders:reopen", "Ask again after rejected, expired or cancelled."),
    "deliveries": ("poller.cli.deliveries:deliveries", "Notices to the webhook, newest first."),
    "redeliver": ("poller.cli.deliveries:redeliver", "Send notices to the webhook again."),
}


class Commands(click.Group):
    """The commands of the table above, found by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="poller")
def main() -> None:
    """Polls the P云 (4pyun) platform until debit orders are final, and never loses one."""
