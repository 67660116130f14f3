"""Turns what was found into a verdict: severities, a score, a prediction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from csb_core.lint.rulebook import Rulebook
from csb_core.lint.values import (
    SEVERITIES,
    Answer,
    Finding,
    History,
    Prediction,
    Question,
    Validation,
)

#: Fewer executions than these say nothing of the next one.
ENOUGH_EXECUTIONS: Final = 5

#: What holds where a util declares no limits.
DEFAULT_SECONDS: Final = 30
DEFAULT_MEGABYTES: Final = 128

_CUT: Final = "CUT001"
_BELOW: Final = "CPX099"


def judge(book: Rulebook, question: Question, answer: Answer) -> Validation:
    """Return the verdict on what the inspector found."""
    predicted = _predict(answer.cost, question.history) if answer.cost else None
    raw = [*answer.found, *_costly(predicted, question)]
    findings = _findings(book, question, raw)
    score = security_score(book, findings)
    return Validation(
        is_valid=score >= question.minimum_score
        and not any(finding.severity == "error" for finding in findings),
        validation_errors=_shown(book, findings, score, question),
        security_score=score,
        predicted=predicted,
    )


def security_score(book: Rulebook, findings: Iterable[Finding]) -> int:
    """Return 0 to 100; another finding never raises it."""
    scoring = book.scoring
    counts: Counter[str] = Counter()
    deducted, ceiling = 0, 100
    for finding in findings:
        counts[finding.rule] += 1
        if counts[finding.rule] <= scoring.counted_per_rule:
            deducted += book.weight(finding.rule, finding.severity)
        if finding.severity == "error":
            ceiling = scoring.ceiling_with_error
    return max(0, min(ceiling, 100 - deducted))


def _findings(
    book: Rulebook, question: Question, raw: Sequence[tuple[str, int, int, str]]
) -> list[Finding]:
    own = {rule.name: rule for rule in question.rules}
    findings = []
    for rule_id, line, col, message in dict.fromkeys(raw):
        if rule_id in own:
            rule = own[rule_id]
            told = f"{rule.message}: {message}" if rule.message else message
            findings.append(
                Finding(rule=rule_id, line=line, col=col, severity=rule.severity, message=told)
            )
        else:
            findings.append(_of_the_book(book, rule_id, line, col, message))
    return sorted(findings, key=_by_place)


def _of_the_book(book: Rulebook, rule_id: str, line: int, col: int, message: str) -> Finding:
    rule = book.rules[rule_id]
    return Finding(
        rule=rule_id,
        line=line,
        col=col,
        severity=rule.severity,
        message=message,
        remedy=rule.remedy or None,
    )


def _by_place(finding: Finding) -> tuple[int, int, str, str]:
    return finding.line, finding.col, finding.rule, finding.message


def _shown(
    book: Rulebook, findings: list[Finding], score: int, question: Question
) -> tuple[Finding, ...]:
    """Return what is told: the gravest when there are too many, and notes on what is not seen."""
    notes = []
    if score < question.minimum_score:
        message = f"the security score {score} is below the minimum of {question.minimum_score}"
        notes.append(_of_the_book(book, _BELOW, 1, 1, message))
    most = question.limits.findings
    if len(findings) + len(notes) > most:
        kept = max(most - 1 - len(notes), 0)
        message = f"{len(findings) - kept} more findings are not shown, the gravest come first"
        notes.append(_of_the_book(book, _CUT, 1, 1, message))
        gravest = sorted(findings, key=lambda f: (SEVERITIES.index(f.severity), *_by_place(f)))
        findings = gravest[:kept]
    return tuple(sorted([*notes, *findings], key=_by_place))


def _predict(cost: Any, history: History | None) -> Prediction:
    if history is not None and history.count >= ENOUGH_EXECUTIONS:
        return Prediction(
            cost_class=cost["class"],
            milliseconds=round(history.p95_ms, 1),
            memory_mb=round(history.peak_kb / 1024, 1),
            basis="executions",
        )
    return Prediction(
        cost_class=cost["class"],
        milliseconds=round(float(cost["milliseconds"]), 1),
        memory_mb=round(float(cost["memory_mb"]), 1),
        basis="source",
    )


def _costly(
    predicted: Prediction | None, question: Question
) -> Iterable[tuple[str, int, int, str]]:
    """Hold a prediction against the limits that the util declares."""
    limits = question.declared.limits or {}
    if predicted is None:
        return
    seconds = limits.get("timeout_seconds", DEFAULT_SECONDS)
    megabytes = limits.get("memory_limit_mb", DEFAULT_MEGABYTES)
    if isinstance(seconds, int | float) and predicted.milliseconds > seconds * 1000:
        took = f"{predicted.milliseconds / 1000:.1f} s"
        yield "COST001", 1, 1, f"a run takes about {took}, and its limit is {seconds} s"
    if isinstance(megabytes, int | float) and predicted.memory_mb > megabytes:
        took = f"{predicted.memory_mb:.0f} MB"
        yield "COST002", 1, 1, f"a run needs about {took}, and its limit is {megabytes} MB"
