-- What has ended goes after its tenant's retention, and its trail by whole partitions. Nobody else may
-- delete anything: not a service, and by these policies not even the owner what is still to be kept.

ALTER TABLE csb_app.csb_tenants -- NULL: the platform's default
    ADD COLUMN retention_days integer CHECK (retention_days BETWEEN 1 AND 36500);

CREATE FUNCTION csb_app.default_retention_days() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 365;

-- What ended before this need not be kept for this tenant.
CREATE FUNCTION csb_app.kept_since(p_tenant_id uuid) RETURNS timestamptz
LANGUAGE sql STABLE
RETURN now() - make_interval(days => COALESCE(
    (SELECT t.retention_days FROM csb_app.csb_tenants t WHERE t.tenant_id = p_tenant_id),
    csb_app.default_retention_days()));

-- The least id that a request of this moment can have: ids are UUIDv7, so old ones are found by the key.
CREATE FUNCTION csb_app.first_id_of(p_at timestamptz) RETURNS uuid
LANGUAGE sql STABLE
RETURN (lpad(to_hex((extract(epoch FROM p_at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;

CREATE POLICY owner_deletes ON csb_app.csb_requests FOR DELETE TO csb_owner
    USING (finished_at < csb_app.kept_since(tenant_id)); -- never an open one: it has not finished
CREATE POLICY owner_reads ON csb_app.csb_requests_ref FOR SELECT TO csb_owner USING (true);
CREATE POLICY owner_deletes ON csb_app.csb_requests_ref FOR DELETE TO csb_owner
    USING (NOT EXISTS (SELECT FROM csb_app.csb_requests r
                        WHERE r.correlation_id = csb_requests_ref.correlation_id));
CREATE POLICY owner_reads ON csb_app.csb_requests_audit FOR SELECT TO csb_owner USING (true);
CREATE POLICY owner_reads ON csb_app.csb_requests_audit_default FOR SELECT TO csb_owner USING (true);

-- One short batch, and its trace. An ended row is never written again, so this waits for nobody, and
-- nobody for it.
CREATE FUNCTION csb_app.delete_ended_requests(p_most integer)
RETURNS TABLE (tenant_id uuid, deleted integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    of_tenant uuid; since timestamptz; gone uuid[]; room integer := LEAST(p_most, 10000);
BEGIN
    FOR of_tenant IN SELECT t.tenant_id FROM csb_tenants t ORDER BY t.tenant_id LOOP
        EXIT WHEN room <= 0;
        since := kept_since(of_tenant);
        WITH ended AS (
            DELETE FROM csb_requests r
             WHERE r.finished_at < since
               AND r.correlation_id = ANY (ARRAY(
                       SELECT o.correlation_id FROM csb_requests o
                        WHERE o.tenant_id = of_tenant AND o.correlation_id < first_id_of(since)
                          AND o.finished_at < since
                        ORDER BY o.correlation_id LIMIT room))
            RETURNING r.correlation_id)
        SELECT array_agg(correlation_id ORDER BY correlation_id) INTO gone FROM ended;
        CONTINUE WHEN gone IS NULL;

        -- A statement of its own, so that it finds the requests gone: else its policy lets none go.
        DELETE FROM csb_requests_ref f WHERE f.correlation_id = ANY (gone);
        PERFORM note_operation('requests_deleted', of_tenant, of_tenant::text, jsonb_build_object(
            'count', cardinality(gone), 'ended_before', since, 'first', gone[1],
            'last', gone[cardinality(gone)]));
        room := room - cardinality(gone);
        tenant_id := of_tenant;
        deleted := cardinality(gone);
        RETURN NEXT;
    END LOOP;
END $$;

-- The partitions of the audit but the default one. One is due when it ended before all that any tenant
-- keeps, and none of its rows is about a request that is still there (an open one, or one that ended late).
CREATE FUNCTION csb_app.audit_partitions()
RETURNS TABLE (name text, from_at timestamptz, until_at timestamptz, is_due boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$
    WITH bounds AS (
        SELECT c.relname::text AS name, m.bound[1]::timestamptz AS from_at,
               m.bound[2]::timestamptz AS until_at
          FROM pg_inherits i
          JOIN pg_class c ON c.oid = i.inhrelid
         CROSS JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid),
                                         'FROM \(''(.+)''\) TO \(''(.+)''\)') AS m (bound)
         WHERE i.inhparent = 'csb_app.csb_requests_audit'::regclass AND m.bound IS NOT NULL)
    SELECT b.name, b.from_at, b.until_at, CASE
           WHEN b.until_at > (SELECT COALESCE(min(kept_since(t.tenant_id)), '-infinity') FROM csb_tenants t)
               THEN false
           ELSE NOT EXISTS (
               SELECT FROM csb_requests r
                WHERE r.correlation_id < first_id_of(b.until_at)
                  AND EXISTS (SELECT FROM csb_requests_audit a
                               WHERE a.correlation_id = r.correlation_id
                                 AND a.at >= b.from_at AND a.at < b.until_at)) END
      FROM bounds b
     ORDER BY b.from_at
$$;

-- Drops the oldest partition that is due, with its trace; returns its name, NULL when none is due. It
-- waits no longer than a second for the lock: while it waits, whoever wants to write an audit row does.
CREATE FUNCTION csb_app.drop_audit_partition() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp SET lock_timeout = '1s'
AS $$
DECLARE
    due record; held bigint;
BEGIN
    SELECT p.* INTO due FROM audit_partitions() p WHERE p.is_due ORDER BY p.until_at LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT count(*) FROM csb_requests_audit WHERE at >= %L AND at < %L',
                   due.from_at, due.until_at) INTO held;
    EXECUTE format('DROP TABLE csb_app.%I', due.name);
    PERFORM note_operation('audit_dropped', NULL, due.name, jsonb_build_object(
        'from', due.from_at, 'until', due.until_at, 'rows', held));
    RETURN due.name;
END $$;

-- What a partition has beside what it inherits.
CREATE FUNCTION csb_app.guard_audit_partition(p_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, csb_app, pg_temp
AS $$
BEGIN
    EXECUTE format('ALTER TABLE csb_app.%I ENABLE ROW LEVEL SECURITY', p_name);
    EXECUTE format('ALTER TABLE csb_app.%I FORCE ROW LEVEL SECURITY', p_name);
    -- A statement trigger of the parent does not see statements that name the partition.
    EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON csb_app.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION csb_app.refuse_change()', p_name);
END $$;

-- Rows in the default partition would forbid a partition for their month. So the table that stood in
-- becomes the partition of the months that it stood in for, as it is, and a new one stands in: no row is
-- moved, none is out of view. Returns whether there was anything to do.
CREATE FUNCTION csb_app.file_default_audit() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, csb_app, pg_temp
AS $$
DECLARE
    first_month timestamp; after_last timestamp; name text;
BEGIN
    IF NOT EXISTS (SELECT FROM csb_requests_audit_default) THEN
        RETURN false;
    END IF;
    LOCK TABLE csb_requests_audit IN ACCESS EXCLUSIVE MODE;
    SELECT date_trunc('month', min(at) AT TIME ZONE 'UTC'),
           date_trunc('month', GREATEST(max(at), now()) AT TIME ZONE 'UTC') + interval '1 month'
      INTO first_month, after_last
      FROM csb_requests_audit_default;
    IF EXISTS (SELECT FROM audit_partitions() p
                WHERE p.from_at < after_last AT TIME ZONE 'UTC'
                  AND p.until_at > first_month AT TIME ZONE 'UTC') THEN
        RETURN false; -- there is one in between; they stay where they are, in view
    END IF;
    name := format('csb_requests_audit_%s_to_%s', to_char(first_month, 'YYYY_MM'),
                   to_char(after_last - interval '1 month', 'YYYY_MM'));
    ALTER TABLE csb_app.csb_requests_audit DETACH PARTITION csb_app.csb_requests_audit_default;
    EXECUTE format('ALTER TABLE csb_app.csb_requests_audit_default RENAME TO %I', name);
    EXECUTE format('ALTER TABLE csb_app.csb_requests_audit ATTACH PARTITION csb_app.%I
                    FOR VALUES FROM (%L) TO (%L)', name,
                   first_month AT TIME ZONE 'UTC', after_last AT TIME ZONE 'UTC');
    CREATE TABLE csb_app.csb_requests_audit_default PARTITION OF csb_app.csb_requests_audit DEFAULT;
    PERFORM guard_audit_partition('csb_requests_audit_default');
    CREATE POLICY owner_reads ON csb_app.csb_requests_audit_default FOR SELECT TO csb_owner USING (true);
    PERFORM note_operation('audit_filed', NULL, name, jsonb_build_object(
        'from', first_month AT TIME ZONE 'UTC', 'until', after_last AT TIME ZONE 'UTC'));
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION csb_app.ensure_audit_partitions(months_ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp SET lock_timeout = '1s'
AS $$
DECLARE
    first_day timestamp; begins timestamptz; ends timestamptz; name text; made integer := 0;
BEGIN
    PERFORM file_default_audit();
    FOR i IN 0 .. months_ahead LOOP
        first_day := date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => i);
        begins := first_day AT TIME ZONE 'UTC';
        ends := (first_day + interval '1 month') AT TIME ZONE 'UTC';
        CONTINUE WHEN EXISTS (SELECT FROM audit_partitions() p
                               WHERE p.from_at < ends AND p.until_at > begins);
        CONTINUE WHEN EXISTS (SELECT FROM csb_requests_audit_default d
                               WHERE d.at >= begins AND d.at < ends);
        name := 'csb_requests_audit_' || to_char(first_day, 'YYYY_MM');
        EXECUTE format('CREATE TABLE csb_app.%I PARTITION OF csb_app.csb_requests_audit
                        FOR VALUES FROM (%L) TO (%L)', name, begins, ends);
        PERFORM guard_audit_partition(name);
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;

REVOKE EXECUTE ON FUNCTION csb_app.default_retention_days(), csb_app.kept_since(uuid),
    csb_app.first_id_of(timestamptz), csb_app.delete_ended_requests(integer), csb_app.audit_partitions(),
    csb_app.drop_audit_partition(), csb_app.guard_audit_partition(text), csb_app.file_default_audit()
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION csb_app.default_retention_days(), csb_app.kept_since(uuid),
    csb_app.first_id_of(timestamptz), csb_app.delete_ended_requests(integer), csb_app.audit_partitions(),
    csb_app.drop_audit_partition() TO csb_admin_user;
