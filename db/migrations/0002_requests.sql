-- A request, the trail of its moves, and what others called our calls.

CREATE TABLE csb_app.csb_requests (
    correlation_id    uuid        PRIMARY KEY,               -- UUIDv7: near in time, near in the index
    tenant_id         uuid        NOT NULL,
    status            text        NOT NULL DEFAULT 'PENDING' CHECK (
        status IN ('PENDING', 'IN_PROGRESS', 'SUCCESS', 'FAILED', 'CANCELLED')),
    version           integer     NOT NULL DEFAULT 1,        -- raised by each move
    cloud_provider    text        NOT NULL,
    action            text        NOT NULL,
    account_id        text,
    principal_type    text,
    principal_name    text,
    payload           json        NOT NULL,                  -- as posted: json keeps the text, so the digest holds
    digest            text        NOT NULL,                  -- SHA-256 of the payload's canonical JSON, hex
    client_request_id text        CHECK (length(client_request_id) BETWEEN 1 AND 200),
    requested_by      text        NOT NULL,                  -- key id, or an operator's name
    moved_by          text        NOT NULL,                  -- actor of the last move
    request_id        text        NOT NULL,                  -- of the HTTP request that brought it
    traceparent       text,                                  -- W3C Trace Context
    replay_of         uuid,
    attempt           integer     NOT NULL DEFAULT 0,        -- claims so far
    retries           integer     NOT NULL DEFAULT 0,        -- passing faults so far
    max_attempts      integer     NOT NULL DEFAULT 5 CHECK (max_attempts BETWEEN 1 AND 100),
    losses            integer     NOT NULL DEFAULT 0,        -- workers lost while they held it
    lone_losses       integer     NOT NULL DEFAULT 0,        -- ... while they held nothing else
    alone             boolean     NOT NULL DEFAULT false,    -- is the present claim a lone one?
    lease_token       bigint      NOT NULL DEFAULT 0,        -- monotonic; stays on the ended row
    lease_owner       text,
    lease_expires_at  timestamptz,
    available_at      timestamptz NOT NULL DEFAULT now(),    -- not to be claimed before
    rung_at           timestamptz NOT NULL DEFAULT now(),    -- last message; -infinity: none since it fell due
    checkpoint        jsonb,                                 -- what an attempt left for the next one
    result            jsonb,
    changed           boolean,
    error             jsonb,                                 -- {class, code, message, retryable}
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    started_at        timestamptz,
    finished_at       timestamptz,
    CONSTRAINT csb_requests_ended CHECK (
        (finished_at IS NOT NULL) = (status IN ('SUCCESS', 'FAILED', 'CANCELLED'))),
    CONSTRAINT csb_requests_leased CHECK (
        (lease_expires_at IS NOT NULL) = (status = 'IN_PROGRESS'))
) WITH (fillfactor = 80,
        autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02,
        autovacuum_vacuum_insert_scale_factor = 0.05);

CREATE UNIQUE INDEX csb_requests_client_key
    ON csb_app.csb_requests (tenant_id, client_request_id) WHERE client_request_id IS NOT NULL;
CREATE INDEX csb_requests_of_tenant ON csb_app.csb_requests (tenant_id, correlation_id);
-- What has not ended, in the order in which the rescuer looks at it; small, whatever the history.
-- Its predicate is not the status on purpose. A claim then changes nothing that is indexed (a HOT
-- update), and no statement that names rows by id can be planned over this index by mistake: only
-- the rescuer says `finished_at IS NULL`.
CREATE INDEX csb_requests_open
    ON csb_app.csb_requests (cloud_provider, rung_at, available_at) WHERE finished_at IS NULL;

CREATE TABLE csb_app.csb_requests_ref (
    ref_id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    correlation_id uuid        NOT NULL,
    tenant_id      uuid        NOT NULL,
    cloud_provider text        NOT NULL,
    attempt        integer     NOT NULL,
    type           text        NOT NULL,
    value          text        NOT NULL,
    service        text        NOT NULL,
    operation      text        NOT NULL,
    at             timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX csb_requests_ref_of_request ON csb_app.csb_requests_ref (correlation_id);
CREATE INDEX csb_requests_ref_by_value ON csb_app.csb_requests_ref (value);

-- The table of moves stands here as a CHECK: a move that is not listed cannot leave its audit row,
-- and without its audit row the move itself fails. It mirrors csb_core.states.MOVES.
CREATE TABLE csb_app.csb_requests_audit (
    audit_id       bigint      GENERATED ALWAYS AS IDENTITY,
    at             timestamptz NOT NULL DEFAULT now(),
    correlation_id uuid        NOT NULL,
    tenant_id      uuid        NOT NULL,
    event          text        NOT NULL,
    from_status    text,
    to_status      text,
    mover          text,
    prior_version  integer,
    version        integer,
    attempt        integer     NOT NULL,
    lease_token    bigint      NOT NULL,
    actor          text        NOT NULL,
    db_role        text        NOT NULL,
    changed        boolean,
    detail         jsonb,
    PRIMARY KEY (audit_id, at),
    CONSTRAINT csb_move_is_allowed CHECK (CASE event
        WHEN 'created' THEN from_status IS NULL AND to_status = 'PENDING'
                            AND mover IN ('api', 'admin') AND version = 1
        WHEN 'moved' THEN version = prior_version + 1 AND CASE mover
            WHEN 'api'    THEN from_status = 'PENDING' AND to_status = 'CANCELLED'
            WHEN 'worker' THEN (from_status = 'PENDING' AND to_status = 'IN_PROGRESS')
                            OR (from_status = 'IN_PROGRESS'
                                AND to_status IN ('PENDING', 'SUCCESS', 'FAILED'))
            ELSE false END
        WHEN 'stale_write_rejected' THEN from_status IS NULL AND to_status IS NULL
        ELSE false END)
) PARTITION BY RANGE (at);
CREATE INDEX csb_requests_audit_of_request ON csb_app.csb_requests_audit (correlation_id);

-- What a worker met and refused: forged, unknown or unreadable messages.
CREATE TABLE csb_app.csb_security_events (
    event_id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL DEFAULT now(),
    event          text        NOT NULL CHECK (event IN (
        'message_unreadable', 'message_unknown', 'message_forged')),
    correlation_id uuid,
    tenant_id      uuid,
    actor          text        NOT NULL,
    db_role        text        NOT NULL,
    detail         jsonb
);

-- One partition a month, made ahead; the default one makes sure that an audit row always finds room.
CREATE TABLE csb_app.csb_requests_audit_default PARTITION OF csb_app.csb_requests_audit DEFAULT;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON csb_app.csb_requests_audit_default
    FOR EACH STATEMENT EXECUTE FUNCTION csb_app.refuse_change();

CREATE FUNCTION csb_app.ensure_audit_partitions(months_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
DECLARE
    first_day date; name text; made integer := 0;
BEGIN
    FOR i IN 0 .. months_ahead LOOP
        first_day := date_trunc('month', now() AT TIME ZONE 'UTC')::date + make_interval(months => i);
        name := 'csb_requests_audit_' || to_char(first_day, 'YYYY_MM');
        CONTINUE WHEN to_regclass('csb_app.' || name) IS NOT NULL;
        EXECUTE format('CREATE TABLE csb_app.%I PARTITION OF csb_app.csb_requests_audit
                        FOR VALUES FROM (%L) TO (%L)', name,
                       first_day::timestamp AT TIME ZONE 'UTC',
                       (first_day + interval '1 month')::timestamp AT TIME ZONE 'UTC');
        EXECUTE format('ALTER TABLE csb_app.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE csb_app.%I FORCE ROW LEVEL SECURITY', name);
        -- A statement trigger of the parent does not see statements that name the partition.
        EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON csb_app.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION csb_app.refuse_change()', name);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
SELECT csb_app.ensure_audit_partitions(12);

CREATE FUNCTION csb_app.acting_mover() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, csb_app, pg_temp
AS $$
DECLARE
    acting text := acting_role();
BEGIN
    RETURN CASE
        WHEN acting = 'csb_admin_user' THEN 'admin'
        WHEN provider_of(acting) IS NOT NULL AND pg_has_role(acting, 'csb_worker', 'member') THEN 'worker'
        WHEN acting = 'csb_api_user' THEN 'api'
    END;
END $$;

-- A status change and its audit row are one statement's work. Statement-level, because transition
-- tables cost far less than a trigger call per row; rows whose status stays are passed over, unless
-- their version was touched: that is no move, and the CHECK refuses it.
CREATE FUNCTION csb_app.audit_creation() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
DECLARE
    mover text := acting_mover(); acting text := acting_role();
BEGIN
    INSERT INTO csb_requests_audit (correlation_id, tenant_id, event, to_status, mover, version,
                                    attempt, lease_token, actor, db_role)
    SELECT n.correlation_id, n.tenant_id, 'created', n.status, mover, n.version,
           n.attempt, n.lease_token, n.moved_by, acting
      FROM new_rows n;
    RETURN NULL;
END $$;

CREATE FUNCTION csb_app.audit_move() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
DECLARE
    mover text := acting_mover(); acting text := acting_role();
BEGIN
    INSERT INTO csb_requests_audit (correlation_id, tenant_id, event, from_status, to_status, mover,
                                    prior_version, version, attempt, lease_token, actor, db_role,
                                    changed, detail)
    SELECT n.correlation_id, n.tenant_id, 'moved', o.status, n.status, mover,
           o.version, n.version, n.attempt, n.lease_token, n.moved_by, acting, n.changed,
           CASE WHEN n.status IN ('PENDING', 'FAILED') THEN n.error END
      FROM new_rows n
      JOIN old_rows o ON o.correlation_id = n.correlation_id
     WHERE o.status <> n.status OR o.version <> n.version;
    RETURN NULL;
END $$;

CREATE TRIGGER csb_requests_created AFTER INSERT ON csb_app.csb_requests
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION csb_app.audit_creation();
CREATE TRIGGER csb_requests_moved AFTER UPDATE ON csb_app.csb_requests
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION csb_app.audit_move();
CREATE TRIGGER csb_requests_audit_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON csb_app.csb_requests_audit
    FOR EACH STATEMENT EXECUTE FUNCTION csb_app.refuse_change();
CREATE TRIGGER csb_security_events_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON csb_app.csb_security_events
    FOR EACH STATEMENT EXECUTE FUNCTION csb_app.refuse_change();
