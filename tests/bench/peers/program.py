"""What the program of a peer is told, and the turns that it takes with the one who measures it.

It says a line on its stdout and goes on at a line on its stdin: once all orders are in its queue, and once every
outcome is recorded. Between the two it is measured. At last it says how many outcomes its store holds.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from tests.bench import scripted

HANDED_IN = "handed in"
ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Course:
    """`store` is a folder, or the URL of a PostgreSQL database; `connections` how many queries may run at once."""

    url: str
    store: str
    connections: int
    numbers: list[str]


def course() -> Course:
    """From the command line: URL STORE CONNECTIONS ORDERS QUERIES."""
    url, store, *rest = sys.argv[1:]
    connections, orders, queries = map(int, rest)
    return Course(url, store, connections, [scripted.after(queries, index) for index in range(orders)])


def handed_in() -> None:
    _turn(HANDED_IN)


def ended() -> None:
    _turn(ENDED)


def recorded(outcomes: int) -> None:
    """How many orders the store says are paid."""
    _turn(str(outcomes))


def _turn(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()
    sys.stdin.readline()
