-- What operators do that changes no row of the control plane leaves its trace beside what does.
-- The prefix keeps it apart from the traces that the tables' triggers write.
CREATE FUNCTION csb_app.note_operation(p_event text, p_tenant_id uuid, p_subject text, p_detail jsonb)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
    INSERT INTO csb_control_audit (actor, db_role, tenant_id, event, subject, detail)
    SELECT COALESCE(NULLIF(current_setting('csb.actor', true), ''), session_user),
           acting_role(), p_tenant_id, 'operator.' || p_event, p_subject, p_detail
$$;
REVOKE EXECUTE ON FUNCTION csb_app.note_operation(text, uuid, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION csb_app.note_operation(text, uuid, text, jsonb) TO csb_admin_user;

-- Has this failed request been replayed? Small: replays are rare.
CREATE INDEX csb_requests_replays ON csb_app.csb_requests (replay_of) WHERE replay_of IS NOT NULL;
