"""Tests of the way of a log line: `make check-deploy` runs them, with the tools that they need."""

from __future__ import annotations

import os

# Without its tools nothing here can run; a missing one must fail the check, not be skipped.
if not os.environ.get("CSB_CHECK_DEPLOY"):
    collect_ignore_glob = ["test_*.py"]
