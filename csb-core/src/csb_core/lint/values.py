"""What the validator takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal

from csb_core.errors import BridgeError
from csb_core.faults import Fault, Invalid
from csb_core.models import Json

Severity = Literal["error", "warning", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "info")
KINDS: Final = ("transformer", "script")
OWN_KINDS: Final = (
    "forbid_import",
    "forbid_call",
    "forbid_attribute",
    "forbid_name",
    "forbid_literal",
    "require_docstring",
    "max_lines",
)
OWN_PREFIX: Final = "OWN-"
_LONGEST_PATTERN: Final = 200


class LintUnavailable(BridgeError):
    """The inspector could not be started or is overrun: our fault, never the source's."""

    code = "lint_unavailable"
    retryable: ClassVar[bool] = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What is said of a util beside its code; `limits` are its execution_config, None: none given.

    `dependencies` are names of packages as an index knows them, with or without a version.
    """

    description: str = ""
    owner: str = ""
    dependencies: tuple[str, ...] = ()
    input_schema: Json | None = None
    output_schema: Json | None = None
    limits: Json | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnRule:
    """A rule that a tenant's administrator added; its findings are reported as OWN-<rule_id>."""

    rule_id: str
    kind: str
    pattern: str = "*"
    severity: Severity = "error"
    message: str = ""

    @property
    def name(self) -> str:
        """The id under which it is reported."""
        return f"{OWN_PREFIX}{self.rule_id.removeprefix(OWN_PREFIX)}"

    def check(self) -> None:
        """Raise Invalid with every fault of the rule itself."""
        faults = []
        if self.kind not in OWN_KINDS:
            faults.append(Fault(pointer="/kind", message=f"must be one of {', '.join(OWN_KINDS)}"))
        if self.severity not in SEVERITIES:
            faults.append(
                Fault(pointer="/severity", message=f"must be one of {', '.join(SEVERITIES)}")
            )
        if not 1 <= len(self.pattern) <= _LONGEST_PATTERN:
            faults.append(
                Fault(pointer="/pattern", message=f"must have 1 to {_LONGEST_PATTERN} characters")
            )
        elif self.kind == "max_lines" and not (self.pattern.isascii() and self.pattern.isdigit()):
            faults.append(Fault(pointer="/pattern", message="must be a number of lines"))
        if faults:
            raise Invalid(faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What past executions of this util took."""

    count: int
    p50_ms: float
    p95_ms: float
    peak_kb: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LintLimits:
    """What one validation may take, and how much it may say."""

    source_bytes: int = 64 * 1024
    wall: timedelta = timedelta(seconds=10)
    cpu_seconds: int = 4
    memory_mb: int = 512
    answer_bytes: int = 4 * 1024 * 1024
    findings: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found: where (1-based, in characters; 1:1 where it has no place), what, remedy."""

    rule: str
    line: int
    col: int
    severity: Severity
    message: str
    remedy: str | None = None

    def document(self) -> Json:
        """Return it as the API shows it."""
        shown: Json = {
            "rule": self.rule,
            "line": self.line,
            "col": self.col,
            "severity": self.severity,
            "message": self.message,
        }
        return shown | ({"remedy": self.remedy} if self.remedy else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a run will likely cost; a guess that no limit relies on.

    `basis` is "executions" where there were enough of them, else "source": then the figures are
    for an input of a thousand items.
    """

    cost_class: str
    milliseconds: float
    memory_mb: float
    basis: Literal["executions", "source"]

    def document(self) -> Json:
        """Return it as the API shows it."""
        return {
            "cost_class": self.cost_class,
            "milliseconds": self.milliseconds,
            "memory_mb": self.memory_mb,
            "basis": self.basis,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What the validator makes of one source."""

    is_valid: bool
    validation_errors: tuple[Finding, ...]
    security_score: int
    predicted: Prediction | None

    def document(self) -> Json:
        """Return it as the API shows and stores it."""
        return {
            "is_valid": self.is_valid,
            "validation_errors": [finding.document() for finding in self.validation_errors],
            "security_score": self.security_score,
            "predicted": self.predicted.document() if self.predicted else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Everything that a verdict depends on, and nothing else."""

    source: str
    kind: str
    declared: Declared
    rules: tuple[OwnRule, ...] = ()
    allowed_packages: Mapping[str, tuple[str, ...]] | None = None
    history: History | None = None
    limits: LintLimits = LintLimits()
    minimum_score: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the inspector said: raw findings, and the figures that a prediction is made from."""

    found: tuple[tuple[str, int, int, str], ...]
    cost: Mapping[str, Any] | None = None
