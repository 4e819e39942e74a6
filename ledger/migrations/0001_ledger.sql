-- The ledger's tables, roles and guards. Every key starts with the log, so tables partition or distribute by it.

-- Roles. Attributes such as BYPASSRLS are not inherited, so services SET ROLE to these after login.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['tally_owner', 'tally_writer', 'tally_eraser', 'tally_auditor', 'tally_reader', 'tally_api'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END
$$;
ALTER ROLE tally_writer BYPASSRLS;   -- COPY FROM refuses tables with row security otherwise
ALTER ROLE tally_auditor BYPASSRLS;  -- reads all, writes nothing
ALTER ROLE tally_eraser BYPASSRLS;   -- content only
GRANT tally_reader TO tally_api;

-- Tenants as the operator names them; the slug is what other readers of the heads log see.
CREATE TABLE tenants (
    tenant      text PRIMARY KEY,
    slug        text NOT NULL UNIQUE,
    shards      integer NOT NULL DEFAULT 1 CHECK (shards BETWEEN 1 AND 1024),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row per log: what it is, and its head. The row lock on it makes one writer at a time.
CREATE TABLE logs (
    log            text PRIMARY KEY,                   -- origin
    class          text NOT NULL CHECK (class IN ('tenant', 'intake', 'system', 'heads')),
    tenant         text REFERENCES tenants (tenant),
    shard          integer NOT NULL DEFAULT 0,
    tree_size      bigint NOT NULL DEFAULT 0 CHECK (tree_size >= 0),
    root_hash      bytea NOT NULL DEFAULT sha256(''::bytea),
    edge           bytea NOT NULL DEFAULT ''::bytea,   -- the partial tiles at the right edge, lowest level first
    recorded       timestamptz NOT NULL DEFAULT '1970-01-01T00:00:00Z',  -- newest `recorded` in the log
    erasure_epoch  bigint NOT NULL DEFAULT 0,
    CHECK ((class = 'tenant') = (tenant IS NOT NULL)),
    UNIQUE (tenant, shard)
) WITH (fillfactor = 50);

-- Where a run lives. Insert only: a run's log is fixed when it is first seen.
CREATE TABLE runs (
    tenant  text NOT NULL,
    run     text NOT NULL,
    log     text NOT NULL,
    PRIMARY KEY (tenant, run)
);

-- The record. `leaf` is the evidence; the other columns repeat it for queries and are checked against it.
CREATE TABLE entries (
    log       text NOT NULL,
    index     bigint NOT NULL,
    id        uuid,             -- null only in the heads log, whose leaves are signed notes
    kind      text,
    run       text,
    run_seq   bigint,
    recorded  timestamptz,
    leaf      bytea NOT NULL,
    PRIMARY KEY (log, index)
);
ALTER TABLE entries ALTER COLUMN leaf SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX entries_id ON entries (log, id);
CREATE UNIQUE INDEX entries_run ON entries (log, run, run_seq) WHERE run IS NOT NULL;
CREATE INDEX entries_rejected ON entries (log, index) WHERE kind = 'rejected';  -- the dead-letter list

-- What leaves commit to, encrypted: one row per entry that came from an event or holds content.
-- The three arrays are parallel. Erasure sets an element of `sealed` to null and the fingerprint to null.
CREATE TABLE content (
    log          text NOT NULL,
    index        bigint NOT NULL,
    fingerprint  bytea,                      -- advisory: recognizes a duplicate
    pointers     text[] NOT NULL,
    types        text[] NOT NULL,
    sealed       bytea[] NOT NULL,           -- nonce (12 bytes), then AES-256-GCM of salt and value
    PRIMARY KEY (log, index)
);
ALTER TABLE content ALTER COLUMN sealed SET STORAGE EXTERNAL;

-- Full tiles (256 hashes) of C2SP tlog-tiles; partial ones are made from `logs.edge` and `entries`.
CREATE TABLE tiles (
    log     text NOT NULL,
    level   smallint NOT NULL,
    index   bigint NOT NULL,
    hashes  bytea NOT NULL CHECK (octet_length(hashes) = 8192),
    PRIMARY KEY (log, level, index)
);

-- Every checkpoint, with its signature lines. None is ever replaced.
CREATE TABLE checkpoints (
    log        text NOT NULL,
    tree_size  bigint NOT NULL,
    root_hash  bytea NOT NULL,
    note       bytea NOT NULL,
    PRIMARY KEY (log, tree_size)
);

-- The stored offset of each topic partition, and the epoch that fences its consumer.
CREATE TABLE positions (
    cluster      text NOT NULL,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    topic_id     text,
    epoch        bigint NOT NULL DEFAULT 0,
    next_offset  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (cluster, topic, partition)
) WITH (fillfactor = 50);

-- How much of each log stands in the heads log; only the publisher touches it, under the lock of the heads log's head.
CREATE TABLE published_sizes (
    log        text PRIMARY KEY,
    tree_size  bigint NOT NULL
);

-- The keys of producers and attesters, as the tenant's log has them in `producer_key` entries.
CREATE TABLE producer_keys (
    tenant      text NOT NULL REFERENCES tenants (tenant),
    key         text NOT NULL,
    vkey        text NOT NULL,
    role        text NOT NULL CHECK (role IN ('producer', 'attester')),
    from_time   timestamptz,
    until_time  timestamptz,
    PRIMARY KEY (tenant, key)
);

-- Which tenant a login may read as tally_reader.
CREATE TABLE reader_tenants (
    login   text NOT NULL,
    tenant  text NOT NULL REFERENCES tenants (tenant),
    PRIMARY KEY (login, tenant)
);

-- Append only, for every role that passes the grants, the owner included.
CREATE FUNCTION tally_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on % is refused: the ledger is append-only', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entries
    FOR EACH STATEMENT EXECUTE FUNCTION tally_refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON tiles
    FOR EACH STATEMENT EXECUTE FUNCTION tally_refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION tally_refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON runs
    FOR EACH STATEMENT EXECUTE FUNCTION tally_refuse();
CREATE TRIGGER no_removal BEFORE DELETE OR TRUNCATE ON logs
    FOR EACH STATEMENT EXECUTE FUNCTION tally_refuse();
CREATE TRIGGER no_removal BEFORE DELETE OR TRUNCATE ON content
    FOR EACH STATEMENT EXECUTE FUNCTION tally_refuse();

-- The tenants the current session may read: those of its login, or the setting where the API logged in.
CREATE FUNCTION tally_visible(of_tenant text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, public AS $$
    SELECT CASE WHEN session_user = 'tally_api'
        THEN of_tenant = current_setting('tallystick.tenant', true)
        ELSE EXISTS (SELECT FROM reader_tenants r WHERE r.login = session_user AND r.tenant = of_tenant)
    END
$$;
CREATE FUNCTION tally_visible_log(of_log text) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, public AS $$
    SELECT EXISTS (SELECT FROM logs l WHERE l.log = of_log
                   AND (l.class = 'heads' OR (l.class = 'tenant' AND tally_visible(l.tenant))))
$$;
ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE runs ENABLE ROW LEVEL SECURITY;
ALTER TABLE entries ENABLE ROW LEVEL SECURITY;
ALTER TABLE content ENABLE ROW LEVEL SECURITY;
ALTER TABLE tiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE checkpoints ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_tenant ON tenants FOR SELECT TO tally_reader USING (tally_visible(tenant));
CREATE POLICY by_tenant ON logs FOR SELECT TO tally_reader
    USING (class = 'heads' OR (class = 'tenant' AND tally_visible(tenant)));
CREATE POLICY by_tenant ON runs FOR SELECT TO tally_reader USING (tally_visible(tenant));
CREATE POLICY by_log ON entries FOR SELECT TO tally_reader USING (tally_visible_log(log));
CREATE POLICY by_log ON content FOR SELECT TO tally_reader USING (tally_visible_log(log));
CREATE POLICY by_log ON tiles FOR SELECT TO tally_reader USING (tally_visible_log(log));
CREATE POLICY by_log ON checkpoints FOR SELECT TO tally_reader USING (tally_visible_log(log));

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO tally_writer, tally_auditor;
GRANT INSERT ON tenants, logs, runs, entries, content, tiles, checkpoints, positions, published_sizes, producer_keys
    TO tally_writer;
GRANT UPDATE ON published_sizes TO tally_writer;
GRANT UPDATE (tree_size, root_hash, edge, recorded, erasure_epoch) ON logs TO tally_writer;
GRANT UPDATE (topic_id, epoch, next_offset) ON positions TO tally_writer;
GRANT SELECT (log, index, pointers) ON content TO tally_eraser;
GRANT SELECT ON entries, logs TO tally_eraser;
GRANT UPDATE (fingerprint, sealed) ON content TO tally_eraser;
GRANT SELECT ON tenants, logs, runs, entries, content, tiles, checkpoints TO tally_reader;
