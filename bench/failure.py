"""What ends a bench: a figure that was not measured as it says must never be printed."""

from __future__ import annotations


class BenchFailed(Exception):
    """Something did not work, or answered what it should not have; the text says what."""


class Ended(Exception):
    """Somebody, or our own clock, has ended the whole run."""
