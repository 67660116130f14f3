"""Tests of charts and manifests: `make check-deploy` runs them, with the tools that they need."""

from __future__ import annotations

import os

from tests.deploy.tenants import here, stores, tenants

__all__ = ["here", "stores", "tenants"]

# Without the tools nothing here can run; a missing tool must fail the check, so it is not skipped.
if not os.environ.get("CSB_CHECK_DEPLOY"):
    collect_ignore_glob = ["test_*.py"]
