"""The validator: a lint that reads a util's source, never runs it, and says what it thinks of it.

It is no boundary: Python resolves names at run time, and no list of names is ever complete. The
kernel keeps a util in; this tells its author early what will not work and what looks wrong.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from csb_core.lint.prescan import prescan
from csb_core.lint.process import ask
from csb_core.lint.rulebook import Rulebook, rulebook
from csb_core.lint.values import (
    KINDS,
    Answer,
    Declared,
    History,
    LintLimits,
    LintUnavailable,
    OwnRule,
    Question,
    Validation,
)
from csb_core.lint.verdict import judge

DEFAULT: Final = LintLimits()


class Validator:
    """Validates and remembers: at most `remembered` verdicts, at most `at_once` processes."""

    def __init__(self, *, remembered: int = 500, at_once: int = 2) -> None:
        self._remembered = remembered
        self._verdicts: OrderedDict[str, Validation] = OrderedDict()
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(at_once)

    def validate(
        self,
        source: str,
        *,
        kind: str,
        declared: Declared,
        rules: Sequence[OwnRule] = (),
        allowed_packages: Mapping[str, tuple[str, ...]] | None = None,
        history: History | None = None,
        limits: LintLimits = DEFAULT,
        minimum_score: int = 0,
    ) -> Validation:
        """Return what is to be said of the source.

        `allowed_packages` maps each package that the sandbox holds to the modules it brings; None
        when nobody has told, and then a package is refused for that.
        Raises LintUnavailable when no process is to be had, Invalid for a rule that is none.
        """
        question = Question(
            source=source,
            kind=kind,
            declared=declared,
            rules=tuple(rules),
            allowed_packages=allowed_packages,
            history=history,
            limits=limits,
            minimum_score=minimum_score,
        )
        _require_sound(question)
        book = rulebook()
        key = digest(question, book)
        with self._lock:
            known = self._verdicts.get(key)
            if known is not None:
                self._verdicts.move_to_end(key)
                return known

        verdict = judge(book, question, self._inspect(book, question))

        with self._lock:
            self._verdicts[key] = verdict
            while len(self._verdicts) > self._remembered:
                self._verdicts.popitem(last=False)
        return verdict

    def _inspect(self, book: Rulebook, question: Question) -> Answer:
        flaw = prescan(question)
        if flaw is not None:
            return Answer(found=(flaw,))
        wait = question.limits.wall.total_seconds()
        if not self._free.acquire(timeout=wait):
            raise LintUnavailable("too many sources are being validated; try again")
        try:
            return ask(_asked(book, question), question.limits)
        finally:
            self._free.release()


def validate(
    source: str,
    *,
    kind: str,
    declared: Declared,
    rules: Sequence[OwnRule] = (),
    allowed_packages: Mapping[str, tuple[str, ...]] | None = None,
    history: History | None = None,
    limits: LintLimits = DEFAULT,
    minimum_score: int = 0,
) -> Validation:
    """Validate once, remembering nothing; see Validator.validate."""
    return Validator(remembered=0, at_once=1).validate(
        source,
        kind=kind,
        declared=declared,
        rules=rules,
        allowed_packages=allowed_packages,
        history=history,
        limits=limits,
        minimum_score=minimum_score,
    )


def digest(question: Question, book: Rulebook) -> str:
    """Return the SHA-256 of all that a verdict depends on, the rules and Python included."""
    whole = [asdict(question), book.version, sys.version]
    text = json.dumps(whole, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _require_sound(question: Question) -> None:
    if question.kind not in KINDS:
        raise ValueError(f"no such kind of util: {question.kind!r}")
    for rule in question.rules:
        rule.check()


def _asked(book: Rulebook, question: Question) -> dict[str, Any]:
    """Return what the inspector is told, as JSON."""
    declared = question.declared
    return {
        "source": question.source,
        "kind": question.kind,
        "declared": {
            "description": bool(declared.description.strip()),
            "owner": bool(declared.owner.strip()),
            "input_schema": bool(declared.input_schema),
            "output_schema": bool(declared.output_schema),
            "limits": bool(declared.limits),
            "dependencies": list(declared.dependencies),
        },
        "rules": [
            {"name": rule.name, "kind": rule.kind, "pattern": rule.pattern}
            for rule in question.rules
        ],
        "allowed_packages": question.allowed_packages,
        "lists": dict(book.lists),
    }
