-- The narrow doors: what a service role may do in one round trip, or only through its owner.

-- A key is found before its tenant is known, so by the owner's right, and by its digest alone.
CREATE FUNCTION csb_app.find_api_key(p_digest bytea)
RETURNS TABLE (tenant_id uuid, tenant_code text, key_id text, scopes text[], expires_at timestamptz,
               requests_per_minute integer, tenant_requests_per_minute integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
    SELECT k.tenant_id, t.code, k.key_id, k.scopes, k.expires_at,
           k.requests_per_minute, t.requests_per_minute
      FROM csb_api_keys k
      JOIN csb_tenants t ON t.tenant_id = k.tenant_id
     WHERE k.digest = p_digest
       AND k.revoked_at IS NULL
       AND (k.expires_at IS NULL OR k.expires_at > now())
       AND t.status = 'active'
$$;

CREATE FUNCTION csb_app.touch_api_keys(p_key_ids text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$ UPDATE csb_api_keys SET last_used_at = now() WHERE key_id = ANY (p_key_ids) $$;

-- Accept requests of one or more tenants: one call, one commit, rows and audit together.
-- Each item is one draft; an item that is not created says why and harms no other.
-- `outcome`: created | exists (same key, same digest) | conflict (same key, other digest)
-- | account_not_registered.
CREATE FUNCTION csb_app.submit(p_items json)
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
                moved_by, request_id, traceparent, replay_of, max_attempts)
        SELECT i.correlation_id, i.tenant_id, i.cloud_provider, i.action, i.account_id,
               i.principal_type, i.principal_name, i.payload, i.digest, i.client_request_id,
               i.requested_by, i.requested_by, i.request_id, i.traceparent, i.replay_of,
               COALESCE(i.max_attempts, 5)
          FROM json_to_recordset(p_items) AS i (
               correlation_id uuid, tenant_id uuid, cloud_provider text, action text, account_id text,
               principal_type text, principal_name text, payload json, digest text,
               client_request_id text, requested_by text, request_id text, traceparent text,
               replay_of uuid, max_attempts integer)
         WHERE i.tenant_id = of_tenant
           AND (i.account_id IS NULL OR EXISTS (
                   SELECT FROM csb_target_accounts a
                    WHERE a.tenant_id = of_tenant AND a.cloud_provider = i.cloud_provider
                      AND a.account_id = i.account_id AND a.status = 'active'))
         ORDER BY i.client_request_id, i.correlation_id -- one order for all: no deadlock on the keys
        ON CONFLICT (tenant_id, client_request_id) WHERE client_request_id IS NOT NULL DO NOTHING
        RETURNING r.correlation_id, 'created', r.correlation_id, r.status, r.version, r.created_at, r.rung_at;

        GET DIAGNOSTICS made = ROW_COUNT;
        CONTINUE WHEN made = asked_for;

        -- A statement of its own, so that it sees what a rival has just committed.
        RETURN QUERY
        SELECT i.correlation_id,
               CASE WHEN k.correlation_id IS NULL THEN 'account_not_registered'
                    WHEN k.digest = i.digest THEN 'exists' ELSE 'conflict' END,
               k.correlation_id, k.status, k.version, k.created_at, k.rung_at
          FROM json_to_recordset(p_items) AS i (
               correlation_id uuid, tenant_id uuid, digest text, client_request_id text)
          LEFT JOIN csb_requests k
            ON k.tenant_id = of_tenant AND k.client_request_id = i.client_request_id
         WHERE i.tenant_id = of_tenant
           AND NOT EXISTS (SELECT FROM csb_requests r WHERE r.correlation_id = i.correlation_id);
    END LOOP;
    PERFORM set_config('csb.tenant_id', '', true);
END $$;

-- Read one request as its tenant, in one round trip.
CREATE FUNCTION csb_app.get_request(p_tenant_id uuid, p_correlation_id uuid)
RETURNS SETOF csb_app.csb_requests
LANGUAGE plpgsql SET search_path = pg_catalog, csb_app, pg_temp
AS $$
BEGIN
    PERFORM set_config('csb.tenant_id', p_tenant_id::text, true);
    RETURN QUERY SELECT * FROM csb_requests r
                  WHERE r.correlation_id = p_correlation_id AND r.tenant_id = p_tenant_id;
END $$;

-- Two doors to the records that no service role may write: neither can forge a move.
CREATE FUNCTION csb_app.report_stale_write(p_correlation_id uuid, p_token bigint, p_actor text, p_detail jsonb)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
    INSERT INTO csb_requests_audit (correlation_id, tenant_id, event, version, attempt, lease_token,
                                    actor, db_role, detail)
    SELECT r.correlation_id, r.tenant_id, 'stale_write_rejected', r.version, r.attempt, p_token,
           p_actor, acting_role(), p_detail
      FROM csb_requests r
     WHERE r.correlation_id = p_correlation_id
       AND r.cloud_provider = provider_of(acting_role())
$$;

CREATE FUNCTION csb_app.report_security_event(p_event text, p_correlation_id uuid, p_actor text, p_detail jsonb)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
    INSERT INTO csb_security_events (event, correlation_id, tenant_id, actor, db_role, detail)
    SELECT p_event, p_correlation_id,
           (SELECT r.tenant_id FROM csb_requests r WHERE r.correlation_id = p_correlation_id),
           p_actor, acting_role(), p_detail
$$;

REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA csb_app FROM PUBLIC;
GRANT EXECUTE ON FUNCTION csb_app.acting_role(), csb_app.acting_mover(), csb_app.current_tenant(),
    csb_app.provider_of(text) TO csb_api_user, csb_worker, csb_admin_user;
GRANT EXECUTE ON FUNCTION csb_app.find_api_key(bytea), csb_app.touch_api_keys(text[]),
    csb_app.submit(json), csb_app.get_request(uuid, uuid) TO csb_api_user;
GRANT EXECUTE ON FUNCTION csb_app.submit(json), csb_app.ensure_audit_partitions(integer) TO csb_admin_user;
GRANT EXECUTE ON FUNCTION csb_app.report_stale_write(uuid, bigint, text, jsonb),
    csb_app.report_security_event(text, uuid, text, jsonb) TO csb_worker;
