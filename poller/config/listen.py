"""Where the intake listens: an address of this machine or a socket file."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass

LONGEST_SOCKET_PATH = 107  # bytes; sun_path of unix(7), less its NUL

_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Listen:
    """`host` (an IPv6 address without its brackets) and `port`, or `unix_path`, which is absolute."""

    host: str = ""
    port: int = 0
    unix_path: str | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect over TCP. False for a socket file, which is no TCP address."""
        return self.unix_path is None and is_loopback_host(self.host)

    def __str__(self) -> str:
        if self.unix_path is not None:
            return f"unix:{self.unix_path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_loopback_host(host: str) -> bool:
    """Whether a host name or address is this machine and nothing else."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def parse_listen(text: str) -> Listen:
    """Read HOST:PORT, [IPV6]:PORT or unix:/path. Raises ValueError with the reason."""
    if text.startswith("unix:"):
        return Listen(unix_path=_socket_path(text.removeprefix("unix:")))
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65_535:
        raise ValueError("there is no port between 1 and 65535 after the last colon")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        ipaddress.IPv6Address(host)
    elif not _HOST_NAME.fullmatch(host):
        raise ValueError("there is no host before the port; an IPv6 address stands in brackets")
    return Listen(host=host, port=int(port))


def _socket_path(path: str) -> str:
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ValueError("the path of a socket file is absolute")
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
        raise ValueError(f"the path of a socket file has at most {LONGEST_SOCKET_PATH} bytes")
    return path
