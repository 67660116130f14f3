-- Messages are first in, first out within a tenant, no longer among all of a provider: so the rescuer
-- looks at what is open tenant by tenant, at each only before the oldest message that it has standing.
-- The columns that a claim or a heartbeat changes still stand in no index.

DROP INDEX csb_app.csb_requests_open;
CREATE INDEX csb_requests_open
    ON csb_app.csb_requests (cloud_provider, tenant_id, rung_at, available_at) WHERE finished_at IS NULL;
