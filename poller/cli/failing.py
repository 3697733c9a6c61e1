"""How a command ends that could not do its job: clear lines on stderr, and the exit code that goes with them."""

from __future__ import annotations

from typing import IO, Any

import click

FAILED = 1
NEEDS_A_PERSON = 78  # EX_CONFIG of sysexits.h; systemd does not restart on it
INTERRUPTED = 130


class Failed(click.ClickException):
    """Ends the command with a line for each of `lines`."""

    exit_code = FAILED

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))

    def show(self, file: IO[Any] | None = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"poller: {line}", file=file, err=file is None)


class NeedsAPerson(Failed):
    """What only a person can mend: the configuration is wrong, or the store is from a newer version."""

    exit_code = NEEDS_A_PERSON
