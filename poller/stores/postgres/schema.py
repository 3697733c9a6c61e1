"""The tables, and how an older store becomes a newer one.

A released step is never edited: a change of the tables is a new step at the end of `STEPS`. `*_run`, `run`,
`lease_until`, `due` and `schedule` are seconds (see `poller.timeline`); `*_at` and `wall` are for people.
A row of `orders` is never deleted: its number is taken for ever. Its `ended_run` says since when it is final,
and is null while it is pending and once it has been pruned. A row of `schedule` exists only while its order is
pending. `holder` is the session that holds an order or a delivery, `teller` the one that logs a notice; both are
null for nobody. Row 0 of `sessions` is what sessions leave behind that have ended. Ids below 0 are of what
was moved in from a lot's own store (see `arrivals`).
"""

from __future__ import annotations

from poller.ports import StoreTooNewError, StoreUnavailableError
from poller.stores.postgres.lines import Connection

# What is taken on is in every index at once, so there are few, and the hot ones hold pending rows alone.
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
    )""",
    "CREATE INDEX orders_state ON orders (state, id) WHERE state <> 'paid'",
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
    """CREATE TABLE deliveries (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_id text COLLATE "C" NOT NULL UNIQUE,
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
    ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000)""",
    "CREATE INDEX deliveries_due ON deliveries (due, id) WHERE state = 'pending' AND holder IS NULL",
    "CREATE INDEX deliveries_made ON deliveries (made_run) WHERE state = 'pending'",
    "CREATE INDEX deliveries_unlogged ON deliveries (id) WHERE NOT logged",
    "CREATE INDEX deliveries_holder ON deliveries (holder) WHERE holder IS NOT NULL",
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
        pending bigint NOT NULL DEFAULT 0,
        undecided bigint NOT NULL DEFAULT 0,
        undelivered bigint NOT NULL DEFAULT 0,
        given_up bigint NOT NULL DEFAULT 0
    ) WITH (fillfactor = 50)""",
    "INSERT INTO sessions (id, name, lease_until, run) VALUES (0, 'those that have ended', 'infinity', 0)",
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
STEPS = (_FIRST, _FLEET, _LOTS)
VERSION = len(STEPS)
TABLES = ("orders", "schedule", "history", "deliveries", "sessions", "errands", "outages", "rates", "version")

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('poller tables', 0))"
_HAS_TABLES = (
    "SELECT to_regclass(format('%I.version', $1::text)) IS NOT NULL, EXISTS (SELECT FROM pg_class c "
    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = ANY($2::text[]))"
)
_SCHEMA = "SELECT split_part(current_setting('search_path'), ',', 1)"


async def name(connection: Connection) -> str:
    """The schema that the tables are in, or will be."""
    return str(await connection.fetchval(_SCHEMA)).strip('" ')


async def check(connection: Connection, place: str) -> int:
    """The version of the store, 0 for a new one, read without a write.

    Raises StoreTooNewError, and StoreUnavailableError where the tables are another program's.
    """
    schema = await name(connection)
    [(ours, others)] = await connection.fetch(_HAS_TABLES, schema, list(TABLES))
    if not ours:
        if others:
            raise StoreUnavailableError(
                f"the schema {schema} in PostgreSQL at {place} has another program's tables in it: name another "
                "one with ?search_path=… in [store] url"
            )
        return 0
    version = int(await connection.fetchval("SELECT version FROM version"))
    if version > VERSION:
        raise StoreTooNewError(
            f"the store in PostgreSQL at {place} is of version {version} and this program knows {VERSION} at "
            "most: it was left untouched; install the newer program again"
        )
    return version


async def migrate(connection: Connection, place: str) -> None:
    """Bring the store to the newest version, all steps in one transaction, one daemon at a time.

    Raises as `check` does.
    """
    if await check(connection, place) == VERSION:
        return
    await connection.execute("BEGIN")
    await connection.execute(_LOCK)
    version = await check(connection, place)
    if version == 0:
        schema = await name(connection)
        quoted = await connection.fetchval("SELECT quote_ident($1)", schema)
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema):
            await connection.execute(f"CREATE SCHEMA {quoted}")  # to create none takes fewer rights
        await connection.execute("CREATE TABLE version (version integer NOT NULL)")
        await connection.execute("INSERT INTO version VALUES (0)")
    for step in STEPS[version:]:
        for statement in step:
            await connection.execute(statement)
    await connection.execute("UPDATE version SET version = $1", VERSION)
    await connection.execute("COMMIT")
