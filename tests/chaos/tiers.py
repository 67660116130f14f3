"""What `make test` leaves to `make chaos`."""

from __future__ import annotations

from typing import Any

import pytest


def long_form(*values: Any, timeout: int = 300) -> Any:
    """A parameter set of the long form only."""
    return pytest.param(*values, marks=[pytest.mark.chaos_long, pytest.mark.timeout(timeout)])
