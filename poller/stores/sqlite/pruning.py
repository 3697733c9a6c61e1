"""The SQL that lets go of what is no longer needed of orders that ended long ago."""

from __future__ import annotations

import sqlite3

ENDED = "SELECT id FROM orders WHERE ended_run <= ? ORDER BY ended_run LIMIT ?"
_STEPS = (
    "DELETE FROM history WHERE order_id = ?",
    "DELETE FROM deliveries WHERE order_id = ? AND +state IN ('delivered', 'logged') AND logged = 1",
    "UPDATE orders SET ended_run = NULL WHERE id = ?",
)


def prune(connection: sqlite3.Connection, ended_by: float, limit: int) -> int:
    """Prune at most `limit` orders, the longest ended first; how many that were."""
    ended = connection.execute(ENDED, (ended_by, limit)).fetchall()
    for step in _STEPS:
        connection.executemany(step, ended)
    return len(ended)
