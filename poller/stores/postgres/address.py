"""Where the database is: a URL without a password, and the password from elsewhere."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

SCHEMES = ("postgresql", "postgres")
SCHEMA = "poller"


class PasswordInUrlError(ValueError):
    """A password stands where everybody reads it: the URL must not be shown."""


@dataclass(frozen=True, slots=True)
class Address:
    """`url` as libpq has it, `search_path` in its query for another schema than `poller`.

    `tls` is an SSLContext, one of libpq's `sslmode`s, or None for what the URL says.
    """

    url: str
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | str | None = None

    @property
    def place(self) -> str:
        """Which server and database, for people."""
        parts = urlsplit(self.url)
        return f"{parts.netloc.rpartition('@')[2] or 'the local socket'}{parts.path}"


def parse(url: str, password: str | None = None, tls: ssl.SSLContext | str | None = None) -> Address:
    """Raises ValueError, whose text does not show the URL."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ValueError("expected postgresql://USER@HOST/DATABASE")
    if ":" in parts.netloc.rpartition("@")[0] or "password=" in parts.query:
        raise PasswordInUrlError("a password never stands in the url: name its file as password_file")
    if len(parts.path) < 2:
        raise ValueError("the url names no database: postgresql://USER@HOST/DATABASE")
    return Address(url, password, tls)
