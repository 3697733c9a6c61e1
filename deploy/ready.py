#!/usr/bin/python3 -I
"""Asks the daemon of this machine whether it can take orders on: prints what /readyz says, exit 0 where it can."""
# ruff: noqa: T201

from __future__ import annotations

import http.client
import socket
import sys
import tomllib
from pathlib import Path

CONFIG = Path("/etc/poller/poller.toml")
PATIENCE_S = 5.0


def main() -> int:
    listen = tomllib.loads(CONFIG.read_text()).get("intake", {}).get("listen", "127.0.0.1:8710")
    try:
        connection = connect(listen)
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        print(answer.status, answer.read(500).decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        print(f"{listen}: {error}")
        return 1
    return 0 if answer.status == http.client.OK else 1


def connect(listen: str) -> http.client.HTTPConnection:
    """A connection to where the configuration says that the daemon listens. Raises OSError."""
    if not listen.startswith("unix:"):
        host, _, port = listen.rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host)  # noqa: S104  # it is asked on loopback
        return http.client.HTTPConnection(host.strip("[]"), int(port), timeout=PATIENCE_S)
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(PATIENCE_S)
    connection.sock.connect(listen.removeprefix("unix:"))
    return connection


if __name__ == "__main__":
    sys.exit(main())
