-- Custom utils: what tenants bring to be run, who else may use it, and which version a request runs.

-- Ceilings of a tenant: what its executions may take at most, whoever owns the util.
ALTER TABLE csb_app.csb_tenants
    ADD COLUMN util_max_timeout_seconds double precision NOT NULL DEFAULT 300
        CHECK (util_max_timeout_seconds > 0 AND util_max_timeout_seconds <= 3600),
    ADD COLUMN util_max_memory_mb integer NOT NULL DEFAULT 512 CHECK (util_max_memory_mb BETWEEN 16 AND 65536),
    ADD COLUMN util_max_cpu double precision NOT NULL DEFAULT 1.0
        CHECK (util_max_cpu > 0 AND util_max_cpu <= 64),
    ADD COLUMN util_min_security_score integer NOT NULL DEFAULT 0
        CHECK (util_min_security_score BETWEEN 0 AND 100);

ALTER TABLE csb_app.csb_api_keys
    DROP CONSTRAINT csb_api_keys_scopes_check,
    ADD CONSTRAINT csb_api_keys_scopes_check CHECK (
        scopes <@ ARRAY['requests:read', 'requests:write', 'requests:operate',
                        'utils:read', 'utils:write', 'utils:execute', 'admin']
        AND cardinality(scopes) > 0);
CREATE INDEX csb_api_keys_replaced ON csb_app.csb_api_keys (replaced_by) WHERE replaced_by IS NOT NULL;

-- The head of a util: what may change. What is executed stands in its versions.
CREATE TABLE csb_app.csb_utils (
    util_id        uuid        PRIMARY KEY,
    tenant_id      uuid        NOT NULL REFERENCES csb_app.csb_tenants,
    owner          text        NOT NULL,                     -- the key that created it
    name           text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    description    text        NOT NULL DEFAULT '' CHECK (length(description) <= 4000),
    kind           text        NOT NULL CHECK (kind IN ('transformer', 'script')),
    language       text        NOT NULL DEFAULT 'python' CHECK (language = 'python'),
    category       text        CHECK (length(category) BETWEEN 1 AND 100),
    tags           text[]      NOT NULL DEFAULT '{}' CHECK (
        cardinality(tags) <= 50 AND array_position(tags, NULL) IS NULL),
    status         text        NOT NULL DEFAULT 'inactive' CHECK (status IN ('active', 'inactive', 'deleted')),
    version        integer     NOT NULL DEFAULT 1 CHECK (version > 0), -- the latest
    active_version integer,                                  -- what an execution runs that names none
    revision       integer     NOT NULL DEFAULT 1,           -- raised by each change: the ETag
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    created_by     text        NOT NULL,
    updated_by     text        NOT NULL,
    UNIQUE (util_id, tenant_id),                             -- what versions and shares refer to
    CONSTRAINT csb_utils_active CHECK (status <> 'active' OR active_version IS NOT NULL)
);
CREATE UNIQUE INDEX csb_utils_name ON csb_app.csb_utils (tenant_id, name) WHERE status <> 'deleted';
-- Lists, newest change first. There is none over the tags: under row-level security an operator that
-- is not leakproof, as @> is not, filters what the tenant's index has found and is never its key.
CREATE INDEX csb_utils_of_tenant
    ON csb_app.csb_utils (tenant_id, updated_at DESC, util_id DESC) WHERE status <> 'deleted';

-- Immutable: a request that pins a version runs these very bytes, whatever became of the util since.
CREATE TABLE csb_app.csb_util_versions (
    util_id          uuid        NOT NULL,
    version          integer     NOT NULL CHECK (version > 0),
    tenant_id        uuid        NOT NULL,
    digest           text        NOT NULL CHECK (digest ~ '^[0-9a-f]{64}$'), -- of kind, code, parameters, config
    label            text        CHECK (length(label) BETWEEN 1 AND 100),    -- the author's own version
    code             text        NOT NULL CHECK (octet_length(code) BETWEEN 1 AND 1048576),
    parameters       json        NOT NULL CHECK (json_typeof(parameters) = 'object'), -- schemas, dependencies
    execution_config json        NOT NULL CHECK (json_typeof(execution_config) = 'object'), -- its limits
    test_cases       json        NOT NULL DEFAULT '[]' CHECK (json_typeof(test_cases) = 'array'),
    validation       json        NOT NULL CHECK (            -- {is_valid, validation_errors, security_score}
        validation ->> 'is_valid' IN ('true', 'false')
        AND (validation ->> 'security_score')::numeric BETWEEN 0 AND 100),
    rollback_of      integer,
    created_at       timestamptz NOT NULL DEFAULT now(),
    created_by       text        NOT NULL,
    PRIMARY KEY (util_id, version),
    FOREIGN KEY (util_id, tenant_id) REFERENCES csb_app.csb_utils (util_id, tenant_id),
    FOREIGN KEY (util_id, rollback_of) REFERENCES csb_app.csb_util_versions (util_id, version),
    CHECK (rollback_of < version)
);
-- A head never points at a version that is not there; both are written by one statement.
ALTER TABLE csb_app.csb_utils
    ADD FOREIGN KEY (util_id, version) REFERENCES csb_app.csb_util_versions (util_id, version),
    ADD FOREIGN KEY (util_id, active_version) REFERENCES csb_app.csb_util_versions (util_id, version);

-- Who else may use a util: another tenant, or one key of it. Each permission includes the former.
CREATE TABLE csb_app.csb_util_shares (
    share_id          uuid        PRIMARY KEY,
    util_id           uuid        NOT NULL,
    tenant_id         uuid        NOT NULL,                  -- the owner's
    grantee_tenant_id uuid        REFERENCES csb_app.csb_tenants,
    grantee_key_id    text        REFERENCES csb_app.csb_api_keys,
    permission        text        NOT NULL CHECK (permission IN ('read', 'execute', 'edit')),
    created_at        timestamptz NOT NULL DEFAULT now(),
    created_by        text        NOT NULL,
    FOREIGN KEY (util_id, tenant_id) REFERENCES csb_app.csb_utils (util_id, tenant_id),
    CONSTRAINT csb_util_shares_grantee UNIQUE NULLS NOT DISTINCT (util_id, grantee_tenant_id, grantee_key_id),
    CHECK (num_nonnulls(grantee_tenant_id, grantee_key_id) = 1),
    CHECK (grantee_tenant_id <> tenant_id)
);
CREATE INDEX csb_util_shares_to_tenant
    ON csb_app.csb_util_shares (grantee_tenant_id) WHERE grantee_tenant_id IS NOT NULL;
CREATE INDEX csb_util_shares_to_key
    ON csb_app.csb_util_shares (grantee_key_id) WHERE grantee_key_id IS NOT NULL;

-- A tenant's own rules for the validator.
CREATE TABLE csb_app.csb_util_rules (
    tenant_id  uuid        NOT NULL REFERENCES csb_app.csb_tenants,
    rule_id    text        NOT NULL CHECK (rule_id ~ '^[A-Za-z][A-Za-z0-9_.-]{0,63}$'),
    severity   text        NOT NULL CHECK (severity IN ('error', 'warning', 'info')),
    kind       text        NOT NULL CHECK (length(kind) BETWEEN 1 AND 40),
    pattern    text        NOT NULL CHECK (length(pattern) BETWEEN 1 AND 1000),
    message    text        NOT NULL CHECK (length(message) <= 1000),
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text        NOT NULL,
    PRIMARY KEY (tenant_id, rule_id)
);

-- What a request runs: pinned when it is accepted, and never changed after.
ALTER TABLE csb_app.csb_requests
    ADD COLUMN util_id      uuid,
    ADD COLUMN util_version integer,
    ADD COLUMN util_digest  text,
    ADD COLUMN util_limits  jsonb,                           -- {timeout_seconds, memory_limit_mb, cpu_limit}
    ADD CONSTRAINT csb_requests_pinned CHECK (CASE
        WHEN util_id IS NULL THEN util_version IS NULL AND util_digest IS NULL AND util_limits IS NULL
        ELSE cloud_provider = 'sandbox' AND util_version IS NOT NULL AND util_digest IS NOT NULL
             AND util_limits IS NOT NULL END);
-- It names no column that a claim or a record changes, so both stay HOT updates; one index for the
-- executions of a util, newest first, and for the tests that it passed, since each costs every insert.
CREATE INDEX csb_requests_of_util
    ON csb_app.csb_requests (tenant_id, util_id, action, correlation_id) WHERE util_id IS NOT NULL;

-- The keys that the caller answers for: its own, and those that it replaced, so that a rotation loses
-- no share. Empty when csb.key_id is unset, unknown, ended, or of another tenant than the transaction's.
CREATE FUNCTION csb_app.keys_of(p_tenant_id uuid, p_key_id text) RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
    WITH RECURSIVE held AS (
        SELECT k.key_id
          FROM csb_api_keys k
         WHERE k.key_id = p_key_id AND k.tenant_id = p_tenant_id AND k.revoked_at IS NULL
           AND (k.expires_at IS NULL OR k.expires_at > now())
        UNION
        SELECT k.key_id FROM csb_api_keys k JOIN held h ON k.replaced_by = h.key_id
         WHERE k.tenant_id = p_tenant_id)
    SELECT COALESCE(array_agg(key_id), '{}') FROM held
$$;

CREATE FUNCTION csb_app.current_keys() RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, csb_app, pg_temp
AS $$ SELECT keys_of(current_tenant(), NULLIF(current_setting('csb.key_id', true), '')) $$;

-- The utils that are shared with the transaction's caller, at least for this. Evaluated once for a
-- statement, and only when a row is not the tenant's own; as an array, so that an index finds them.
CREATE FUNCTION csb_app.shared_utils(p_at_least text) RETURNS uuid[]
LANGUAGE sql STABLE
RETURN ARRAY (
    SELECT s.util_id
      FROM csb_app.csb_util_shares s
     WHERE (s.grantee_tenant_id = csb_app.current_tenant()
            OR s.grantee_key_id = ANY ((SELECT csb_app.current_keys())::text[]))
       AND (p_at_least = 'read' OR s.permission = 'edit'));

-- What the transaction's caller may do with a util that it sees: everything with its tenant's own, else
-- the most that one of its shares says.
CREATE FUNCTION csb_app.access_to(p_util_id uuid, p_tenant_id uuid) RETURNS text
LANGUAGE sql STABLE
RETURN CASE WHEN p_tenant_id = csb_app.current_tenant() THEN 'owner' ELSE (
    SELECT CASE WHEN bool_or(s.permission = 'edit') THEN 'edit'
                WHEN bool_or(s.permission = 'execute') THEN 'execute'
                WHEN bool_or(s.permission = 'read') THEN 'read' END
      FROM csb_app.csb_util_shares s
     WHERE s.util_id = p_util_id) END; -- all that it sees of them, and does not own, are its own

-- Whoever changes a head raises its revision; what is deleted stays deleted.
CREATE FUNCTION csb_app.revise_util() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF OLD.status = 'deleted' THEN
        RAISE EXCEPTION 'a deleted util is not changed' USING ERRCODE = 'insufficient_privilege';
    END IF;
    NEW.revision := OLD.revision + 1;
    NEW.updated_at := now();
    RETURN NEW;
END $$;

-- As audit_control_change, with two differences: the caller's key stands in for an unset actor, and
-- what is kept out is the util itself (its digest says which it was) and its examples.
CREATE FUNCTION csb_app.audit_util_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
DECLARE
    kept_out constant text[] := ARRAY['code', 'parameters', 'test_cases'];
    was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - kept_out END;
    is_ jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - kept_out END;
BEGIN
    INSERT INTO csb_control_audit (actor, db_role, tenant_id, event, subject, detail)
    VALUES (COALESCE(NULLIF(current_setting('csb.actor', true), ''),
                     NULLIF(current_setting('csb.key_id', true), ''), session_user),
            acting_role(), (COALESCE(is_, was) ->> 'tenant_id')::uuid,
            TG_TABLE_NAME || '.' || lower(TG_OP), COALESCE(is_, was) ->> TG_ARGV[0],
            jsonb_strip_nulls(jsonb_build_object('before', was, 'after', is_)));
    RETURN NULL;
END $$;

CREATE TRIGGER csb_utils_revised BEFORE UPDATE ON csb_app.csb_utils
    FOR EACH ROW EXECUTE FUNCTION csb_app.revise_util();
CREATE TRIGGER csb_utils_audited AFTER INSERT OR UPDATE OR DELETE ON csb_app.csb_utils
    FOR EACH ROW EXECUTE FUNCTION csb_app.audit_util_change('util_id');
CREATE TRIGGER csb_util_versions_audited AFTER INSERT ON csb_app.csb_util_versions
    FOR EACH ROW EXECUTE FUNCTION csb_app.audit_util_change('util_id');
CREATE TRIGGER csb_util_shares_audited AFTER INSERT OR UPDATE OR DELETE ON csb_app.csb_util_shares
    FOR EACH ROW EXECUTE FUNCTION csb_app.audit_util_change('util_id');
CREATE TRIGGER csb_util_rules_audited AFTER INSERT OR UPDATE OR DELETE ON csb_app.csb_util_rules
    FOR EACH ROW EXECUTE FUNCTION csb_app.audit_util_change('rule_id');
CREATE TRIGGER csb_util_versions_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON csb_app.csb_util_versions
    FOR EACH STATEMENT EXECUTE FUNCTION csb_app.refuse_change();

ALTER TABLE csb_app.csb_utils ENABLE ROW LEVEL SECURITY;
ALTER TABLE csb_app.csb_utils FORCE ROW LEVEL SECURITY;
ALTER TABLE csb_app.csb_util_versions ENABLE ROW LEVEL SECURITY;
ALTER TABLE csb_app.csb_util_versions FORCE ROW LEVEL SECURITY;
ALTER TABLE csb_app.csb_util_shares ENABLE ROW LEVEL SECURITY;
ALTER TABLE csb_app.csb_util_shares FORCE ROW LEVEL SECURITY;
ALTER TABLE csb_app.csb_util_rules ENABLE ROW LEVEL SECURITY;
ALTER TABLE csb_app.csb_util_rules FORCE ROW LEVEL SECURITY;

CREATE POLICY owner_reads ON csb_app.csb_utils FOR SELECT TO csb_owner USING (true);
CREATE POLICY owner_reads ON csb_app.csb_util_versions FOR SELECT TO csb_owner USING (true);
CREATE POLICY owner_reads ON csb_app.csb_util_shares FOR SELECT TO csb_owner USING (true);

-- The API. What says whose row it is (util_id, tenant_id, owner, created_...) and what the digest
-- covers (kind, and every column of a version) is written once; a revision is the trigger's.
GRANT SELECT (util_max_timeout_seconds, util_max_memory_mb, util_max_cpu,
              util_min_security_score) ON csb_app.csb_tenants TO csb_api_user;
GRANT SELECT ON csb_app.csb_utils, csb_app.csb_util_versions, csb_app.csb_util_shares,
    csb_app.csb_util_rules TO csb_api_user, csb_admin_user;
GRANT INSERT (util_id, tenant_id, owner, name, description, kind, language, category, tags, status,
              active_version, created_by, updated_by),
      UPDATE (name, description, category, tags, status, version, active_version, updated_by)
    ON csb_app.csb_utils TO csb_api_user;
GRANT INSERT (util_id, version, tenant_id, digest, label, code, parameters, execution_config,
              test_cases, validation, rollback_of, created_by)
    ON csb_app.csb_util_versions TO csb_api_user;
GRANT INSERT (share_id, util_id, tenant_id, grantee_tenant_id, grantee_key_id, permission, created_by),
      UPDATE (permission, created_by), DELETE
    ON csb_app.csb_util_shares TO csb_api_user;
GRANT INSERT (tenant_id, rule_id, severity, kind, pattern, message, created_by),
      UPDATE (severity, kind, pattern, message, created_by), DELETE
    ON csb_app.csb_util_rules TO csb_api_user;
GRANT INSERT (util_id, util_version, util_digest, util_limits)
    ON csb_app.csb_requests TO csb_api_user, csb_admin_user;

-- A share is seen from both ends and changed from one. Its policies name no other table: those of the
-- utils look here.
CREATE POLICY api_reads ON csb_app.csb_util_shares FOR SELECT TO csb_api_user
    USING (tenant_id = (SELECT csb_app.current_tenant())
           OR grantee_tenant_id = (SELECT csb_app.current_tenant())
           OR grantee_key_id = ANY ((SELECT csb_app.current_keys())::text[]));
CREATE POLICY api_inserts ON csb_app.csb_util_shares FOR INSERT TO csb_api_user
    WITH CHECK (tenant_id = (SELECT csb_app.current_tenant()));
CREATE POLICY api_changes ON csb_app.csb_util_shares FOR UPDATE TO csb_api_user
    USING (tenant_id = (SELECT csb_app.current_tenant()))
    WITH CHECK (tenant_id = (SELECT csb_app.current_tenant()));
CREATE POLICY api_deletes ON csb_app.csb_util_shares FOR DELETE TO csb_api_user
    USING (tenant_id = (SELECT csb_app.current_tenant()));

-- A shared util is read under any share, and changed under one that says so. The rows stay their
-- owner's (nobody may write another tenant_id, and a version's is its util's by a foreign key), and
-- only the owner deletes.
CREATE POLICY api_reads ON csb_app.csb_utils FOR SELECT TO csb_api_user
    USING (tenant_id = (SELECT csb_app.current_tenant())
           OR util_id = ANY ((SELECT csb_app.shared_utils('read'))::uuid[]));
CREATE POLICY api_inserts ON csb_app.csb_utils FOR INSERT TO csb_api_user
    WITH CHECK (tenant_id = (SELECT csb_app.current_tenant()) AND status <> 'deleted');
CREATE POLICY api_changes ON csb_app.csb_utils FOR UPDATE TO csb_api_user
    USING (status <> 'deleted'
           AND (tenant_id = (SELECT csb_app.current_tenant())
                OR util_id = ANY ((SELECT csb_app.shared_utils('edit'))::uuid[])))
    WITH CHECK (tenant_id = (SELECT csb_app.current_tenant())
                OR (status <> 'deleted'
                    AND util_id = ANY ((SELECT csb_app.shared_utils('edit'))::uuid[])));
CREATE POLICY api_reads ON csb_app.csb_util_versions FOR SELECT TO csb_api_user
    USING (tenant_id = (SELECT csb_app.current_tenant())
           OR util_id = ANY ((SELECT csb_app.shared_utils('read'))::uuid[]));
CREATE POLICY api_inserts ON csb_app.csb_util_versions FOR INSERT TO csb_api_user
    WITH CHECK (tenant_id = (SELECT csb_app.current_tenant())
                OR util_id = ANY ((SELECT csb_app.shared_utils('edit'))::uuid[]));
CREATE POLICY api_all ON csb_app.csb_util_rules TO csb_api_user
    USING (tenant_id = (SELECT csb_app.current_tenant()))
    WITH CHECK (tenant_id = (SELECT csb_app.current_tenant()));

CREATE POLICY admin_reads ON csb_app.csb_utils FOR SELECT TO csb_admin_user USING (true);
CREATE POLICY admin_reads ON csb_app.csb_util_versions FOR SELECT TO csb_admin_user USING (true);
CREATE POLICY admin_reads ON csb_app.csb_util_shares FOR SELECT TO csb_admin_user USING (true);
CREATE POLICY admin_reads ON csb_app.csb_util_rules FOR SELECT TO csb_admin_user USING (true);

-- May this tenant, by this key, run this very version now? `admitted`, or why not. By the owner's right,
-- because one call of submit accepts for many keys; it tells one word, and nothing of anybody's rows.
-- The version that is active was tested when it became so; another one needs a green test of its own.
CREATE FUNCTION csb_app.admit_util(p_tenant_id uuid, p_key_id text, p_action text, p_util_id uuid,
                                   p_version integer, p_digest text, p_advisory boolean)
RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
    SELECT COALESCE((
        SELECT CASE
               WHEN NOT COALESCE(p_advisory, false)
                    AND NOT ((v.validation ->> 'is_valid')::boolean
                             AND (v.validation ->> 'security_score')::numeric >= t.util_min_security_score)
                   THEN 'util_not_active'
               WHEN p_action = 'test_util' THEN 'admitted'
               WHEN u.status <> 'active' THEN 'util_not_active'
               WHEN u.active_version = v.version OR json_array_length(v.test_cases) = 0 THEN 'admitted'
               WHEN EXISTS (SELECT FROM csb_requests r
                             WHERE r.tenant_id IN (u.tenant_id, p_tenant_id) AND r.util_id = v.util_id
                               AND r.action = 'test_util' AND r.util_version = v.version
                               AND r.util_digest = v.digest AND r.status = 'SUCCESS')
                   THEN 'admitted'
               ELSE 'util_not_active' END
          FROM csb_utils u
          JOIN csb_util_versions v ON v.util_id = u.util_id
          JOIN csb_tenants t ON t.tenant_id = p_tenant_id
         WHERE u.util_id = p_util_id
           AND u.status <> 'deleted'
           AND v.version = p_version
           AND v.digest = p_digest
           AND (u.tenant_id = p_tenant_id
                OR EXISTS (SELECT FROM csb_util_shares s
                            WHERE s.util_id = u.util_id AND s.permission IN ('execute', 'edit')
                              AND (s.grantee_tenant_id = p_tenant_id
                                   OR s.grantee_key_id = ANY (keys_of(p_tenant_id, p_key_id)))))),
        'util_not_found')
$$;

-- A worker's one look at a util: the version that a request pins, while that request is in its hand.
CREATE FUNCTION csb_app.claimed_util(p_correlation_id uuid, p_token bigint)
RETURNS TABLE (code text, kind text, parameters json, execution_config json, test_cases json)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
    SELECT v.code, u.kind, v.parameters, v.execution_config, v.test_cases
      FROM csb_requests r
      JOIN csb_util_versions v
        ON v.util_id = r.util_id AND v.version = r.util_version AND v.digest = r.util_digest
      JOIN csb_utils u ON u.util_id = v.util_id
     WHERE r.correlation_id = p_correlation_id
       AND r.lease_token = p_token
       AND r.status = 'IN_PROGRESS'
       AND r.cloud_provider = provider_of(acting_role())
$$;

REVOKE EXECUTE ON FUNCTION csb_app.keys_of(uuid, text), csb_app.current_keys(),
    csb_app.shared_utils(text), csb_app.access_to(uuid, uuid), csb_app.revise_util(),
    csb_app.audit_util_change(),
    csb_app.admit_util(uuid, text, text, uuid, integer, text, boolean),
    csb_app.claimed_util(uuid, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION csb_app.keys_of(uuid, text), csb_app.current_keys(),
    csb_app.shared_utils(text), csb_app.access_to(uuid, uuid) TO csb_api_user;
GRANT EXECUTE ON FUNCTION csb_app.admit_util(uuid, text, text, uuid, integer, text, boolean)
    TO csb_api_user, csb_admin_user;
GRANT EXECUTE ON FUNCTION csb_app.claimed_util(uuid, bigint) TO csb_worker;
