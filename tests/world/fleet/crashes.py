"""What PostgreSQL forgets in a crash: the last of what was committed without waiting for the disk.

Each change of a row is noted as its transaction commits, in the order of the commits, and taken back from the end.
"""

from __future__ import annotations

WRITTEN_S = 0.6  # after which PostgreSQL has all on disk: three times its wal_writer_delay

# Its statistics begin anew with a crash, which is how the store tells one.
DEFINITIONS = """
CREATE TABLE pg_stat_bgwriter (stats_reset bigint NOT NULL);
CREATE TABLE commits (
    n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, transaction xid8, waited boolean, at float8,
    changed text, before text, after text
);
CREATE FUNCTION note_commit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO fleet.commits (transaction, waited, at, changed, before, after) VALUES (
        pg_current_xact_id(), current_setting('synchronous_commit') <> 'off',
        current_setting('world.now', true)::float8, TG_TABLE_NAME, OLD::text, NEW::text);
    RETURN NULL; END $$;
CREATE FUNCTION forget(since bigint) RETURNS void LANGUAGE plpgsql SET session_replication_role = replica AS $$
DECLARE c record; gone bigint; BEGIN
    FOR c IN SELECT * FROM fleet.commits WHERE n >= since ORDER BY n DESC LOOP
        IF c.after IS NOT NULL THEN
            EXECUTE format('DELETE FROM fleet.%1$I x WHERE x = %2$L::fleet.%1$I', c.changed, c.after);
            GET DIAGNOSTICS gone = ROW_COUNT;
            IF gone <> 1 THEN RAISE 'there are % of % in %', gone, c.after, c.changed; END IF;
        END IF;
        IF c.before IS NOT NULL THEN
            EXECUTE format('INSERT INTO fleet.%1$I OVERRIDING SYSTEM VALUE SELECT (%2$L::fleet.%1$I).*',
                c.changed, c.before);
        END IF;
    END LOOP; END $$;
"""
WATCH = (
    "CREATE CONSTRAINT TRIGGER note_commit AFTER INSERT OR UPDATE OR DELETE ON {table} "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note_commit()"
)
CLEAN = "TRUNCATE commits, pg_stat_bgwriter RESTART IDENTITY; INSERT INTO pg_stat_bgwriter VALUES (0)"
# Of each transaction that may be forgotten, the first row, in the order of the commits.
UNSURE = (
    "SELECT min(n) FROM commits WHERE n > (SELECT coalesce(max(n), 0) FROM commits WHERE waited OR at < $1) "
    "GROUP BY transaction ORDER BY min(n)"
)
FORGET = "SELECT forget($1)"
NEXT_LIFE = "DELETE FROM commits; UPDATE pg_stat_bgwriter SET stats_reset = stats_reset + 1"
