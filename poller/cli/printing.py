"""What commands print: tables for people, and one JSON object a line for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from poller.cli.layout import Column, cells, folded_words, laid_out, padded


def write_what_there_are_letters_for() -> None:
    """Let no character end a command that stdout or stderr has no letter for (LC_ALL=POSIX)."""
    for stream in (sys.stdout, sys.stderr):
        if not stream.encoding.lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it is a TextIOWrapper


def print_json(document: object) -> None:
    """One object on one line."""
    click.echo(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


def terminal_width() -> int | None:
    """The width of the terminal that stdout is; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """A table: as wide as the terminal is, or as it gets where stdout is none."""
    texts = [[shown(value) for value in row] for row in rows]
    for line in laid_out(columns, texts, terminal_width()):
        click.echo(line)


def print_facts(facts: Mapping[str, object]) -> None:
    """A line for each thing that has something to say."""
    said = {name: shown(value) for name, value in facts.items() if value not in (None, "", {})}
    width = max(map(cells, said), default=0)
    for name, text in said.items():
        click.echo(f"{padded(name, width)}  {text}")


def print_text(text: str) -> None:
    """A sentence, broken between words alone."""
    width = terminal_width()
    for line in folded_words(text, width) if width else [text]:
        click.echo(line)


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
    error = answer.get("error")
    coded = [f"{name} {answer[name]}" for name in ("code", "status") if answer.get(name) is not None]
    said = [str(answer[name]) for name in ("message", "hint") if answer.get(name) is not None]
    if error:
        return ", ".join([str(error), *(text for text in said if text not in error)])
    return ", ".join([*coded, *said])
