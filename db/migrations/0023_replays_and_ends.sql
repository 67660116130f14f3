-- One replay at a time, and a search by status that reads no history.

-- What ended otherwise than well, by tenant: few rows among many, which a search by FAILED or CANCELLED
-- would else look for in the whole history. Its predicate does not name the status on purpose: a claim
-- and a heartbeat change nothing that an index names, and stay HOT updates. The constraint makes the
-- predicate true of every such row, so that a search may say it beside the status: only an end tells
-- whether anything was changed, and one that is not a SUCCESS says why beside it.
ALTER TABLE csb_app.csb_requests
    ADD CONSTRAINT csb_requests_told CHECK (
        status = 'SUCCESS' OR error IS NOT NULL OR changed IS NULL);
CREATE INDEX csb_requests_unfulfilled ON csb_app.csb_requests (tenant_id, correlation_id)
    WHERE finished_at IS NOT NULL AND (error IS NOT NULL OR changed IS NULL);

-- A request has one replay that is not CANCELLED: what is replayed again is the replay, once it has
-- FAILED. Whoever comes second waits here for the first one's commit, sees its row, and writes none.
-- It looks with its caller's eyes, so nobody learns of another tenant's requests.
CREATE FUNCTION csb_app.replay_once() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, csb_app, pg_temp
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('csb.replay.' || NEW.replay_of, 0));
    -- A statement of its own, so that it sees what a rival has just committed.
    IF EXISTS (SELECT FROM csb_requests r
                WHERE r.replay_of = NEW.replay_of AND r.tenant_id = NEW.tenant_id
                  AND r.status <> 'CANCELLED') THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;
REVOKE EXECUTE ON FUNCTION csb_app.replay_once() FROM PUBLIC;

CREATE TRIGGER csb_requests_replayed_once BEFORE INSERT ON csb_app.csb_requests
    FOR EACH ROW WHEN (NEW.replay_of IS NOT NULL) EXECUTE FUNCTION csb_app.replay_once();

-- As in 0004, and an item may pin a util. Three more outcomes: util_not_found | util_not_active
-- | replayed (the replay that is there already is named). A repetition under the same key comes first,
-- and names the same replay as before.
-- `util_id IS NULL` stands first and ends it there: an item without a util pays nothing more.
CREATE OR REPLACE FUNCTION csb_app.submit(p_items json)
RETURNS TABLE (asked uuid, outcome text, correlation_id uuid, status text, version integer,
               created_at timestamptz, rung_at timestamptz)
LANGUAGE plpgsql SET search_path = pg_catalog, csb_app, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    of_tenant uuid; asked_for integer; made integer;
BEGIN
    FOR of_tenant, asked_for IN
        SELECT (i ->> 'tenant_id')::uuid, count(*) FROM json_array_elements(p_items) i GROUP BY 1 ORDER BY 1
    LOOP
        PERFORM set_config('csb.tenant_id', of_tenant::text, true);

        RETURN QUERY
        INSERT INTO csb_requests AS r (correlation_id, tenant_id, cloud_provider, action, account_id,
                principal_type, principal_name, payload, digest, client_request_id, requested_by,
                moved_by, request_id, traceparent, replay_of, max_attempts, util_id, util_version,
                util_digest, util_limits)
        SELECT i.correlation_id, i.tenant_id, i.cloud_provider, i.action, i.account_id,
               i.principal_type, i.principal_name, i.payload, i.digest, i.client_request_id,
               i.requested_by, i.requested_by, i.request_id, i.traceparent, i.replay_of,
               COALESCE(i.max_attempts, 5), i.util_id, i.util_version, i.util_digest, i.util_limits
          FROM json_to_recordset(p_items) AS i (
               correlation_id uuid, tenant_id uuid, cloud_provider text, action text, account_id text,
               principal_type text, principal_name text, payload json, digest text,
               client_request_id text, requested_by text, request_id text, traceparent text,
               replay_of uuid, max_attempts integer, util_id uuid, util_version integer,
               util_digest text, util_limits jsonb, advisory boolean)
         WHERE i.tenant_id = of_tenant
           AND (i.account_id IS NULL OR EXISTS (
                   SELECT FROM csb_target_accounts a
                    WHERE a.tenant_id = of_tenant AND a.cloud_provider = i.cloud_provider
                      AND a.account_id = i.account_id AND a.status = 'active'))
           AND (i.util_id IS NULL
                OR admit_util(of_tenant, i.requested_by, i.action, i.util_id, i.util_version,
                              i.util_digest, i.advisory) = 'admitted')
         ORDER BY i.client_request_id, i.correlation_id -- one order for all: no deadlock on the keys
        ON CONFLICT (tenant_id, client_request_id) WHERE client_request_id IS NOT NULL DO NOTHING
        RETURNING r.correlation_id, 'created', r.correlation_id, r.status, r.version, r.created_at, r.rung_at;

        GET DIAGNOSTICS made = ROW_COUNT;
        CONTINUE WHEN made = asked_for;

        -- A statement of its own, so that it sees what a rival has just committed. What has been
        -- accepted before is answered so, whatever became of its util or its account since.
        RETURN QUERY
        SELECT i.correlation_id,
               CASE WHEN k.digest = i.digest AND (i.replay_of IS NULL OR i.replay_of = k.replay_of)
                        THEN 'exists'
                    WHEN k.correlation_id IS NOT NULL THEN 'conflict'
                    WHEN f.correlation_id IS NOT NULL THEN 'replayed'
                    WHEN i.util_id IS NULL THEN 'account_not_registered'
                    -- Admitted only now: it was not when we looked, unless an account is to blame.
                    ELSE COALESCE(
                        NULLIF(admit_util(of_tenant, i.requested_by, i.action, i.util_id, i.util_version,
                                          i.util_digest, i.advisory), 'admitted'),
                        CASE WHEN i.account_id IS NULL THEN 'util_not_active'
                             ELSE 'account_not_registered' END) END,
               COALESCE(k.correlation_id, f.correlation_id), COALESCE(k.status, f.status),
               COALESCE(k.version, f.version), COALESCE(k.created_at, f.created_at),
               COALESCE(k.rung_at, f.rung_at)
          FROM json_to_recordset(p_items) AS i (
               correlation_id uuid, tenant_id uuid, action text, account_id text, digest text,
               client_request_id text, requested_by text, replay_of uuid, util_id uuid,
               util_version integer, util_digest text, advisory boolean)
          LEFT JOIN csb_requests k
            ON k.tenant_id = of_tenant AND k.client_request_id = i.client_request_id
          LEFT JOIN LATERAL (SELECT r.* FROM csb_requests r
                              WHERE r.replay_of = i.replay_of AND r.tenant_id = of_tenant
                                AND r.status <> 'CANCELLED'
                              ORDER BY r.correlation_id DESC LIMIT 1) f ON true
         WHERE i.tenant_id = of_tenant
           AND NOT EXISTS (SELECT FROM csb_requests r WHERE r.correlation_id = i.correlation_id);
    END LOOP;
    PERFORM set_config('csb.tenant_id', '', true);
END $$;
