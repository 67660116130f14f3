"""The demonstration."""

from __future__ import annotations

from collections.abc import Mapping


def run(values: Mapping[str, str]) -> int:
    return 0 if values else 1
