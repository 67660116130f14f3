"""Score a finding from 0 to 100 by its own severity and by what is at stake, and say why.

Severities of any scale come in: a word, GuardDuty or CVSS (0 to 10), Security Hub (0 to 100). What
surrounds the finding then adds or takes points; the reasons add up to the score.
"""

from __future__ import annotations

WORDS = {
    "informational": 0, "info": 0, "none": 0, "low": 25, "minor": 25, "medium": 50,
    "moderate": 50, "high": 75, "major": 75, "important": 75, "critical": 95, "severe": 95,
}  # fmt: skip

SCALES = {"cvss": 10, "guardduty": 10, "percent": 100, "security_hub": 100}

#: What raises or lowers a finding, in points; `weights` in the input goes before.
WEIGHTS = {
    "internet_facing": 10,
    "known_exploited": 15,
    "privileged_identity": 10,
    "sensitive_data": 10,
    "production": 5,
    "no_mfa": 5,
    "threat_intel_match": 10,
    "recurring": 5,
    "test_environment": -15,
    "mitigated": -25,
    "expected_activity": -20,
}

LABELS = ((90, "critical"), (70, "high"), (40, "medium"), (10, "low"), (0, "informational"))


def transform(data: dict) -> dict:
    """Return {"score", "label", "reasons": [{factor, points}], "ignored": [factor]}."""
    base = base_of(data["severity"], data.get("scale"))
    weights = {**WEIGHTS, **data.get("weights", {})}
    context = data.get("context", {})
    reasons = [{"factor": "severity", "points": base}]
    reasons += [
        {"factor": factor, "points": weights[factor]}
        for factor, holds in context.items()
        if holds is True and factor in weights and weights[factor]
    ]
    raw = sum(reason["points"] for reason in reasons)
    score = min(100, max(0, raw))
    if score != raw:
        reasons.append({"factor": "bounds", "points": round(score - raw, 1)})
    return {
        "score": round(score, 1),
        "label": next(label for least, label in LABELS if score >= least),
        "reasons": reasons,
        "ignored": sorted(factor for factor in context if factor not in weights),
    }


def base_of(severity: object, scale: str | None) -> float:
    """Return a severity as a number from 0 to 100. Raises ValueError when it is none."""
    if isinstance(severity, str):
        word = severity.strip().lower()
        if word in WORDS:
            return WORDS[word]
        severity = number_of(word)
    largest = SCALES[scale] if scale else (10 if severity <= 10 else 100)
    if not 0 <= severity <= largest:
        raise ValueError(f"severity {severity} is not within 0 and {largest}")
    return round(severity * 100 / largest, 1)


def number_of(text: str) -> float:
    """Return the number that a text is. Raises ValueError that names the words there are."""
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"severity {text!r}: give a number or one of {', '.join(WORDS)}") from None
