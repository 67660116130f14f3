"""The servers and databases that these tests run against."""

from __future__ import annotations

from csb_core.testing import database, postgres, redis_server, redis_url, template

__all__ = ["database", "postgres", "redis_server", "redis_url", "template"]
