"""What a value of the file may be: each kind says what it expects, and reads a value or says why not."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Generic, TypeVar
from urllib.parse import SplitResult, urlsplit

from yarl import URL as YARL

from poller.config.listen import Listen, is_loopback_host, parse_listen
from poller.ports.fleet import LONGEST_LEASE_S, SHORTEST_LEASE_S

LONGEST_SECONDS = 3_155_760_000  # 100 years: beyond it dates overflow

T = TypeVar("T")


class SecretItselfError(ValueError):
    """The value may be a secret that stands where the name of its file belongs: it must not be shown."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """`parse` raises ValueError, whose message, if it has one, is the reason and may be shown."""

    expected: str
    parse: Callable[[object], T]


def number(expected: str, fits: Callable[[float], bool]) -> Kind[float]:
    """A finite number, whole or not, for which `fits` holds."""

    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError  # noqa: TRY004  # one error says "not of this kind"
        if not math.isfinite(value) or not fits(value):
            raise ValueError
        return float(value)

    return Kind(expected, parse)


def whole(at_least: int) -> Kind[int]:
    """A whole number, written as one."""

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not at_least <= value < 2**31:
            raise ValueError
        return value

    return Kind(f"a whole number, at least {at_least}", parse)


def text(expected: str, parse_text: Callable[[str], T]) -> Kind[T]:
    """A string that `parse_text` can read."""

    def parse(value: object) -> T:
        if not isinstance(value, str):
            raise ValueError  # noqa: TRY004  # one error says "not of this kind"
        return parse_text(value)

    return Kind(expected, parse)


def one_of(*choices: str) -> Kind[str]:
    """One of a few words."""

    def parse(value: str) -> str:
        if value not in choices:
            raise ValueError
        return value

    return text("one of " + ", ".join(choices), parse)


def _identifier(value: str) -> str:
    if not 1 <= len(value) <= 128 or not value.isprintable() or value in {".", ".."}:
        raise ValueError
    return value


def _split(value: str) -> SplitResult:
    if any(char <= " " or char == "\x7f" for char in value):
        raise ValueError("it has white space or control characters in it")
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError
    if "@" in parts.netloc:
        raise ValueError("a URL must not carry a user name or password")
    YARL(value)  # raises ValueError for a host that no query could be sent to
    if "#" in value:
        raise ValueError("a fragment (#…) is never sent")
    return parts


def _url(value: str) -> str:
    _split(value)
    return value


def _platform_url(value: str) -> str:
    parts = _split(value)
    if parts.scheme == "http" and not is_loopback_host(parts.hostname or ""):
        raise ValueError("plain http is for loopback only")
    if "?" in value:
        raise ValueError("the daemon adds the query string itself")
    return value


def postgres_url(value: str) -> str:
    """As `text` takes it. The driver is an extra, which not every installation has."""
    if find_spec("asyncpg") is None:
        raise ValueError("the driver is not installed: pip install 'pay-partner-poller[postgres]'")
    from poller.stores.postgres.address import PasswordInUrlError, parse  # noqa: PLC0415 - it needs the driver

    try:
        return parse(value).url
    except PasswordInUrlError as error:
        raise SecretItselfError(str(error)) from None


SECONDS = number("a number of seconds above 0", lambda value: 0 < value <= LONGEST_SECONDS)
SECONDS_OR_0 = number("a number of seconds, 0 or above", lambda value: 0 <= value <= LONGEST_SECONDS)
ONE_OR_MORE = number("a number, 1 or above", lambda value: value >= 1)
FRACTION = number("a number between 0 and 1", lambda value: 0 <= value <= 1)
LEASE = number(
    f"a number of seconds from {SHORTEST_LEASE_S:g} to {LONGEST_LEASE_S:g}",
    lambda value: SHORTEST_LEASE_S <= value <= LONGEST_LEASE_S,
)
DAYS = number("a number of days, 0 or above", lambda value: 0 <= value <= LONGEST_SECONDS / 86_400)
IDENTIFIER = text("a string of 1 to 128 printable characters", _identifier)
URL = text("an http:// or https:// URL", _url)
UNREAD = text("a file", lambda _: "")  # a secret's, for who needs it not
PLATFORM_URL = text("an https:// URL (plain http on loopback only)", _platform_url)
LISTEN: Kind[Listen] = text("HOST:PORT or unix:/path", parse_listen)
