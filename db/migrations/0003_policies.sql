-- Who sees and changes what. Enabled and forced everywhere; without a policy there is no row.
-- (SELECT f()) makes the planner evaluate f once per statement.

GRANT USAGE ON SCHEMA csb_app TO csb_api_user, csb_worker, csb_admin_user;

DO $$
DECLARE t regclass;
BEGIN
    FOR t IN SELECT c.oid FROM pg_class c
              WHERE c.relnamespace = 'csb_app'::regnamespace AND c.relkind IN ('r', 'p')
                AND c.relname <> 'csb_schema_migrations'
    LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t);
    END LOOP;
END $$;

-- The owner never logs in; its policies serve the definer functions and triggers.
CREATE POLICY owner_reads ON csb_app.csb_tenants FOR SELECT TO csb_owner USING (true);
CREATE POLICY owner_reads ON csb_app.csb_api_keys FOR SELECT TO csb_owner USING (true);
CREATE POLICY owner_touches ON csb_app.csb_api_keys FOR UPDATE TO csb_owner USING (true);
CREATE POLICY owner_reads ON csb_app.csb_requests FOR SELECT TO csb_owner USING (true);
CREATE POLICY owner_writes ON csb_app.csb_requests_audit FOR INSERT TO csb_owner WITH CHECK (true);
CREATE POLICY owner_writes ON csb_app.csb_control_audit FOR INSERT TO csb_owner WITH CHECK (true);
CREATE POLICY owner_writes ON csb_app.csb_security_events FOR INSERT TO csb_owner WITH CHECK (true);

-- The API: one tenant at a time; inserts what is PENDING, cancels what is still PENDING.
GRANT SELECT (tenant_id, code, name, status, requests_per_minute) ON csb_app.csb_tenants TO csb_api_user;
GRANT SELECT (tenant_id, cloud_provider, account_id, role_arn, label, status, created_at)
    ON csb_app.csb_target_accounts TO csb_api_user;
GRANT SELECT ON csb_app.csb_requests, csb_app.csb_requests_audit, csb_app.csb_requests_ref TO csb_api_user;
GRANT INSERT (correlation_id, tenant_id, cloud_provider, action, account_id, principal_type,
              principal_name, payload, digest, client_request_id, requested_by, moved_by, request_id,
              traceparent, replay_of, max_attempts)
    ON csb_app.csb_requests TO csb_api_user, csb_admin_user;
GRANT UPDATE (status, version, moved_by, updated_at, finished_at) ON csb_app.csb_requests TO csb_api_user;

CREATE POLICY api_reads ON csb_app.csb_tenants FOR SELECT TO csb_api_user
    USING (tenant_id = (SELECT csb_app.current_tenant()));
CREATE POLICY api_reads ON csb_app.csb_target_accounts FOR SELECT TO csb_api_user
    USING (tenant_id = (SELECT csb_app.current_tenant()));
CREATE POLICY api_reads ON csb_app.csb_requests FOR SELECT TO csb_api_user
    USING (tenant_id = (SELECT csb_app.current_tenant()));
CREATE POLICY api_inserts ON csb_app.csb_requests FOR INSERT TO csb_api_user
    WITH CHECK (tenant_id = (SELECT csb_app.current_tenant()) AND status = 'PENDING');
CREATE POLICY api_cancels ON csb_app.csb_requests FOR UPDATE TO csb_api_user
    USING (tenant_id = (SELECT csb_app.current_tenant()) AND status = 'PENDING')
    WITH CHECK (tenant_id = (SELECT csb_app.current_tenant()) AND status = 'CANCELLED');
CREATE POLICY api_reads ON csb_app.csb_requests_audit FOR SELECT TO csb_api_user
    USING (tenant_id = (SELECT csb_app.current_tenant()));
CREATE POLICY api_reads ON csb_app.csb_requests_ref FOR SELECT TO csb_api_user
    USING (tenant_id = (SELECT csb_app.current_tenant()));

-- Workers: every tenant's rows of their own provider; never the payload, the tenant or an ended row.
GRANT SELECT ON csb_app.csb_requests, csb_app.csb_target_accounts TO csb_worker;
GRANT UPDATE (status, version, moved_by, attempt, retries, losses, lone_losses, alone, lease_token,
              lease_owner, lease_expires_at, available_at, rung_at, checkpoint, result, changed, error,
              updated_at, started_at, finished_at)
    ON csb_app.csb_requests TO csb_worker;
GRANT SELECT, INSERT (correlation_id, tenant_id, cloud_provider, attempt, type, value, service, operation)
    ON csb_app.csb_requests_ref TO csb_worker;

CREATE POLICY worker_reads ON csb_app.csb_requests FOR SELECT TO csb_worker
    USING (cloud_provider = (SELECT csb_app.provider_of(current_user)));
CREATE POLICY worker_moves ON csb_app.csb_requests FOR UPDATE TO csb_worker
    USING (cloud_provider = (SELECT csb_app.provider_of(current_user))
           AND status IN ('PENDING', 'IN_PROGRESS'))
    WITH CHECK (cloud_provider = (SELECT csb_app.provider_of(current_user)));
CREATE POLICY worker_reads ON csb_app.csb_target_accounts FOR SELECT TO csb_worker
    USING (cloud_provider = (SELECT csb_app.provider_of(current_user)));
CREATE POLICY worker_reads ON csb_app.csb_requests_ref FOR SELECT TO csb_worker
    USING (cloud_provider = (SELECT csb_app.provider_of(current_user)));
CREATE POLICY worker_inserts ON csb_app.csb_requests_ref FOR INSERT TO csb_worker
    WITH CHECK (cloud_provider = (SELECT csb_app.provider_of(current_user))
                AND EXISTS (SELECT FROM csb_app.csb_requests r
                             WHERE r.correlation_id = csb_requests_ref.correlation_id
                               AND r.tenant_id = csb_requests_ref.tenant_id));

-- Operators (csbctl): the control plane, and a look at everything.
GRANT SELECT ON ALL TABLES IN SCHEMA csb_app TO csb_admin_user;
GRANT INSERT, UPDATE ON csb_app.csb_tenants, csb_app.csb_api_keys, csb_app.csb_target_accounts
    TO csb_admin_user;
CREATE POLICY admin_all ON csb_app.csb_tenants TO csb_admin_user USING (true) WITH CHECK (true);
CREATE POLICY admin_all ON csb_app.csb_api_keys TO csb_admin_user USING (true) WITH CHECK (true);
CREATE POLICY admin_all ON csb_app.csb_target_accounts TO csb_admin_user USING (true) WITH CHECK (true);
CREATE POLICY admin_reads ON csb_app.csb_requests FOR SELECT TO csb_admin_user USING (true);
CREATE POLICY admin_replays ON csb_app.csb_requests FOR INSERT TO csb_admin_user
    WITH CHECK (status = 'PENDING' AND replay_of IS NOT NULL);
CREATE POLICY admin_reads ON csb_app.csb_requests_audit FOR SELECT TO csb_admin_user USING (true);
CREATE POLICY admin_reads ON csb_app.csb_requests_ref FOR SELECT TO csb_admin_user USING (true);
CREATE POLICY admin_reads ON csb_app.csb_control_audit FOR SELECT TO csb_admin_user USING (true);
CREATE POLICY admin_reads ON csb_app.csb_security_events FOR SELECT TO csb_admin_user USING (true);
