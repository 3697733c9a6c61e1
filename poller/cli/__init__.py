"""The command line. Each command is imported when it is used, so that none pays for the others."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from poller import __version__
from poller.cli.printing import write_what_there_are_letters_for

COMMANDS = {
    "demo": ("poller.cli.demo:demo", "The whole job on this machine, with nothing to configure."),
    "simulate": ("poller.cli.simulate:simulate", "The platform's endpoint, simulated, over a real socket."),
    "run": ("poller.cli.run:run", "The daemon, in the foreground."),
    "check": ("poller.cli.check:check", "Check configuration, store, platform and webhook."),
    "submit": ("poller.cli.submit:submit", "Hand orders to the running daemon."),
    "show": ("poller.cli.show:show", "One order: its state and its whole history."),
    "list": ("poller.cli.orders:list_orders", "Orders, newest first."),
    "watch": ("poller.cli.watch:watch", "A live view of the daemon."),
    "cancel": ("poller.cli.orders:cancel", "Stop asking about an order."),
    "poll": ("poller.cli.orders:poll", "Ask about an order now."),
    "reopen": ("poller.cli.orders:reopen", "Ask again after rejected, expired or cancelled."),
    "deliveries": ("poller.cli.deliveries:deliveries", "Notices to the webhook, newest first."),
    "redeliver": ("poller.cli.deliveries:redeliver", "Send notices to the webhook again."),
    "backup": ("poller.cli.backup:backup", "A consistent copy of the store, in a new file."),
    "migrate-store": ("poller.cli.migrate_store:migrate_store", "Move a lot's store into a fleet's PostgreSQL."),
    "completion": ("poller.cli.completion:completion", "The script by which a shell completes these commands."),
}


class Commands(click.Group):
    """The commands of the table above, found by name."""

    def main(self, *args: Any, **extra: Any) -> Any:
        write_what_there_are_letters_for()
        return super().main(*args, **extra)

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

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        items = [CompletionItem(name, help=COMMANDS[name][1]) for name in names]
        return items + click.Command.shell_complete(self, ctx, incomplete)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="poller")
def main() -> None:
    """Polls the P云 (4pyun) platform until debit orders are final, and never loses one."""
