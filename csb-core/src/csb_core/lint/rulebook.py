"""The rules as rules.toml has them: ids, severities, weights, words, and the lists they go by."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

from csb_core.lint.values import OWN_PREFIX, Severity

_FILE: Final = Path(__file__).with_name("rules.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: what it looks for, why, and what to do instead."""

    id: str
    severity: Severity
    weight: int
    title: str
    explanation: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How findings become a score."""

    counted_per_rule: int
    ceiling_with_error: int
    own_weights: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rulebook:
    """Every rule by its id; `lists` goes to the inspector as it is."""

    version: str
    families: Mapping[str, str]
    rules: Mapping[str, Rule]
    scoring: Scoring
    lists: Mapping[str, Any]

    def weight(self, rule: str, severity: Severity) -> int:
        """Return what one finding of the rule costs."""
        if rule.startswith(OWN_PREFIX):
            return self.scoring.own_weights[severity]
        return self.rules[rule].weight


@cache
def rulebook() -> Rulebook:
    """Return the rules that ship with this package; its version is the digest of the file."""
    data = _FILE.read_bytes()
    document = tomllib.loads(data.decode())
    rules = [Rule(**entry) for entry in document["rule"]]
    return Rulebook(
        version=hashlib.sha256(data).hexdigest(),
        families=MappingProxyType(document["families"]),
        rules=MappingProxyType({rule.id: rule for rule in rules}),
        scoring=Scoring(**document["scoring"]),
        lists=MappingProxyType(cast("dict[str, Any]", document["lists"])),
    )
