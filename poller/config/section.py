"""One table of the file, read key by key, so that every key is one line where it is used."""

from __future__ import annotations

import difflib
from typing import TypeVar

from poller.config.faults import Faults, shown
from poller.config.kinds import Kind, SecretItselfError

T = TypeVar("T")


class Section:
    """A table called `label` in faults. A value that is wrong is noted there, and a stand-in goes on for it."""

    def __init__(self, label: str, value: object, faults: Faults) -> None:
        self._label = label
        self._faults = faults
        self._known: list[str] = []
        self._wrong: set[str] = set()
        self._table: dict[str, object] = {}
        self._is_table = isinstance(value, dict)
        if isinstance(value, dict):
            self._table = value
        else:
            faults.add(label, f"expected a table, found {shown(value)}")

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def optional(self, key: str, kind: Kind[T], default: T) -> T:
        """The value of a key, or its default where it is left out."""
        self._known.append(key)
        if key not in self._table:
            return default
        value = self._table[key]
        try:
            return kind.parse(value)
        except ValueError as error:
            why = f": {error}" if str(error) else ""
            found = "what may be a secret itself" if isinstance(error, SecretItselfError) else shown(value)
            self.fault(key, f"expected {kind.expected}, found {found}{why}")
            return default

    def required(self, key: str, kind: Kind[T], stand_in: T) -> T:
        """The value of a key that must be there."""
        if self._is_table and key not in self._table:
            self.fault(key, f"expected {kind.expected}, found nothing")
        return self.optional(key, kind, stand_in)

    def fault(self, key: str, what: str) -> None:
        """Note what is wrong with a key."""
        self._wrong.add(key)
        self._faults.add(f"{self._label} {key}", what)

    def sound(self, *keys: str) -> bool:
        """Whether none of these keys has a fault, so that comparing their values says something."""
        return self._wrong.isdisjoint(keys)

    def close(self) -> None:
        """Note every key of the table that nobody asked for."""
        for key in self._table:
            if key not in self._known:
                self._faults.add(f"{self._label} {key}", f"unknown key{_did_you_mean(key, self._known, '{}')}")


class Document:
    """The whole file: its tables by name."""

    def __init__(self, tables: dict[str, object], faults: Faults) -> None:
        self._tables = tables
        self._faults = faults
        self._known: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._tables

    def section(self, name: str) -> Section:
        """The table `[name]`; an empty one where the file has none."""
        self._known.append(name)
        return Section(f"[{name}]", self._tables.get(name, {}), self._faults)

    def sections(self, name: str) -> list[Section]:
        """The tables `[[name]]`, in order, of which there must be one at least."""
        self._known.append(name)
        value = self._tables.get(name, [])
        if not isinstance(value, list) or not value:
            found = shown(value) if value else "none"
            self._faults.add(f"[[{name}]]", f"expected [[{name}]] (two brackets) at least once, found {found}")
            return []
        return [Section(f"[[{name}]] #{at}", table, self._faults) for at, table in enumerate(value, 1)]

    def close(self) -> None:
        """Note every table, and every key outside of one, that nobody asked for."""
        for name, value in self._tables.items():
            if name in self._known:
                continue
            if isinstance(value, dict | list):
                self._faults.add(f"[{name}]", f"unknown section{_did_you_mean(name, self._known, '[{}]')}")
            else:
                self._faults.add(name, "unknown key outside of any section")


def _did_you_mean(name: str, known: list[str], form: str) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f", did you mean {form.format(close[0])}?"
    return ", expected one of " + ", ".join(form.format(one) for one in known)
