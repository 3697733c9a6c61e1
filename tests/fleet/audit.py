"""The database's own record of who writes what, by triggers, and what of it is stale.

A daemon holds orders and deliveries in the name of a session, which others mark dead once its lease has run out.
Each line of the record is written in the transaction that it tells of, so that there is one for what was committed
and none for what was undone; a failover loses both or neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.integration.postgres_server import beside

BEGAN, FENCED, DIED = "began", "fenced", "died"  # of sessions
FORGOTTEN = "deliveries forgotten"  # who is to log them, by whoever buries a session

_SETUP = f"""
CREATE TABLE audit (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    txn text NOT NULL DEFAULT pg_current_xact_id()::text,
    what text NOT NULL,
    session bigint,
    rows integer NOT NULL
);
CREATE FUNCTION audit_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit (what, session, rows) VALUES (
        CASE WHEN TG_OP = 'INSERT' THEN '{BEGAN}' WHEN NEW.dead AND NOT OLD.dead THEN '{DIED}'
        WHEN NOT NEW.dead THEN '{FENCED}' ELSE 'touched' END, NEW.id, 1);
    RETURN NULL;
END $$;
CREATE FUNCTION audit_held() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit (what, session, rows)
    SELECT TG_TABLE_NAME || ' ' || lower(TG_OP), holder, count(*) FROM before GROUP BY holder;
    RETURN NULL;
END $$;
CREATE FUNCTION audit_delivery() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    forgotten CONSTANT boolean := (SELECT count(teller) FROM before) > (SELECT count(teller) FROM after);
    sent CONSTANT boolean := (SELECT (count(holder), sum(holder), sum(attempts), count(due)) FROM before)
        IS DISTINCT FROM (SELECT (count(holder), sum(holder), sum(attempts), count(due)) FROM after);
BEGIN
    INSERT INTO audit (what, session, rows)
    SELECT CASE WHEN forgotten THEN '{FORGOTTEN}' WHEN sent THEN 'deliveries update' ELSE 'deliveries logged' END,
        CASE WHEN sent THEN holder ELSE teller END, count(*)
    FROM before GROUP BY 1, 2;
    RETURN NULL;
END $$;
CREATE FUNCTION audit_rows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit (what, rows) SELECT TG_TABLE_NAME || ' ' || lower(TG_OP), count(*) FROM after
    HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON sessions FOR EACH ROW WHEN (NEW.id <> 0)
    EXECUTE FUNCTION audit_session();
CREATE TRIGGER audit_update AFTER UPDATE ON schedule REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION audit_held();
CREATE TRIGGER audit_delete AFTER DELETE ON schedule REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION audit_held();
CREATE TRIGGER audit_update AFTER UPDATE ON deliveries REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION audit_delivery();
CREATE TRIGGER audit_insert AFTER INSERT ON deliveries REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION audit_rows();
CREATE TRIGGER audit_insert AFTER INSERT ON orders REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION audit_rows();
CREATE TRIGGER audit_update AFTER UPDATE ON orders REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION audit_rows();
CREATE TRIGGER audit_insert AFTER INSERT ON history REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION audit_rows();
"""
_SESSIONS = frozenset({BEGAN, FENCED, DIED, "touched"})


class Line(NamedTuple):
    """What a statement did in the transaction `txn`; `session` is the one that held the rows before
    (or was to log them, or itself)."""

    n: int
    txn: str
    what: str
    session: int | None
    rows: int


@dataclass(frozen=True, slots=True)
class Audit:
    """`transactions` are those that wrote orders or deliveries; `stale` says what each stale write was."""

    transactions: int
    stale: list[str]
    deaths: int


async def begin(url: str) -> None:
    """Have the store's database keep its record from now on."""
    async with beside(url) as connection:
        await connection.execute(_SETUP)


async def read(url: str) -> list[Line]:
    """All of it, oldest first."""
    async with beside(url) as connection:
        return [
            Line(*row)
            for row in await connection.fetch("SELECT n, txn, what, session, rows FROM audit ORDER BY n")
        ]


def judge(lines: Sequence[Line]) -> Audit:
    """Find what was written in the name of a dead session, or by one of what another one that lived held."""
    fences: dict[str, set[int]] = defaultdict(set)
    died: dict[int, int] = {}
    for line in lines:
        if line.session is not None and line.what in (BEGAN, FENCED):
            fences[line.txn].add(line.session)
        elif line.session is not None and line.what == DIED:
            died[line.session] = line.n
    written = {line.txn for line in lines if line.what not in _SESSIONS}
    return Audit(len(written), list(_stale(lines, fences, died)), len(died))


def _stale(lines: Iterable[Line], fences: dict[str, set[int]], died: dict[int, int]) -> Iterable[str]:
    for line in lines:
        mine = fences.get(line.txn, set())
        if line.what == FORGOTTEN:
            continue
        if line.session is None:
            if not mine:
                yield f"{line.rows} rows ({line.what}) in the name of no session, transaction {line.txn}"
        elif line.what == FENCED:
            if died.get(line.session, line.n) < line.n:
                yield f"session {line.session} wrote after its death, transaction {line.txn}"
        elif line.what in _SESSIONS or line.session in mine:
            continue
        elif died.get(line.session, line.n) >= line.n:
            yield (
                f"{line.rows} rows ({line.what}) that session {line.session} held, in the name of "
                f"{', '.join(map(str, mine)) or 'none'}, transaction {line.txn}"
            )
