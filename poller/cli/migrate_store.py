"""`poller migrate-store`."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from poller.cli.failing import INTERRUPTED, Failed, NeedsAPerson
from poller.cli.options import json_option
from poller.cli.printing import print_json, shown
from poller.config.kinds import SecretItselfError, postgres_url
from poller.config.secret_files import SecretFiles
from poller.ports import (
    StoreCorruptError,
    StoreHeldError,
    StoreMovedError,
    StoreTooNewError,
    StoreUnavailableError,
)
from poller.stores import POSTGRES, sqlite_path
from poller.stores.sqlite.departure import Departure
from poller.system import SystemClock

if TYPE_CHECKING:
    from poller.stores.sqlite.mark import Mark

LOCK_S = 10.0
TELL_EVERY_S = 2.0
AGAIN = "run the same command again, and it goes on where it was"


def _file(ctx: click.Context, param: click.Parameter, value: str) -> Path:
    try:
        return sqlite_path(value)
    except ValueError:
        raise click.BadParameter("expected sqlite:////absolute/path or sqlite:///relative/path") from None


def _database(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not value.startswith(POSTGRES):
        raise click.BadParameter("expected postgresql://USER@HOST/DATABASE")
    try:
        return postgres_url(value)
    except SecretItselfError:
        raise click.BadParameter("a password never stands in a url: name its file with --password-file") from None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _password(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return SecretFiles(Path("here"), os.environ).password.parse(value)
    except SecretItselfError:
        raise click.BadParameter("there is no such file; the password itself never stands here") from None
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.command("migrate-store")
@click.argument("path", metavar="SQLITE_URL", callback=_file)
@click.argument("url", metavar="POSTGRES_URL", callback=_database)
@click.option(
    "--password-file",
    "password",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    callback=_password,
    help="The file with PostgreSQL's password in it, as [store] password_file names it.",
)
@json_option
def migrate_store(path: Path, url: str, password: str | None, as_json: bool) -> None:
    """Move a lot's store into a fleet's PostgreSQL.

    Orders, their histories and notices, as they are, from the file that SQLITE_URL names; both URLs are those of
    [store] url. Stop the lot's daemon first; the fleet may run. Ended at any moment and run again, it goes on
    where it was. The file is kept, but no daemon opens it any more.
    """
    try:
        asyncio.run(_move(path, url, password, as_json))
    except KeyboardInterrupt:
        _tell(f"stopped: {AGAIN}")
        raise click.exceptions.Exit(INTERRUPTED) from None
    except (StoreTooNewError, StoreMovedError) as error:
        raise NeedsAPerson(str(error)) from None
    except (StoreHeldError, StoreCorruptError) as error:
        raise Failed(str(error)) from None


async def _move(path: Path, url: str, password: str | None, as_json: bool) -> None:
    from poller.stores.moving import UnusableUrlError, move  # noqa: PLC0415 - it needs a driver that is an extra

    departure = await _held(path)
    progress = _Progress()
    try:
        mark, moved = await move(departure, url, password=password, clock=SystemClock(), progress=progress)
        for one in departure.differing():
            _tell(
                f"{shown(one.key.pay_partner)} of lot {shown(one.key.park_uuid)} is {one.here} in the file and "
                f"was {one.there} in PostgreSQL, where it stays so: find out which is true"
            )
    except StoreUnavailableError as error:
        raise Failed(str(error), *([AGAIN] if departure.mark else [])) from None
    except UnusableUrlError as error:
        raise click.UsageError(f"POSTGRES_URL cannot be used: {error}") from None
    finally:
        departure.close()
    _print(path, mark, moved, as_json)


async def _held(path: Path) -> Departure:
    try:
        return await Departure.open(path, lock_wait=LOCK_S)
    except StoreUnavailableError as error:
        raise Failed(str(error)) from None


class _Progress:
    """A line now and then."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def __call__(self, mark: Mark, total: int) -> None:
        if time.monotonic() - self._told_at >= TELL_EVERY_S:
            self._told_at = time.monotonic()
            _tell(f"{mark.orders + mark.known} of {total} orders are there")


def _print(path: Path, mark: Mark, moved: bool, as_json: bool) -> None:
    if as_json:
        counted = {name: getattr(mark, name) for name in ("orders", "pending", "notices", "undelivered", "known")}
        print_json({"file": str(path), "store": mark.url, "moved": moved, **counted})
        return
    if not moved:
        click.echo(f"{path} was moved to PostgreSQL at {mark.place} before: nothing was done")
    click.echo(
        f"{path}: {_many(mark.orders, 'order')} moved to PostgreSQL at {mark.place}, {mark.pending} pending"
    )
    click.echo(f"with them {_many(mark.notices, 'notice')}, {mark.undelivered} of which the webhook has to get")
    if mark.known:
        click.echo(f"{_many(mark.known, 'order')} had been there already and stayed as they were there")
    if moved:
        click.echo("the file is kept, and no daemon opens it any more")


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _tell(line: str) -> None:
    click.echo(f"poller: {line}", err=True)
