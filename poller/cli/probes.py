"""What `poller check` looks at outside of the configuration: the store's file and other machines."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sqlite3
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from poller.cli.failing import FAILED, NEEDS_A_PERSON
from poller.ports import StoreCorruptError, StoreMovedError, StoreTooNewError, StoreUnavailableError
from poller.stores import is_postgres, sqlite_path, unverified
from poller.stores.sqlite.faults import fault_of
from poller.stores.sqlite.opening import look


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check; `mend` says what to do about it, `code` is how the check ends where it is not ok."""

    ok: bool
    what: str
    found: str
    mend: str = ""
    code: int = FAILED


async def look_at_store(url: str, password: str | None) -> Finding:
    """Whether the daemon could open its store. Nothing is written, and a running daemon is not disturbed."""
    try:
        if is_postgres(url):
            return await _look_at_postgres(url, password)
        return await asyncio.to_thread(_look_at_file, sqlite_path(url))
    except StoreTooNewError as error:
        return advised("store", str(error), "; ", NEEDS_A_PERSON)
    except StoreMovedError as error:
        return advised("store", str(error), code=NEEDS_A_PERSON)


async def _look_at_postgres(url: str, password: str | None) -> Finding:
    from poller.stores.postgres import schema, standing  # noqa: PLC0415 - it needs a driver that is an extra

    try:
        place, version = await standing.look(url, password)
    except StoreUnavailableError as error:
        return advised("store", str(error))
    except ValueError as error:
        mend = "correct [store] url"
        return Finding(False, "store", f"{url} is not understood: {error}", mend, NEEDS_A_PERSON)
    reached, mend = f"PostgreSQL at {place} is reached, and this user may do what is needed", ""
    if servers := unverified(url):
        mend = f"take sslmode out of [store] url, or anybody can pass himself off as {', '.join(servers)}"
    if not version:
        tables = "its tables will be made at the first start"
    elif version < schema.needed():
        tables = f"its tables are of version {version} and will be of {schema.needed()} at the next start"
    elif version > schema.newest():
        tables = f"its tables are of version {version}, newer than this program, which may go on beside newer ones"
    else:
        tables = f"its tables are of version {version}, as this program wants them"
    return Finding(True, "store", f"{reached}; {tables}", mend)


def _look_at_file(path: Path) -> Finding:
    try:
        return _look_at(path)
    except StoreCorruptError as error:
        return advised("store", str(error))
    except PermissionError:
        return Finding(False, "store", f"{path} may not be read by this user", "run the check as root (sudo)")
    except (OSError, sqlite3.Error) as error:
        return advised("store", str(fault_of(error, path) or f"{path} cannot be read ({error})"))


def advised(what: str, message: str, mark: str = ": ", code: int = FAILED) -> Finding:
    """A failure in words whose last part, after `mark`, says what to do."""
    found, _, mend = message.rpartition(mark)
    return Finding(False, what, found, mend, code) if found else Finding(False, what, message, code=code)


def _look_at(path: Path) -> Finding:
    holder = _holder(path)
    if holder:
        return Finding(True, "store", f"{path} is held by the running daemon ({holder})")
    if not path.exists() or path.stat().st_size == 0:
        if not os.access(path.parent, os.W_OK | os.X_OK):
            mend = f"create the folder {path.parent}, owned by the daemon's user"
            return Finding(False, "store", f"{path} cannot be made", mend)
        return Finding(True, "store", f"{path} will be made at the first start")
    look(path)
    return Finding(True, "store", f"{path} is sound, and no daemon holds it")


def is_held(url: str) -> bool:
    """Whether a running daemon is seen to hold this store."""
    return is_postgres(url) or _holder(sqlite_path(url)) is not None


def _holder(path: Path) -> str | None:
    """The process that holds a store; None where nobody does, or that cannot be seen."""
    try:
        with path.with_name(path.name + ".lock").open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = file.read(32).decode(errors="replace").strip()
                return f"pid {pid}" if pid.isdecimal() else "pid unknown"
    except OSError:
        pass
    return None


async def reach(what: str, url: str, patience: float) -> Finding:
    """Resolve the host of a URL and connect to it, with TLS for https. `patience` is in seconds."""
    parts = urlsplit(url)
    host, tls = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if tls else 80)
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        async with asyncio.timeout(patience):
            _, writer = await asyncio.open_connection(
                host, port, ssl=ssl.create_default_context() if tls else None
            )
    except socket.gaierror as error:
        return Finding(False, what, f"{host} has no address: {error.strerror}", "check the name and the DNS")
    except ssl.SSLCertVerificationError as error:
        mend = "check this machine's clock and its CA certificates"
        return Finding(False, what, f"the certificate of {host} is not believed: {error.verify_message}", mend)
    except ssl.SSLError as error:
        return Finding(
            False, what, f"{host}:{port} speaks no TLS that is understood: {error.reason}", "check the URL"
        )
    except TimeoutError:
        return Finding(False, what, f"{host}:{port} does not answer within {patience:g} s", "check the firewall")
    except OSError as error:
        found = f"{host}:{port} cannot be reached: {os.strerror(error.errno) if error.errno else error}"
        return Finding(False, what, found, "check that it runs, and the firewall")
    took = (loop.time() - began) * 1000
    writer.close()
    with suppress(OSError):  # it was reached; how it says goodbye does not matter
        await writer.wait_closed()
    return Finding(True, what, f"{host}:{port} reached{' over TLS' if tls else ''} in {took:.0f} ms")
