"""Tables in as much width as there is. Pure.

What is copied from a table (numbers, ids, times) is never broken: columns that matter less go, free text goes
over several lines, and where even that does not fit, each row becomes a paragraph.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

GAP = "  "
INDENT = "    "
LEAST_FOLDED = 24  # narrower than that, free text is no longer readable


@dataclass(frozen=True, slots=True)
class Column:
    """`drop` says when it goes where width is short: 1 first, 0 never. `fold` is for free text."""

    name: str
    drop: int = 0
    fold: bool = False


Row = Sequence[str]


def cells(text: str) -> int:
    """How many columns of a terminal a text takes; Chinese characters take two each."""
    return sum(_cells_of(char) for char in text)


def _cells_of(char: str) -> int:
    if char.isascii():
        return 1
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def padded(text: str, width: int) -> str:
    """The text with blanks up to so many columns of the terminal."""
    return text + " " * (width - cells(text))


def cut(text: str, width: int) -> str:
    """The text, or as much of it as fits, with an ellipsis."""
    return text if cells(text) <= width else _head(text, width - 1) + "…"


def folded(text: str, width: int) -> list[str]:
    """The text in lines of that width, between words where there are some; at least one line."""
    lines = []
    while cells(text) > width:
        head = _head(text, width)
        blank = len(head) if text[len(head)] == " " else head.rfind(" ")
        lines.append(text[:blank] if blank > 0 else head)
        text = text[len(lines[-1]) :].lstrip(" ")
    return [*lines, text] if text or not lines else lines


def folded_words(text: str, width: int) -> list[str]:
    """The text in lines of that width, broken at blanks alone: a word that is longer stays whole."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and cells(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _head(text: str, width: int) -> str:
    """As many characters as fit, but at least one."""
    taken = 0
    for count, char in enumerate(text):
        taken += _cells_of(char)
        if taken > width and count:
            return text[:count]
    return text


def laid_out(columns: Sequence[Column], rows: Sequence[Row], width: int | None) -> list[str]:
    """The lines of a table, its head first; `width` None stands for as wide as it gets, with every column."""
    if width is None:
        return _aligned(columns, rows, _widths(columns, rows))
    filled = [index for index, column in enumerate(columns) if not _is_idle(index, column, rows)]
    for kept in _ever_fewer(columns, filled):
        some, cut_rows = [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]
        widths = _fitted(some, _widths(some, cut_rows), width)
        if widths:
            return _aligned(some, cut_rows, widths)
    return [line for row in rows for line in _paragraph(columns, row, width)]


def _is_idle(index: int, column: Column, rows: Sequence[Row]) -> bool:
    return bool(rows) and (column.fold or column.drop > 0) and not any(row[index] for row in rows)


def _ever_fewer(columns: Sequence[Column], kept: Sequence[int]) -> Iterable[Sequence[int]]:
    yield kept
    for least in sorted({columns[index].drop for index in kept} - {0}):
        yield [index for index in kept if not 0 < columns[index].drop <= least]


def _widths(columns: Sequence[Column], rows: Sequence[Row]) -> list[int]:
    heads = [column.name for column in columns]
    return [max(map(cells, column)) for column in zip(heads, *rows, strict=True)]


def _fitted(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int] | None:
    """The widths of the columns within `width`, free text folded; None where they do not fit."""
    over = sum(widths) + len(GAP) * (len(widths) - 1) - width
    if over <= 0:
        return list(widths)
    for index, column in enumerate(columns):
        if column.fold and widths[index] - over >= LEAST_FOLDED:
            return [one - over if place == index else one for place, one in enumerate(widths)]
    return None


def _aligned(columns: Sequence[Column], rows: Sequence[Row], widths: Sequence[int]) -> list[str]:
    lines = []
    for row in [[column.name for column in columns], *rows]:
        pieces = [
            folded(text, width) if column.fold else [text]
            for column, text, width in zip(columns, row, widths, strict=True)
        ]
        for place in range(max(map(len, pieces))):
            texts = [piece[place] if place < len(piece) else "" for piece in pieces]
            lines.append(GAP.join(map(padded, texts, widths)).rstrip())
    return lines


def _paragraph(columns: Sequence[Column], row: Row, width: int) -> list[str]:
    """What is never dropped comes first, as it is; then the rest, each with its name."""
    named = list(zip(columns, row, strict=True))
    first = [text for column, text in named if text and not column.drop and not column.fold]
    rest = [f"{column.name} {text}" for column, text in named if text and column.drop and not column.fold]
    free = [text for column, text in named if text and column.fold]
    room = width - len(INDENT)
    lines = [*_packed(first, width)[:1], *(INDENT + line for line in _packed(first, width)[1:])]
    lines += [INDENT + line for line in _packed(rest, room)]
    return lines + [INDENT + line for text in free for line in folded(text, room)]


def _packed(texts: Iterable[str], width: int) -> list[str]:
    """The texts, unbroken, as many on a line as fit."""
    lines: list[str] = []
    for text in texts:
        if lines and cells(lines[-1] + GAP + text) <= width:
            lines[-1] += GAP + text
        else:
            lines.append(text)
    return lines
