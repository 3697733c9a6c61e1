"""`poller simulate`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import click

from poller.cli.failing import Failed
from poller.config.kinds import LISTEN
from poller.config.listen import Listen
from poller.simulator import FORMS, MEAN_SETTLE_S, Record, SimulatedPlatform, serve

EXAMPLE_PARK = "49f0cc52-e8c7-41e3-b54d-af666b8cc11a"
WELL_KNOWN_SECRET = "simulated-secret"  # noqa: S105  # printed at the start: it protects nothing


def _listen(ctx: click.Context, param: click.Parameter, value: str) -> Listen:
    try:
        listen = LISTEN.parse(value)
    except ValueError:
        raise click.BadParameter("expected HOST:PORT") from None
    if listen.unix_path is not None:
        raise click.BadParameter("expected HOST:PORT")
    return listen


def _secret(ctx: click.Context, param: click.Parameter, value: Path | None) -> str:
    if value is None:
        return WELL_KNOWN_SECRET
    try:
        secret = value.read_text("utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"{value}: {getattr(error, 'strerror', None) or 'is not UTF-8 text'}") from None
    if not secret:
        raise Failed(f"{value} is empty")
    return secret


@click.command(epilog="An order's number says what becomes of it: " + "; ".join(map(": ".join, FORMS)) + ".")
@click.option("--listen", default="127.0.0.1:8711", show_default=True, metavar="HOST:PORT", callback=_listen)
@click.option(
    "--secret-file",
    "secret",
    metavar="F",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_secret,
    help=f"The lot's app_secret; without it, {WELL_KNOWN_SECRET}.",
)
@click.option("--park", default=EXAMPLE_PARK, show_default=True, metavar="UUID", help="The lot.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed, other fates.")
@click.option(
    "--settle",
    type=click.FloatRange(min=0, min_open=True),
    default=MEAN_SETTLE_S,
    show_default=True,
    metavar="SECONDS",
    help="Mean time to settling.",
)
def simulate(listen: Listen, secret: str, park: str, seed: int, settle: float) -> None:
    """The platform's endpoint, simulated, over a real socket.

    It verifies `sign`. Ctrl-C ends it and prints what it saw.
    """

    def announce(platform: SimulatedPlatform) -> None:
        click.echo(f'[platform]\nurl = "{platform.url}"\n\n[[parks]]\npark_uuid = "{park}"')
        if secret == WELL_KNOWN_SECRET:
            click.echo(f"# its app_secret_file holds: {WELL_KNOWN_SECRET}")
        sys.stdout.flush()

    async def until_told() -> Record:
        told = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        return await serve(
            {park: secret},
            host=listen.host,
            port=listen.port,
            shutdown_trigger=told.wait,
            seed=seed,
            mean_settle_s=settle,
            on_listening=announce,
        )

    try:
        record = asyncio.run(until_told())
    except OSError as error:
        raise Failed(f"cannot listen on {listen}: {error.strerror or error}") from None
    click.echo(f"\n{record}")
