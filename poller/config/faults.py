"""What is wrong with a configuration, gathered so that a person sees all of it at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_USER_INFO = re.compile(r"^([^@]*?//)?.*@", re.DOTALL)  # a password may have any character in it
_PASSWORD = re.compile(r"(?i)(password\s*=\s*).*", re.DOTALL)
_LONGEST_SHOWN = 80


class ConfigError(Exception):
    """The configuration is wrong. `faults` has a line for each fault: file, key, what was expected and found."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class Faults:
    """The faults found so far in the file at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []

    def add(self, where: str, what: str) -> None:
        """Note one fault; `where` is the key as `[section] key`."""
        self._lines.append(f"{self._path}: {where}: {what}" if where else f"{self._path}: {what}")

    def raise_if_any(self) -> None:
        """Raise ConfigError with everything noted."""
        if self._lines:
            raise ConfigError(self._lines)


def shown(value: object) -> str:
    """A value of the file as a fault shows it: short, on one line, and without what may be a secret."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)[:_LONGEST_SHOWN]
        case str() if value.startswith("whsec_"):
            return "a secret itself"
        case str():
            text = _on_one_line(_PASSWORD.sub(r"\1***", _USER_INFO.sub(r"\1***@", value)))
            return f'"{text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"}"'
        case dict():
            return "a table"
        case list():
            return "an array"
        case _:
            return f"a {type(value).__name__}"


def _on_one_line(text: str) -> str:
    """The text with control characters written out, so that it stays on its line."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
