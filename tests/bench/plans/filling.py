"""A store as a fleet leaves it after years: nearly all orders final, the oldest pruned, some pending."""

from __future__ import annotations

from dataclasses import dataclass

from poller.stores.postgres.connection import Connection

LOTS = 200
A_DAY = 1_000_000  # orders taken on
PER_S = A_DAY / 86_400
DEAD = 1  # the session of a daemon that was killed
HELD = 200  # orders and deliveries that it held


@dataclass(frozen=True, slots=True)
class Size:
    """How many rows a store has. Orders have ids from 1 in the order of taking on; the last ones are pending."""

    rows: int

    @property
    def orders(self) -> int:
        return self.rows * 2 // 5

    @property
    def kept(self) -> int:
        """Of the final ones, how many have their history and their notice still."""
        return self.orders // 2

    @property
    def pending(self) -> int:
        return self.orders // 40

    @property
    def undelivered(self) -> int:
        """Of the last notices, how many are still to be sent."""
        return self.pending // 10 + 2 * HELD

    @property
    def final(self) -> int:
        return self.orders - self.pending

    @property
    def first_kept(self) -> int:
        return self.final - self.kept + 1

    @property
    def run(self) -> float:
        """The fleet's running time: it has done nothing but this."""
        return self.orders / PER_S


# $ stands for a number of order: a lot's numbers are in no order, which is hardest on their index.
LOT = "overlay(md5('lot ' || ($ % {lots})) placing '-' from 9 for 0)"
NUMBER = "upper(left(md5('order ' || $), 24))"
EVENT = "md5('event ' || $)"


def lot(number: str) -> str:
    """SQL for the lot of an order."""
    return LOT.replace("$", number).format(lots=LOTS)


def partner(number: str) -> str:
    """SQL for the number of an order."""
    return NUMBER.replace("$", number)


def event(number: str) -> str:
    """SQL for the id of an order's notice."""
    return EVENT.replace("$", number)


_STATE = (
    "CASE WHEN i % 20 = 0 THEN 'failed' WHEN i % 1000 = 1 THEN 'cancelled' WHEN i % 1000 = 2 THEN 'expired' "
    "WHEN i % 5000 = 3 THEN 'rejected' ELSE 'paid' END"
)
_METADATA = """'{"lane":"' || i % 9 || '","plate":"粤B' || i % 99999 || '"}'"""
_RUN = f"i / {PER_S}"
_AT = f"timestamptz '2026-01-01' + {_RUN} * interval '1 second'"
_ASKED = (
    "INSERT INTO history (order_id, n, count, first_at, last_at, code, status, message, hint, seqno, prompt) "
    f"SELECT i, n, 3 - n, {_AT}, {_AT}, '1001', CASE n WHEN 1 THEN '0' ELSE '1' END, 'SUCCESS', '处理中', "
    "left(md5('seqno ' || i), 20), 'schedule' "
)


def statements(size: Size) -> list[str]:
    """What fills the tables."""
    final = f"FROM generate_series(1, {size.final}) AS i"
    kept = f"FROM generate_series({size.first_kept}, {size.final}) AS i"
    pending = f"FROM generate_series({size.final + 1}, {size.orders}) AS i"
    is_open = f"i > {size.final - size.undelivered}"
    return [
        "INSERT INTO orders (id, park_uuid, pay_partner, state, metadata, accepted_at, undecided_at, final_at, "
        "conflict_at, opened_run, ended_run, polls, pay_serial, pay_origin, pay_origin_desc) OVERRIDING SYSTEM "
        f"VALUE SELECT i, {lot('i')}, {partner('i')}, {_STATE}, {_METADATA}, {_AT}, CASE WHEN i % 50 = 0 "
        f"THEN {_AT} END, {_AT}, CASE WHEN i % 100000 = 0 THEN {_AT} END, {_RUN}, CASE WHEN "
        f"i >= {size.first_kept} THEN {_RUN} + i % 60 END, 3 + i % 9, '20260101' || i, '4', '支付宝' {final}",
        "INSERT INTO orders (id, park_uuid, pay_partner, state, metadata, accepted_at, undecided_at, opened_run) "
        f"OVERRIDING SYSTEM VALUE SELECT i, {lot('i')}, {partner('i')}, 'pending', {_METADATA}, {_AT}, "
        f"CASE WHEN i % 10 = 0 THEN {_AT} END, {_RUN} {pending}",
        "INSERT INTO schedule (order_id, due, opened_run, holder, polls, errors, untold) "
        f"SELECT i, {size.run} + hashint4(i) % 900, {_RUN}, CASE WHEN i % 10 = 1 "
        f"AND i <= {size.final + HELD * 10} THEN {DEAD} END, 3, 0, i % 10 <> 0 {pending}",
        f"{_ASKED} {kept}, generate_series(1, 2) AS n",
        f"{_ASKED} {pending}, generate_series(1, 1) AS n",
        "INSERT INTO deliveries (id, event_id, order_id, type, body, made_at, made_run, state, attempts, due, "
        f"holder, last_status, last_at, logged) SELECT i, {event('i')}, i, 'payment.paid', "
        f"repeat('{{\"type\":\"payment.paid\"}}', 20), {_AT}, {_RUN}, CASE WHEN {is_open} THEN 'pending' "
        f"WHEN i % 10000 = 7 THEN 'dead' ELSE 'delivered' END, 1, CASE WHEN {is_open} THEN {size.run} "
        f"+ hashint4(i) % 60 END, CASE WHEN i > {size.final - HELD} THEN {DEAD} END, 200, {_AT}, "
        f"i < {size.final} {kept}",
    ]


SESSIONS = (
    "INSERT INTO sessions (id, name, lease_until, run, schedule, wall, program, pending) "
    "VALUES ($1, 'daemon', $2 + 1e6, $2, $2, now(), 1, 0)"
)
_INDEXES = (
    "SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text, "
    "replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON '), c.conname, pg_get_constraintdef(c.oid) "
    "FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid "
    "LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid WHERE t.relnamespace = current_schema()::regnamespace "
    "AND NOT x.relispartition AND t.relname ~ '^(orders|schedule|history|deliveries)'"
)


async def fill(connection: Connection, size: Size) -> None:
    """Fill the tables of an empty store, indexes last, and vacuum them."""
    indexes = await connection.fetch(_INDEXES)
    for index, table, _, constraint, _ in indexes:
        drop = f"ALTER TABLE {table} DROP CONSTRAINT {constraint}" if constraint else f"DROP INDEX {index}"
        await connection.execute(drop)
    await connection.execute("BEGIN; TRUNCATE orders, schedule, history, deliveries")  # so none of it is logged
    for sql in statements(size):
        await connection.execute(sql)
    await connection.execute("COMMIT")
    for _, table, index, constraint, of in indexes:
        await connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {constraint} {of}" if constraint else index)
    await number_from(connection, size.orders)
    await connection.execute("INSERT INTO rates VALUES ('account', 0)")
    for number in (DEAD, DEAD + 1):
        await connection.execute(SESSIONS, number, size.run)
    await connection.execute("VACUUM (ANALYZE)")


async def number_from(connection: Connection, last: int) -> None:
    """Give the ids above `last` to what comes, or higher ones."""
    for name in ("orders_id_seq", "deliveries_id"):
        await connection.execute(f"SELECT setval('{name}', greatest(nextval('{name}'), {last}))")


async def rows(connection: Connection) -> dict[str, int]:
    """How many there are, counted."""
    tables = ("orders", "schedule", "history", "deliveries")
    return {table: int(await connection.fetchval(f"SELECT count(*) FROM {table}")) for table in tables}
