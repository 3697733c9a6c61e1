"""What commands print: tables for people, and one JSON object a line for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_json(document: object) -> None:
    """One object on one line."""
    click.echo(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table: drawn on a terminal, else aligned plain text."""
    texts = [[shown(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in texts:
            table.add_row(*(Text(text) for text in row))
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for row in [list(columns), *texts]:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def print_facts(facts: Mapping[str, object]) -> None:
    """A line for each thing that has something to say."""
    width = max(map(len, facts))
    for name, value in facts.items():
        if value not in (None, "", {}):
            click.echo(f"{name.ljust(width)}  {shown(value)}")


def shown(value: object) -> str:
    """A value on one line; control characters in the platform's texts do not reach the terminal."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def to_the_second(timestamp: str | None) -> str:
    """A time as a table has room for it: in UTC, without milliseconds."""
    return timestamp[:19].replace("T", " ") + "Z" if timestamp else ""


def answer_text(answer: Mapping[str, Any] | None) -> str:
    """A reply, or why there was none, in a few words."""
    if answer is None:
        return ""
    parts = [f"{name} {answer[name]}" for name in ("code", "status") if answer.get(name) is not None]
    parts += [str(answer[name]) for name in ("error", "message", "hint") if answer.get(name) is not None]
    return ", ".join(parts)
