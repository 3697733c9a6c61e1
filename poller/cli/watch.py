"""`poller watch`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from poller.cli import happenings
from poller.cli.client import DaemonClient, talk
from poller.cli.following import Summary, Told, follow, summaries, together
from poller.cli.happenings import Happening
from poller.cli.options import config_option, json_option
from poller.cli.printing import print_json
from poller.cli.refusals import DaemonError
from poller.core.documents import timestamp

EVERY_S = 1.0
LEAST_S = 0.2  # between two drawings, however much happens


@click.command()
@json_option
@config_option
def watch(as_json: bool, path: Path) -> None:
    """A live view of the daemon.

    In a terminal: the platform, who waits and how long, the last results, and what the webhook did not receive.
    Elsewhere a line for each thing that happens; with --json an object, of a notice with its event_id. Ctrl-C
    ends it; a daemon that restarts is waited for.
    """
    board = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb" and not as_json

    async def conversation(client: DaemonClient) -> None:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await (_on_a_board(client) if board else _in_lines(client, as_json))

    with suppress(KeyboardInterrupt, asyncio.CancelledError):
        talk(path, conversation)


async def _in_lines(client: DaemonClient, as_json: bool) -> None:
    def tell(one: Happening) -> None:
        if as_json:
            print_json(one.document())
        else:
            click.echo(one.line())

    async def look() -> None:
        before: Summary | None = None
        away = False
        async with aclosing(summaries(client, lambda: asyncio.sleep(EVERY_S))) as looks:
            async for found in looks:
                if isinstance(found, DaemonError):
                    if not away:
                        tell(happenings.gone(timestamp(datetime.now(UTC)), str(found)))
                    away = True
                    continue
                if away:
                    tell(happenings.back(found))
                for change in happenings.changes(before, found):
                    tell(change)
                before, away = found, False

    await together(look(), follow(client, lambda told: tell(happenings.of_notice(told))))


async def _on_a_board(client: DaemonClient) -> None:
    from rich.console import Console  # noqa: PLC0415  # only where there is a terminal to draw on
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from poller.cli.board import board  # noqa: PLC0415

    news = asyncio.Event()
    console = Console()

    def note(told: Told) -> None:
        news.set()

    async def pause() -> None:
        await asyncio.sleep(LEAST_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(EVERY_S):
                await news.wait()
        news.clear()

    async def draw() -> None:
        async with aclosing(summaries(client, pause)) as looks:
            shown: Summary = {}
            with Live(console=console, screen=True, auto_refresh=False) as live:
                async for found in looks:
                    away = str(found) if isinstance(found, DaemonError) else None
                    shown = shown if isinstance(found, DaemonError) else found
                    width, height = console.size
                    lines = board(shown, listen=str(client.listen), away=away, width=width, height=height)
                    texts = [Text(text, style=style, no_wrap=True, overflow="crop") for style, text in lines]
                    live.update(Text("\n").join(texts), refresh=True)

    await together(draw(), follow(client, note))
