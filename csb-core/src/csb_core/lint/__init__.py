"""The validator of custom utils; see docs/validation.md."""

from __future__ import annotations

from csb_core.lint.validator import Validator, validate
from csb_core.lint.values import (
    KINDS,
    OWN_KINDS,
    Declared,
    Finding,
    History,
    LintLimits,
    LintUnavailable,
    OwnRule,
    Prediction,
    Severity,
    Validation,
)

__all__ = [
    "KINDS",
    "OWN_KINDS",
    "Declared",
    "Finding",
    "History",
    "LintLimits",
    "LintUnavailable",
    "OwnRule",
    "Prediction",
    "Severity",
    "Validation",
    "Validator",
    "validate",
]
