"""`poller backup`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from poller.cli.failing import Failed, NeedsAPerson
from poller.cli.options import config_option, json_option
from poller.cli.printing import print_json
from poller.config import ConfigError, load_store
from poller.ports import StoreCorruptError, StoreMovedError, StoreTooNewError, StoreUnavailableError
from poller.stores import backup as copy_store


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@config_option
def backup(file: Path, as_json: bool, path: Path) -> None:
    """A consistent copy of the store, in a new file.

    It may be taken at any time: the daemon goes on meanwhile, or need not run at all.
    """
    try:
        orders = copy_store(load_store(path, os.environ).url, file)
    except ConfigError as error:
        raise NeedsAPerson(*error.faults) from None
    except (StoreTooNewError, StoreMovedError) as error:
        raise NeedsAPerson(str(error)) from None
    except (FileExistsError, StoreCorruptError, StoreUnavailableError) as error:
        raise Failed(str(error)) from None
    if as_json:
        print_json({"file": str(file), "orders": orders})
    else:
        click.echo(f"{file}: a copy of the store with {orders} order{'' if orders == 1 else 's'}")
