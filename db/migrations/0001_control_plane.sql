-- Who may call, and what they may touch: tenants, API keys, target accounts.

CREATE TABLE csb_app.csb_tenants (
    tenant_id           uuid        PRIMARY KEY,
    code                text        NOT NULL UNIQUE CHECK (code ~ '^[a-z][a-z0-9-]{1,30}$'),
    name                text        NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    status              text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    requests_per_minute integer     CHECK (requests_per_minute > 0),
    created_at          timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE csb_app.csb_api_keys (
    key_id              text        PRIMARY KEY CHECK (key_id ~ '^[a-z0-9]{12}$'),
    tenant_id           uuid        NOT NULL REFERENCES csb_app.csb_tenants,
    digest              bytea       NOT NULL UNIQUE CHECK (length(digest) = 32), -- SHA-256 of the token
    label               text        NOT NULL DEFAULT '' CHECK (length(label) <= 200),
    scopes              text[]      NOT NULL CHECK (
        scopes <@ ARRAY['requests:read', 'requests:write', 'requests:operate', 'admin']
        AND cardinality(scopes) > 0),
    requests_per_minute integer     CHECK (requests_per_minute > 0),
    created_at          timestamptz NOT NULL DEFAULT now(),
    expires_at          timestamptz,
    revoked_at          timestamptz,
    last_used_at        timestamptz,
    replaced_by         text        REFERENCES csb_app.csb_api_keys
);
CREATE INDEX csb_api_keys_tenant_idx ON csb_app.csb_api_keys (tenant_id);

CREATE TABLE csb_app.csb_target_accounts (
    tenant_id      uuid        NOT NULL REFERENCES csb_app.csb_tenants,
    cloud_provider text        NOT NULL CHECK (cloud_provider ~ '^[a-z][a-z0-9]{1,30}$'),
    account_id     text        NOT NULL CHECK (length(account_id) BETWEEN 1 AND 128),
    role_arn       text        NOT NULL,
    external_id    text        NOT NULL CHECK (length(external_id) BETWEEN 2 AND 1224),
    label          text        NOT NULL DEFAULT '',
    status         text        NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, cloud_provider, account_id)
);

-- Every change of the three tables above leaves its trace here; nobody can skip, change or delete it.
CREATE TABLE csb_app.csb_control_audit (
    audit_id  bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at        timestamptz NOT NULL DEFAULT now(),
    actor     text        NOT NULL,
    db_role   text        NOT NULL,
    tenant_id uuid,
    event     text        NOT NULL,
    subject   text        NOT NULL,
    detail    jsonb       NOT NULL
);

-- Every function that names its search_path names pg_temp last: left out, it would come first, and a
-- caller's temporary table could stand in for one of ours (an audit table, say) inside a definer.

-- The role that a statement runs for, also inside a definer function.
CREATE FUNCTION csb_app.acting_role() RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$ SELECT COALESCE(NULLIF(current_setting('role', true), 'none'), session_user::text) $$;

-- Parsed here and now, so that no caller's search_path has a say in what it does; and still inlined.
CREATE FUNCTION csb_app.current_tenant() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN NULLIF(current_setting('csb.tenant_id', true), '')::uuid;

-- csb_<provider>_user serves <provider>: a new provider needs a role, not a policy.
CREATE FUNCTION csb_app.provider_of(role_name text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN substring(role_name FROM '^csb_([a-z][a-z0-9]*)_user$');

CREATE FUNCTION csb_app.audit_control_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
DECLARE
    secret constant text[] := ARRAY['digest', 'external_id'];
    was jsonb := CASE WHEN TG_OP <> 'INSERT' THEN to_jsonb(OLD) - secret END;
    is_ jsonb := CASE WHEN TG_OP <> 'DELETE' THEN to_jsonb(NEW) - secret END;
    subject text := COALESCE(is_, was) ->> TG_ARGV[0];
BEGIN
    INSERT INTO csb_control_audit (actor, db_role, tenant_id, event, subject, detail)
    VALUES (COALESCE(NULLIF(current_setting('csb.actor', true), ''), session_user),
            acting_role(), (COALESCE(is_, was) ->> 'tenant_id')::uuid,
            TG_TABLE_NAME || '.' || lower(TG_OP), subject,
            jsonb_strip_nulls(jsonb_build_object('before', was, 'after', is_)));
    RETURN NULL;
END $$;

CREATE FUNCTION csb_app.refuse_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER csb_tenants_audited AFTER INSERT OR UPDATE OR DELETE ON csb_app.csb_tenants
    FOR EACH ROW EXECUTE FUNCTION csb_app.audit_control_change('code');
CREATE TRIGGER csb_api_keys_audited -- all columns but last_used_at
    AFTER INSERT OR DELETE OR UPDATE OF key_id, tenant_id, digest, label, scopes, requests_per_minute,
        created_at, expires_at, revoked_at, replaced_by ON csb_app.csb_api_keys
    FOR EACH ROW EXECUTE FUNCTION csb_app.audit_control_change('key_id');
CREATE TRIGGER csb_target_accounts_audited
    AFTER INSERT OR UPDATE OR DELETE ON csb_app.csb_target_accounts
    FOR EACH ROW EXECUTE FUNCTION csb_app.audit_control_change('account_id');
CREATE TRIGGER csb_control_audit_append_only
    BEFORE UPDATE OR DELETE OR TRUNCATE ON csb_app.csb_control_audit
    FOR EACH STATEMENT EXECUTE FUNCTION csb_app.refuse_change();
