"""Where the database is: a URL without a password, the servers that it names, and the password from elsewhere."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES = ("postgresql", "postgres")
SCHEMA = "poller"
READ_WRITE = "read-write"
TARGETS = ("any", "primary", READ_WRITE)
VERIFIED = ("verify-full", "verify-ca")
WEAK = ("disable", "allow", "prefer", "require")

_NO_PASSWORD = "a password never stands in the url: name its file as password_file"  # noqa: S105 - it is none
_SERVER = re.compile(r"(\[[^\]]+\]|[^:]*)(?::([0-9]{1,5}))?")


class PasswordInUrlError(ValueError):
    """A password stands where everybody reads it: the URL must not be shown."""


@dataclass(frozen=True, slots=True)
class Server:
    """`host` is a name, an address or the folder of a socket; None is what the driver takes for the nearest."""

    host: str | None
    port: int | None

    @property
    def is_here(self) -> bool:
        """Whether the way to it is this machine's alone."""
        if self.host is None or self.host.startswith("/") or self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.host is None:
            return "the local socket"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """`url` as libpq has it, `search_path` in its query for another schema than `poller`.

    `servers` are tried in turn for one that `target`, one of `TARGETS`, allows. `mode` is libpq's `sslmode`, and
    None where the url says nothing. `tls` is an SSLContext or an `sslmode`, in place of the url's.
    """

    url: str
    servers: tuple[Server, ...]
    target: str
    mode: str | None = None
    authority: str | None = None  # the file of the CAs to believe; None for the system's
    identity: tuple[str, str] | None = None  # the files of the daemon's own certificate and key
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | str | None = None

    @property
    def place(self) -> str:
        """Which servers and database, for people."""
        parts = urlsplit(self.url)
        return f"{','.join(map(str, self.servers))}{parts.path}"

    @property
    def unverified(self) -> tuple[Server, ...]:
        """Servers on other machines that anybody could pass himself off as, since the url wants it so."""
        if self.tls is not None or self.mode not in WEAK:
            return ()
        return tuple(server for server in self.servers if not server.is_here)


def parse(url: str, password: str | None = None, tls: ssl.SSLContext | str | None = None) -> Address:
    """Raises ValueError, whose text does not show the URL."""
    try:
        parts = urlsplit(url)
    except ValueError:  # whose text may show the password
        raise ValueError("it is no URL: postgresql://USER@HOST/DATABASE") from None
    if parts.scheme not in SCHEMES:
        raise ValueError("expected postgresql://USER@HOST/DATABASE")
    if _has_password(url):
        raise PasswordInUrlError(_NO_PASSWORD)
    hosts = parts.netloc.rpartition("@")[2]
    if len(parts.path) < 2:
        raise ValueError("the url names no database: postgresql://USER@HOST/DATABASE")
    try:
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ValueError("what follows the ? is not KEY=VALUE&KEY=VALUE") from None
    servers = _servers(hosts, query)
    target = query.get("target_session_attrs", READ_WRITE if len(servers) > 1 else "any")
    if target not in TARGETS:
        raise ValueError("the daemon writes: target_session_attrs=read-write is for it")
    mode = query.get("sslmode")
    if mode is not None and mode not in VERIFIED + WEAK:
        raise ValueError(f"sslmode is one of {', '.join(VERIFIED + WEAK)}")
    authority = query.get("sslrootcert", "system")
    identity = (query["sslcert"], query.get("sslkey", query["sslcert"])) if "sslcert" in query else None
    for path in (authority, *(identity or ())):
        if path != "system" and not path.startswith("/"):
            raise ValueError("sslrootcert, sslcert and sslkey are absolute paths (sslrootcert may be system)")
    return Address(
        url, servers, target, mode, None if authority == "system" else authority, identity, password, tls
    )


def _has_password(url: str) -> bool:
    """Whether there may be one, also where a / or # or ? in it makes another part of the url of its rest."""
    before_host = url.partition("://")[2].rpartition("@")[0]
    return ":" in unquote(before_host) or "password=" in unquote(url).lower()


def _servers(hosts: str, query: dict[str, str]) -> tuple[Server, ...]:
    """Those of `HOST:PORT,…`, or of libpq's `host` and `port` in the query."""
    named = hosts or query.get("host", "")
    pairs = [_server(text) for text in named.split(",")]
    ports = [_port(port) for port in query["port"].split(",")] if query.get("port") else [None]
    if len(ports) == 1:
        ports *= len(pairs)
    if len(ports) != len(pairs):
        raise ValueError("there are as many ports as hosts, or one for all")
    if len(pairs) > 1 and any(server.host is None for server in pairs):
        raise ValueError("one of the hosts between the commas is empty")
    return tuple(Server(server.host, server.port or port) for server, port in zip(pairs, ports, strict=True))


def _server(text: str) -> Server:
    if text.startswith("/"):
        return Server(text, None)
    match = _SERVER.fullmatch(text)
    if match is None:
        raise ValueError("each host is HOST or HOST:PORT; an IPv6 address stands in brackets")
    host, port = match.groups()
    return Server(unquote(host).strip("[]") or None, None if port is None else _port(port))


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65_535:
        raise ValueError("a port is between 1 and 65535")
    return int(text)
