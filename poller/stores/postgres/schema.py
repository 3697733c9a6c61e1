"""The tables, and the steps in which they grow; `migration` takes them.

A released step is never edited: a change of the tables is a new step at the end of `STEPS`. Older programs use
the tables meanwhile, so a change comes in two releases. The first expands: new tables, columns and indexes that
older programs need not know, and a program that writes the old and the new. Once no older one is left, a later
release contracts: it takes away what its program neither reads nor needs to write, and can do with still there.

`*_run`, `run`, `lease_until`, `due` and `schedule` are seconds (see `poller.timeline`); `*_at` and `wall` are for
people. A row of `orders` is never deleted: its number is taken for ever. Its `ended_run` says since when it is
final, and is null while it is pending and once it has been pruned. A row of `schedule` exists only while its
order is pending. `holder` is the session that holds an order or a delivery, `teller` the one that logs a notice;
both are null for nobody. Row 0 of `sessions` is what sessions leave behind that have ended; `program` is how many
steps a session's program knows. Ids below 0 are of what was moved in from a lot's own store (see `arrivals`).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Expands:
    """What older programs go on beside. All its statements are in one transaction, which holds nobody up for long:
    none reads or writes a large table, and they lock one table that is in use at most.
    """

    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Builds:
    """An index of a table that may be large, built outside a transaction while everybody goes on."""

    name: str
    on: str  # "TABLE (COLUMNS) …"


@dataclass(frozen=True, slots=True)
class Contracts:
    """What older programs cannot go on beside, in one transaction as short as that of `Expands`.

    It waits until none of them is left. As the last steps of a program it waits while that program runs; with
    other kinds of steps behind it the program does not start before.
    """

    statements: tuple[str, ...]


Step = Expands | Builds | Contracts

LEFT_BEHIND = (
    "INSERT INTO sessions (id, name, lease_until, run, program) "
    "VALUES (0, 'those that have ended', 'infinity', 0, 0)"
)
# What is taken on is in every index at once, so there are few, and the hot ones hold pending rows alone. A row
# that leaves one of those lets a dead entry behind, which those who look there meet until the table is
# vacuumed. So that comes after so many, however large the table is; and the notices that are settled are in a
# table apart, which nobody looks through, so that the other one is small and vacuumed within minutes.
_FIRST = (
    """CREATE TABLE orders (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        park_uuid text COLLATE "C" NOT NULL,
        pay_partner text COLLATE "C" NOT NULL,
        state text NOT NULL,
        metadata text NOT NULL,
        accepted_at timestamptz NOT NULL,
        undecided_at timestamptz,
        final_at timestamptz,
        conflict_at timestamptz,
        opened_run double precision NOT NULL,
        ended_run double precision,
        polls integer NOT NULL DEFAULT 0,
        pay_serial text,
        pay_origin text,
        pay_origin_desc text,
        UNIQUE (park_uuid, pay_partner)
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500000,
        vacuum_index_cleanup = on)""",
    "CREATE INDEX orders_lot ON orders ((park_uuid || ''), id)",  # not to be tried where a number is known
    "CREATE INDEX orders_state ON orders (state, id) WHERE state <> 'pending'",
    "CREATE INDEX orders_ended ON orders (ended_run, id) WHERE ended_run IS NOT NULL",
    "CREATE INDEX orders_late ON orders (ended_run) WHERE ended_run IS NOT NULL AND undecided_at IS NOT NULL",
    "CREATE INDEX orders_conflict ON orders (conflict_at) WHERE conflict_at IS NOT NULL",
    """CREATE TABLE schedule (
        order_id bigint PRIMARY KEY,
        due double precision NOT NULL,
        opened_run double precision NOT NULL,
        holder bigint,
        polls integer NOT NULL DEFAULT 0,
        errors integer NOT NULL DEFAULT 0,
        cancelling boolean NOT NULL DEFAULT false,
        untold boolean NOT NULL DEFAULT true
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000)""",
    "CREATE INDEX schedule_due ON schedule (due, order_id) WHERE holder IS NULL",
    "CREATE INDEX schedule_fresh ON schedule (opened_run, order_id) INCLUDE (due) WHERE holder IS NULL",
    "CREATE INDEX schedule_untold ON schedule (opened_run, order_id) INCLUDE (holder) WHERE untold",
    "CREATE INDEX schedule_told ON schedule (opened_run, order_id) WHERE NOT untold",
    "CREATE INDEX schedule_holder ON schedule (holder) WHERE holder IS NOT NULL",
    """CREATE TABLE history (
        order_id bigint NOT NULL,
        n integer NOT NULL,
        count integer NOT NULL,
        first_at timestamptz NOT NULL,
        last_at timestamptz NOT NULL,
        code text,
        status text,
        message text,
        hint text,
        seqno text,
        error text,
        prompt text NOT NULL,
        PRIMARY KEY (order_id, n)
    )""",
    "CREATE SEQUENCE deliveries_id",
    """CREATE TABLE deliveries (
        id bigint NOT NULL DEFAULT nextval('deliveries_id'),
        event_id text COLLATE "C" NOT NULL,
        order_id bigint NOT NULL,
        type text NOT NULL,
        body text NOT NULL,
        made_at timestamptz NOT NULL,
        made_run double precision NOT NULL,
        state text NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        due double precision,
        holder bigint,
        last_error text,
        last_status integer,
        last_at timestamptz,
        logged boolean NOT NULL DEFAULT false,
        teller bigint
    ) PARTITION BY LIST ((state = 'pending' OR NOT logged))""",
    "ALTER SEQUENCE deliveries_id OWNED BY deliveries.id",
    """CREATE TABLE deliveries_open PARTITION OF deliveries (PRIMARY KEY (id), UNIQUE (event_id))
        FOR VALUES IN (true)
        WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000)""",
    # Without the check, queries of what is open would look here, too.
    """CREATE TABLE deliveries_settled PARTITION OF deliveries (PRIMARY KEY (id), UNIQUE (event_id),
        CHECK (state <> 'pending' AND logged AND holder IS NULL)) FOR VALUES IN (false)""",
    "CREATE INDEX deliveries_due ON deliveries_open (due, id) WHERE state = 'pending' AND holder IS NULL",
    "CREATE INDEX deliveries_made ON deliveries_open (made_run) WHERE state = 'pending'",
    "CREATE INDEX deliveries_unlogged ON deliveries_open (id) WHERE NOT logged",
    "CREATE INDEX deliveries_holder ON deliveries_open (holder) WHERE holder IS NOT NULL",
    "CREATE INDEX deliveries_order ON deliveries (order_id, id)",
    "CREATE INDEX deliveries_state ON deliveries (state, id)",
    """CREATE TABLE sessions (
        id bigint PRIMARY KEY,
        name text NOT NULL,
        lease_until double precision NOT NULL,
        dead boolean NOT NULL DEFAULT false,
        run double precision NOT NULL,
        schedule double precision,
        wall timestamptz,
        program integer NOT NULL,
        pending bigint NOT NULL DEFAULT 0,
        undecided bigint NOT NULL DEFAULT 0,
        undelivered bigint NOT NULL DEFAULT 0,
        given_up bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50)""",
    LEFT_BEHIND,
)
# Errands are looked at as a whole, and are few. `reserved` is in seconds of PostgreSQL's own clock.
_FLEET = (
    "CREATE TABLE errands (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, order_id bigint NOT NULL, "
    "prompt text NOT NULL)",
    """CREATE TABLE outages (
        one boolean PRIMARY KEY CHECK (one),
        since double precision NOT NULL,
        last_canary double precision NOT NULL,
        canaries integer NOT NULL,
        wish double precision NOT NULL,
        busy_until double precision NOT NULL DEFAULT 0,
        kind text,
        cause text
    )""",
    "CREATE TABLE rates (account text PRIMARY KEY, reserved double precision NOT NULL) WITH (fillfactor = 50)",
)
_LOTS = ("CREATE INDEX orders_pending ON orders (park_uuid, opened_run, id) WHERE state = 'pending'",)
STEPS: list[Step] = [Expands(_FIRST), Expands(_FLEET), Expands(_LOTS)]
TABLES = ("orders", "schedule", "history", "deliveries", "sessions", "errands", "outages", "rates", "version")


def newest() -> int:
    """The version of the tables once all steps that this program knows are taken: what it counts as, too."""
    return len(STEPS)


def needed() -> int:
    """The version without which this program does not start: all but the contracting steps at the end."""
    return max((number for number, step in enumerate(STEPS, 1) if not isinstance(step, Contracts)), default=0)


def usable_from(version: int) -> int:
    """The oldest program that may use tables of that version."""
    return max(
        (number for number, step in enumerate(STEPS[:version], 1) if isinstance(step, Contracts)), default=1
    )
