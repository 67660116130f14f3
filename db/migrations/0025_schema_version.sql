-- How far the schema has come, for services that wait for it; their roles read nothing of the runner's.

CREATE FUNCTION csb_app.schema_version() RETURNS integer
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, csb_app, pg_temp
AS $$ SELECT max(version) FROM csb_schema_migrations $$;

REVOKE EXECUTE ON FUNCTION csb_app.schema_version() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION csb_app.schema_version() TO csb_api_user, csb_worker, csb_admin_user;
