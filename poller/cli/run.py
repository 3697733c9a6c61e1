"""`poller run`: the daemon in the foreground. Signals and exit codes stay here, at the edge."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import click

from poller.cli.lean import structlog

# isort: split
from poller import logs
from poller.cli.failing import Failed, NeedsAPerson
from poller.cli.options import config_option
from poller.config import Config, ConfigError, load
from poller.daemon import serve
from poller.liveness import StalledError
from poller.ports import (
    StoreCorruptError,
    StoreHeldError,
    StoreMovedError,
    StoreTooNewError,
    StoreUnavailableError,
)

# How many objects are made before each generation is looked through for garbage in cycles, of which there is next
# none: to look through ten thousand orders at every thousand queries costs as much as asking does.
GARBAGE = (20_000, 20, 50)

log = structlog.get_logger()


@click.command()
@config_option
def run(path: Path) -> None:
    """The daemon, in the foreground.

    SIGTERM and SIGINT drain it, a second one ends it at once; SIGHUP reads the configuration again.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is somebody to read the configuration again
    try:
        config = load(path, os.environ)
    except ConfigError as error:
        raise NeedsAPerson(*error.faults) from None
    logs.configure(
        config.log.level,
        config.log.format,
        stream_is_terminal=sys.stdout.isatty(),
        journal=logs.under_journal(os.environ),
    )
    started: list[object] = []
    gc.set_threshold(*GARBAGE)
    try:
        with asyncio.Runner(loop_factory=_fast_loop()) as runner:
            runner.run(_serve(config, started))
    except Exception as error:
        raise _ending(error, config, bool(started)) from None


def _fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where the extra `speed` is installed."""
    try:
        import uvloop  # noqa: PLC0415 - it may be missing
    except ImportError:
        return None
    return cast("Callable[[], asyncio.AbstractEventLoop]", uvloop.new_event_loop)


async def _serve(config: Config, started: list[object]) -> None:
    stop, hangup = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def end(number: int) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    await serve(
        config,
        reload=lambda: load(config.path, os.environ),
        stop=stop,
        hangup=hangup,
        ready=started.append,
    )
    _leave_look_ups()


def _leave_look_ups() -> None:
    """End a drained process whose look-ups of names hang: their threads cannot be interrupted."""
    if any(thread.name.startswith("asyncio_") for thread in threading.enumerate()):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(0)


def _ending(error: Exception, config: Config, started: bool) -> Failed:
    """How the command ends after `error`; what ends a running daemon is in its log, too."""
    endings = [_expected(one, config, started) for one in _singly(error)]
    failure = endings[0]
    if failure is None or None in endings:
        log.critical("daemon.crashed", exc_info=error)
        return Failed(f"the daemon crashed: {_name(error)}; the log has the traceback")
    if started:
        log.critical("daemon.failed", error=failure.message)
    return failure


def _singly(error: BaseException) -> list[BaseException]:
    """What the tasks of a daemon raised, out of the groups that it comes in."""
    if isinstance(error, BaseExceptionGroup):
        return [single for one in error.exceptions for single in _singly(one)]
    return [error]


def _name(error: BaseException) -> str:
    return ", ".join(dict.fromkeys(type(one).__name__ for one in _singly(error)))


def _expected(error: BaseException, config: Config, started: bool) -> Failed | None:
    """The end for a fault of the world that has a clear line; None for a defect."""
    match error:
        case StoreTooNewError() | StoreMovedError():
            return NeedsAPerson(str(error))
        case StoreHeldError() | StoreCorruptError() | StoreUnavailableError() | StalledError():
            return Failed(str(error))
        case OSError(errno=errno.EADDRINUSE) if not started:
            return Failed(f"cannot listen on {config.intake.listen}: another program listens there already")
        case OSError() if not started:
            return Failed(f"cannot listen on {config.intake.listen}: {error.strerror or error}")
        case _:
            return None
