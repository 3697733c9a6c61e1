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

from poller.ports import StoreCorruptError, StoreTooNewError
from poller.stores import sqlite_path
from poller.stores.sqlite.opening import look


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check; `mend` says what to do about it."""

    ok: bool
    what: str
    found: str
    mend: str = ""


def look_at_store(url: str) -> Finding:
    """Whether the daemon could open its store. Nothing is written, and a running daemon is not disturbed."""
    path = sqlite_path(url)
    holder = _holder(path.with_name(path.name + ".lock"))
    if holder:
        return Finding(True, "store", f"{path} is held by the running daemon ({holder})")
    if not path.exists() or path.stat().st_size == 0:
        if not os.access(path.parent, os.W_OK | os.X_OK):
            mend = f"create the folder {path.parent}, owned by the daemon's user"
            return Finding(False, "store", f"{path} cannot be made", mend)
        return Finding(True, "store", f"{path} will be made at the first start")
    try:
        look(path)
    except (StoreCorruptError, StoreTooNewError) as error:
        return Finding(False, "store", str(error))
    except (OSError, sqlite3.Error) as error:
        return Finding(False, "store", f"{path}: {error}", "run the check as the daemon's user")
    return Finding(True, "store", f"{path} is sound, and no daemon holds it")


def _holder(lock: Path) -> str | None:
    """The process that holds a store's lock file; None where nobody does."""
    try:
        with lock.open("rb") as file:
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
