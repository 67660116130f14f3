"""The validator as a whole: it runs nothing, ends always, remembers, scores, and tells limits."""

from __future__ import annotations

import ast
import json
import os
import resource
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sound_utils import SOUND

from csb_core.faults import Invalid
from csb_core.lint import (
    OWN_KINDS,
    Declared,
    Finding,
    History,
    LintLimits,
    LintUnavailable,
    OwnRule,
    Severity,
    Validation,
    Validator,
    process,
    validate,
)
from csb_core.lint.__main__ import main as lint
from csb_core.lint.inspector import loops, program
from csb_core.lint.rulebook import rulebook
from csb_core.lint.verdict import security_score

GOOD = '"""Gives back what it got."""\n\n\ndef transform(data):\n    return data\n'
TOLD = Declared(
    description="Gives back what it got",
    owner="key-1",
    input_schema={"type": "object"},
    output_schema={"type": "object"},
    limits={"timeout_seconds": 30, "memory_limit_mb": 128, "cpu_limit": 1.0},
)
EXAMPLES = Path(__file__).parents[2] / "worker-sandbox" / "examples"


def check(source: str, kind: str = "transformer", **given: Any) -> Validation:
    return validate(source, kind=kind, **{"declared": TOLD, **given})


def rules(verdict: Validation) -> list[str]:
    return [finding.rule for finding in verdict.validation_errors]


# What is fine is let through.


def test_a_sound_util_has_nothing_to_tell() -> None:
    verdict = check(GOOD)
    assert verdict.is_valid
    assert verdict.validation_errors == ()
    assert verdict.security_score == 100
    assert verdict.document()["predicted"]["cost_class"] == "constant"


@pytest.mark.parametrize(("kind", "source"), SOUND.values(), ids=SOUND)
def test_utils_as_people_write_them_are_valid(kind: str, source: str) -> None:
    verdict = check(source, kind)
    assert verdict.is_valid, verdict.validation_errors
    assert verdict.security_score >= 90, verdict.validation_errors
    assert not any(f.severity == "warning" for f in verdict.validation_errors)


@pytest.mark.parametrize("folder", sorted(EXAMPLES.glob("*/")), ids=lambda path: path.name)
def test_the_utils_that_ship_are_valid(folder: Path) -> None:
    util = json.loads((folder / "util.json").read_text(encoding="utf-8"))
    parameters = util.get("parameters", {})
    verdict = check(
        (folder / "code.py").read_text(encoding="utf-8"),
        util["kind"],
        declared=Declared(
            description=util["description"],
            owner="key-1",
            input_schema=parameters.get("input_schema"),
            output_schema=parameters.get("output_schema"),
            limits=util.get("execution_config"),
        ),
    )
    assert verdict.is_valid, verdict.validation_errors
    assert verdict.security_score >= 90, verdict.validation_errors


# Nothing of a source is ever run.

CANARY = """
import pathlib
def touch(*_, **__):
    pathlib.Path({canary!r}).touch()
    return lambda *_, **__: object
touch()
@touch
def decorated(): pass
def defaults(x=touch()): pass
def annotated(x: touch()) -> touch(): pass
variable: touch() = touch()
text = f"{{touch()}}"
class A(touch()(), metaclass=touch()):
    touch()
    x: touch()
    def __init_subclass__(cls): touch()
    def __set_name__(self, *_): touch()
    __class_getitem__ = touch
class B(A, x=touch()): y = A()
[touch() for _ in [1]]
lambda: touch()
match touch():
    case _ if touch(): pass
assert touch()
raise touch()
"""


@pytest.mark.parametrize("tail", [GOOD, "def transform(", "return touch()"])
def test_nothing_of_a_source_runs(tmp_path: Path, tail: str) -> None:
    canary = tmp_path / "canary"
    source = CANARY.format(canary=str(canary))
    check(source + tail)
    lint([str(_written(tmp_path, source + tail))])
    assert not canary.exists()
    exec(compile(source.split("@touch")[0], "control", "exec"), {})
    assert canary.exists(), "the canary sings when it is run"


def _written(folder: Path, source: str) -> Path:
    path = folder / "util.py"
    path.write_bytes(source.encode("utf-8", "surrogateescape"))
    return path


# No source stops it.

HOSTILE = {
    "brackets": "(" * 65_000,
    "lists in lists": "x=" + "[" * 199 + "]" * 199,
    "more lists in lists": "x=" + "[" * 1500 + "]" * 1500,
    "minus": "x=" + "-" * 60_000 + "1",
    "not": "x=" + "not " * 15_000 + "1",
    "attributes": "x=a" + ".b" * 30_000,
    "a sum": "x=1" + "+1" * 31_000,
    "calls": "x=a" + "()" * 30_000,
    "digits": "x=" + "9" * 60_000,
    "hex digits": "x=0x" + "f" * 60_000,
    "f-strings": "x=" + "f'{" * 100 + "1" + "}'" * 100,
    "fields": "x=f'" + "{a}" * 20_000 + "'",
    "lambdas": "x=" + "lambda:" * 8_000 + "1",
    "conditions": "x=" + "1 if 1 else " * 5_000 + "1",
    "elif": "if a: pass\n" + "elif a: pass\n" * 4_500,
    "finally": "".join(" " * n + "try: pass\n" + " " * n + "finally:\n" for n in range(19))
    + " " * 19 + "pass",
    "names": "x;" * 32_000,
    "decorators": "@a\n" * 20_000 + "def f(): pass",
    "generators": "x=[a " + "for a in b " * 5_000 + "]",
    "comprehensions": "x=" + "[a for a in " * 150 + "b" + "]" * 150,
    "patterns": "match a:\n case " + "[" * 190 + "x" + "]" * 190 + ": pass",
    "levels": "".join(" " * n + "if a:\n" for n in range(99)) + " " * 99 + "pass",
    "while in while": "".join(" " * n + "while a:\n" for n in range(19))
    + (" " * 19 + "b;b;b;b;b;b;b;b\n") * 1_500,
    "groups": "import re\nre.compile('" + "(" * 1_900 + "')",
    "balanced groups": "import re\nre.compile('" + "(" * 900 + "a" + ")+" * 900 + "')",
    "replaced": "x='a'" + ".replace('a','aaaa')" * 900,
    "itself": "def f(x):\n" + " f(x)+f(x)\n" * 5_000,
    "addresses": "#" + "a://" * 16_000,
    "heads of keys": "#" + "-----BEGIN PRIVATE KEY-----" * 2_300,
    "heads of tokens": "#" + "eyJaaaaaaaaa." * 4_800,
    "spaces": "#bearer" + " " * 60_000,
    "turned": "# " + "\u202e" * 20_000,
    "lines": "\n" * 65_000,
    "continued": "x=1" + "\\\n" * 30_000,
    "nulls": "\0" * 60_000,
    "halves": "\ud800" * 20_000,
    "one line": "x = '" + "a" * 65_000 + "'",
}  # fmt: skip


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_source_gets_an_answer(source: str) -> None:
    verdict = check(source)
    assert not verdict.is_valid  # none has an entry point
    assert len(verdict.validation_errors) <= LintLimits().findings


def test_texts_that_would_grow_are_not_followed() -> None:
    source = "x='a'" + ".replace('a','aaaa')" * 60
    assert rules(check(source)) == ["COM006", "ENT001"]


def test_memory_that_runs_out_late_is_a_finding_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(loops, "look", exhausted)
    answer = program.inspect(_asked("x = eval\n" + GOOD))
    assert [rule for rule, *_ in answer["found"]] == ["FUN001", "SYN002"]


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(st.text(max_size=400))
@example("\ufeff")
@example("# -*- coding: utf-16 -*-\n")
@example("\x0c\x1a\r\r\n\t x")
def test_any_text_gets_an_answer(source: str) -> None:
    verdict = check(source)
    assert 0 <= verdict.security_score <= 100


PIECES = st.sampled_from([
    "def transform(data):\n", "    return ", "eval", "getattr(", "(", ")", "[", "]", "{", "}", "'",
    '"', "f'{", "}'", "\\", "\n", "    ", "\t", "lambda x:", "x", "_", "__", ".", ":", "=",
    ",", "**",
    "@", "for x in ", "if ", "else ", "while 1:\n", "class A(", "match x:\n", "case ",
    "import os\n",
    "from ", "\u202e", "\ud800", "\0", "9**9", "'a'*", "#", ":=", "async ", "await ", "yield ",
    "try:\n", "except*", "global x\n", "del ", ";", "\uff45", "\r", "\x0c", "'{0.a}'.format(",
])  # fmt: skip


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(st.lists(PIECES, max_size=60).map("".join))
def test_any_pile_of_syntax_gets_an_answer(source: str) -> None:
    """In this process: only how it looks at trees is tried here, not its limits."""
    if "\0" in source or any("\ud800" <= char <= "\udfff" for char in source):
        assert not check(source).is_valid
        return
    answer = program.inspect(_asked(source))
    lines = source.count("\n") + source.count("\r") + 1
    for rule, line, col, _ in answer["found"]:
        assert rule in rulebook().rules
        assert 1 <= line <= lines + 1
        assert col >= 1


def _asked(source: str) -> dict[str, Any]:
    said = ("description", "owner", "input_schema", "output_schema", "limits")
    return {
        "source": source,
        "kind": "transformer",
        "declared": dict.fromkeys(said, True) | {"dependencies": []},
        "rules": [],
        "allowed_packages": {},
        "lists": dict(rulebook().lists),
    }


# Its own limits.


def test_a_machine_that_is_too_busy_is_not_the_source_s_fault() -> None:
    with pytest.raises(LintUnavailable, match="in time"):
        check(GOOD, limits=LintLimits(wall=timedelta(seconds=0.001)))


def test_a_source_that_takes_too_much_memory_has_a_finding_for_it() -> None:
    source = "x = [" + "1, " * 20_000 + "]\n" + GOOD
    assert rules(check(source, limits=LintLimits(memory_mb=512))) == ["COM006", "CPX006"]
    assert "SYN002" in rules(check(source, limits=LintLimits(memory_mb=24)))


def test_processor_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    _instead_of_the_inspector(monkeypatch, "while True: pass")
    began = time.monotonic()
    assert rules(check(GOOD, limits=LintLimits(cpu_seconds=1))) == ["SYN002"]
    assert time.monotonic() - began < LintLimits().wall.total_seconds()


@pytest.mark.parametrize(
    "attempt",
    [
        "import os; os.write(os.open({path!r}, os.O_CREAT | os.O_WRONLY), b'x')",
        "import os; [os.dup(0) for _ in range(100)]",
        "bytearray(600 * 1024 * 1024)",
    ],
    ids=["files", "descriptors", "memory"],
)
def test_the_inspector_could_not_even_if_it_wanted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, attempt: str
) -> None:
    path = tmp_path / "written"
    done = 'import sys; sys.stdout.write(\'{"found": [], "cost": null}\')'
    _instead_of_the_inspector(monkeypatch, f"{done}")
    assert check(GOOD).is_valid, "without an attempt it answers"
    _instead_of_the_inspector(monkeypatch, f"{attempt.format(path=str(path))}; {done}")
    with pytest.raises(LintUnavailable):
        check(GOOD)
    assert not path.exists() or path.read_bytes() == b""


def test_it_sees_no_environment_and_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CSB_SECRET", "canary")
    _instead_of_the_inspector(
        monkeypatch,
        "import json, os, sys;"
        "said = [dict(os.environ).get('CSB_SECRET'), os.getsid(0) == os.getpid(),"
        " [p for p in sys.path if 'site-packages' in p]];"
        "found = [['COM001', 1, 1, json.dumps(said)]];"
        "sys.stdout.write(json.dumps({'found': found, 'cost': None}))",
    )
    said = json.loads(check(GOOD).validation_errors[0].message)
    assert said == [None, True, []]


@pytest.mark.parametrize(
    ("instead", "rule"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SYN002"),
        ("import sys; [sys.stdout.write('x' * 65536) for _ in range(10**6)]", "SYN002"),
        ("import os, time; os.close(1); time.sleep(60)", "SYN002"),
    ],
    ids=["it crashes", "it talks without end", "it lingers"],
)
def test_an_inspector_that_ends_badly_is_the_source_s_fault(
    monkeypatch: pytest.MonkeyPatch, instead: str, rule: str
) -> None:
    _instead_of_the_inspector(monkeypatch, instead)
    assert rules(check(GOOD)) == [rule]


def test_an_answer_that_is_too_long_is_not_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = "x" * 500_000
    answer = f"import json; print(json.dumps({{'found': [], 'cost': None, 'more': '{long}'}}))"
    _instead_of_the_inspector(monkeypatch, answer.replace(long, "' + 'x' * 500_000 + '"))
    assert rules(check(GOOD)) == []
    assert rules(check(GOOD, limits=LintLimits(answer_bytes=100_000))) == ["SYN002"]


def test_an_answer_that_is_none_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    _instead_of_the_inspector(monkeypatch, "print('{}')")
    with pytest.raises(LintUnavailable):
        check(GOOD)


def test_no_descriptor_is_ours() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    refused = []
    for spare in range(12):
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + spare, hard))
        try:
            assert check(GOOD).is_valid
        except LintUnavailable:
            refused.append(spare)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused
    assert refused == list(range(len(refused))), "with more it works"


def test_no_python_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(LintUnavailable):
        check(GOOD)


def _instead_of_the_inspector(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let it set its limits, and then do something else."""
    begin = (
        "import sys; sys.path.append(sys.argv[1]); from inspector import program;"
        "cpu, megabytes, _ = map(int, sys.argv[2:5]); program.limit(cpu, megabytes << 20)\n"
    )
    monkeypatch.setattr(process, "_START", begin + code)


def test_sources_longer_than_the_limit_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    longest = LintLimits().source_bytes
    assert rules(check("#" * (longest + 1))) == ["SYN007"]
    assert rules(check("é" * (longest // 2 + 1))) == ["SYN007"]
    with pytest.raises(LintUnavailable):
        check("#" * longest)


def test_only_so_many_findings_are_shown() -> None:
    source = "x = eval\n" * 39 + "#\u200b\n" * 39 + "import gc\n" * 39 + "y = __spec__\n" * 39
    source += "".join(f"v{n} = 'x'.ljust(10**9)\n" for n in range(39)) + "print(1)\n" * 39 + GOOD
    verdict = check(source)
    assert len(verdict.validation_errors) == 200
    assert "CUT001" in rules(verdict)
    assert rules(verdict).count("ENT011") < 39, "the gravest are kept"
    assert rules(verdict).count("FUN001") == 39
    places = [(f.line, f.col) for f in verdict.validation_errors]
    assert places == sorted(places)


# What is declared.


def test_packages_are_declared_and_allowed() -> None:
    source = "import yaml\n" + GOOD
    allowed = {"PyYAML": ("yaml", "_yaml"), "attrs": ("attr", "attrs")}

    def told(*dependencies: str) -> list[tuple[str, Severity]]:
        declared = Declared(
            description="x", owner="x", input_schema={"a": 1}, output_schema={"a": 1},
            limits={"a": 1}, dependencies=dependencies,
        )  # fmt: skip
        verdict = check(source, declared=declared, allowed_packages=allowed)
        return [(f.rule, f.severity) for f in verdict.validation_errors if f.rule != "COM006"]

    assert told("pyyaml") == []
    assert told("py.yaml") == [("IMP003", "error"), ("IMP004", "error")]
    assert told("PyYAML>=6", "attrs") == [("IMP010", "info")]
    assert told() == [("IMP003", "error")]
    assert told("pyyaml", "numpy") == [("IMP004", "error")]


HELD = {
    "PyYAML": ("_yaml", "yaml"),
    "python-dateutil": ("dateutil",),
    "six": ("six",),
    "names-a": ("shared",),
    "names-b": ("shared",),
    "tall": ("tall",),
}

#: A snippet, and the line at which it names a module of PyYAML.
SPELLINGS = [
    ("import yaml", 1),
    ("import yaml as y", 1),
    ("import json, yaml", 1),
    ("import yaml.nodes", 1),
    ("import yaml\\\n  .nodes as n", 1),
    ("from yaml import safe_load", 1),
    ("from yaml.nodes import Node as N", 1),
    ("from _yaml import CParser", 1),
    ("def f():\n    import yaml", 2),
    ("class A:\n    import yaml", 2),
    ("try:\n    import yaml\nexcept ImportError:\n    yaml = None", 2),
    ("if 1 > 2:\n    from yaml import safe_load", 2),
    ("import ya\uff4dl", 1),
    ("x = __import__('yaml')", 1),
    ("x = lambda: __import__('ya' + 'ml')", 1),
    ("import importlib as i\nx = i.import_module('yaml')", 1),
    ("from importlib import import_module", 1),
    ("import sys\nx = sys.modules['yaml']", 2),
    ("import pkgutil\nx = pkgutil.resolve_name('yaml')", 1),
    ("import runpy\nx = runpy.run_module('yaml')", 1),
    ("from tall.inner import yaml", 1),
    ("import tall.inner\nx = tall.inner.yaml", 2),
    ("import PyYAML", 1),
    ("import YAML", 1),
]


@pytest.mark.parametrize(("snippet", "line"), SPELLINGS)
def test_a_package_that_is_not_declared_is_refused_however_it_is_spelt(
    snippet: str, line: int
) -> None:
    declared = replace(TOLD, dependencies=("tall",))
    verdict = check(f"{snippet}\n{GOOD}", declared=declared, allowed_packages=HELD)
    assert not verdict.is_valid
    assert any(f.severity == "error" and f.line == line for f in verdict.validation_errors)


@pytest.mark.parametrize(
    "name", ["PyYAML", "pyyaml", "PYYAML", "names.a", "names_b", "NAMES--A", "Python_Dateutil"]
)
def test_a_package_is_declared_by_any_spelling_that_an_index_takes(name: str) -> None:
    modules = {"p": "yaml", "n": "shared"} | {"python_dateutil": "dateutil"}
    module = modules.get(name.lower()) or modules[name[0].lower()]
    declared = replace(TOLD, dependencies=(name,))
    verdict = check(f"import {module}\n{GOOD}", declared=declared, allowed_packages=HELD)
    assert rules(verdict) == ["COM006"]


def test_a_namespace_is_for_whoever_declares_any_of_its_packages() -> None:
    verdict = check(f"import shared.b\n{GOOD}", allowed_packages=HELD)
    told = [(f.rule, f.message) for f in verdict.validation_errors if f.severity == "error"]
    assert told == [("IMP003", "shared is of names-a or names-b, which is not declared")]


@pytest.mark.parametrize(
    ("snippet", "rule"),
    [
        ("import six\nx = six.exec_('1')", "IMP009"),
        ("from six.moves import builtins", "IMP009"),
        ("import six.moves.builtins as b", "IMP009"),
        ("from six.moves.urllib.request import urlopen", "IMP009"),
        ("from yaml.loader import UnsafeLoader", "IMP009"),
        ("import yaml.constructor as c", "IMP009"),
        ("import _yaml", "IMP001"),
        ("from dateutil.tz import os", "IMP009"),
        ("import dateutil.tz\nx = dateutil.tz.tz.os.system", "IMP009"),
        ("from tall import os", "IMP007"),
        ("import tall.inner as t\nx = t.sys.modules", "IMP007"),
    ],
)
def test_a_package_is_no_way_to_what_is_refused(snippet: str, rule: str) -> None:
    declared = replace(TOLD, dependencies=("PyYAML", "python-dateutil", "six", "tall"))
    verdict = check(f"{snippet}\n{GOOD}", declared=declared, allowed_packages=HELD)
    assert rule in {f.rule for f in verdict.validation_errors if f.severity == "error"}


def test_packages_are_used_as_people_use_them() -> None:
    source = """
import tall.random
import yaml
from dateutil import parser, tz
from dateutil.relativedelta import MO, relativedelta
from six.moves import range, urllib
from six.moves.urllib.parse import quote

NUMBERS = tall.random.random, tall.io, tall.signal

def transform(data):
    when = parser.parse(yaml.safe_load(data)["at"]).astimezone(tz.UTC)
    return [(when + relativedelta(weekday=MO(n))).isoformat() for n in range(3)], quote("x")
"""
    declared = replace(TOLD, dependencies=("pyyaml", "python-dateutil", "six", "tall"))
    verdict = check(source, declared=declared, allowed_packages=HELD)
    assert rules(verdict) == ["COM006"], verdict.validation_errors


def test_what_is_not_declared_is_told() -> None:
    verdict = check("def transform(data):\n    return data\n", declared=Declared())
    assert rules(verdict) == ["COM001", "COM002", "COM003", "COM004", "COM005", "COM006"]
    assert verdict.is_valid
    assert verdict.security_score >= 90


def test_past_executions_make_the_prediction() -> None:
    slow = History(count=5, p50_ms=20_000, p95_ms=40_000, peak_kb=200 * 1024)
    verdict = check(GOOD, history=slow)
    assert rules(verdict) == ["COST001", "COST002"]
    assert verdict.predicted is not None
    assert verdict.predicted.basis == "executions"
    assert verdict.predicted.milliseconds == 40_000
    assert verdict.predicted.memory_mb == 200

    few = check(GOOD, history=History(count=4, p50_ms=1, p95_ms=40_000, peak_kb=1))
    assert few.predicted is not None
    assert few.predicted.basis == "source"
    assert rules(few) == []


def test_a_bound_in_the_source_is_held_against_the_limit() -> None:
    source = GOOD.replace("return", "for _ in range(10**10):\n        pass\n    return")
    assert rules(check(source)) == ["COST001"]
    fewer = source.replace("10**10", "10**4")
    assert rules(check(fewer)) == []


# The score.


def test_three_findings_of_a_rule_count() -> None:
    one = Finding(rule="FUN008", line=1, col=1, severity="warning", message="")
    scores = [security_score(rulebook(), [one] * times) for times in range(6)]
    assert scores == [100, 95, 90, 85, 85, 85]


def test_a_minimum_score_is_asked_for() -> None:
    source = "x = memoryview(b'')\n" + GOOD
    score = check(source).security_score
    assert score == 95
    assert check(source, minimum_score=score).is_valid
    verdict = check(source, minimum_score=score + 1)
    assert not verdict.is_valid
    assert "CPX099" in rules(verdict)
    assert verdict.security_score == score


RULES = [*sorted(rulebook().rules), "OWN-x"]
FINDINGS = st.builds(
    lambda rule, severity: Finding(
        rule=rule,
        line=1,
        col=1,
        severity=rulebook().rules[rule].severity if rule in rulebook().rules else severity,
        message="",
    ),
    st.sampled_from(RULES),
    st.sampled_from(("error", "warning", "info")),
)


@given(st.lists(FINDINGS, max_size=30), FINDINGS, st.randoms())
def test_another_finding_never_raises_the_score(
    findings: list[Finding], more: Finding, chance: Any
) -> None:
    book = rulebook()
    before = security_score(book, findings)
    with_more = [*findings, more]
    chance.shuffle(with_more)
    after = security_score(book, with_more)
    assert 0 <= after <= before <= 100
    if any(finding.severity == "error" for finding in with_more):
        assert after <= book.scoring.ceiling_with_error
    if not findings:
        assert before == 100


def test_every_rule_says_what_it_is_for() -> None:
    book = rulebook()
    for rule in book.rules.values():
        assert rule.id.rstrip("0123456789") in book.families
        assert rule.severity in {"error", "warning", "info"}
        assert rule.severity != "error" or rule.weight > 0 or rule.id == "CPX099"
        assert all((rule.title, rule.explanation.endswith("."), rule.remedy)), rule.id
    assert len({rule.title for rule in book.rules.values()}) == len(book.rules)


# A tenant's own rules.

OWN = [
    ("forbid_import", "csv", "import csv", 1),
    ("forbid_import", "xml.*", "from xml.etree import ElementTree", 1),
    ("forbid_import", "xml", "import xml.etree.ElementTree as e", 1),
    ("forbid_import", "xml.etree", "from xml.etree.ElementTree import fromstring", 1),
    ("forbid_import", "xm", "import xml.etree.ElementTree", 0),
    ("forbid_call", "*.loads", "import json\nx = json.loads('1')", 1),
    ("forbid_call", "print", "print(1)", 1),
    ("forbid_call", "print", "x = print", 0),
    ("forbid_attribute", "decode", "x = b''.decode()", 1),
    ("forbid_name", "temp*", "temporary = 1", 1),
    ("forbid_name", "transform", "x = 1", 1),
    ("forbid_name", "temp*", "async def temporary(): pass", 1),
    ("forbid_name", "temp*", "import json as temporary", 1),
    ("forbid_name", "temp*", "try:\n    x = 1\nexcept ValueError as temporary:\n    x = 2", 1),
    ("forbid_literal", "*internal.example*", "x = b'https://internal.example/a'", 1),
    ("forbid_literal", "*internal.example*", "x = 'https://internal.example/a'", 1),
    ("forbid_literal", "internal", "x = 'the internal one'", 0),
    ("require_docstring", "*", "def f():\n    return 1", 2),
    ("require_docstring", "f", "x = 1", 0),
    ("max_lines", "5", "x = 1", 1),
    ("max_lines", "50", "x = 1", 0),
]


@pytest.mark.parametrize(("kind", "pattern", "snippet", "times"), OWN)
def test_a_rule_of_a_tenant_s_own(kind: str, pattern: str, snippet: str, times: int) -> None:
    rule = OwnRule(rule_id="no-x", kind=kind, pattern=pattern, message="ask security first")
    verdict = check(f'"""Doc."""\n{snippet}\n{GOOD}', rules=[rule])
    found = [f for f in verdict.validation_errors if f.rule == "OWN-no-x"]
    assert len(found) == times
    assert verdict.is_valid == (times == 0)
    for finding in found:
        assert finding.message.startswith("ask security first: ")
        assert "internal" not in finding.message, "the text may be a secret"


def test_the_severity_of_an_own_rule_is_its_author_s() -> None:
    rule = OwnRule(rule_id="OWN-1", kind="forbid_name", pattern="data", severity="warning")
    verdict = check(GOOD, rules=[rule])
    assert rules(verdict) == ["OWN-1", "OWN-1"]
    assert verdict.is_valid
    assert verdict.security_score == 90


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"kind": "forbid"}, "/kind"),
        ({"kind": "max_lines", "pattern": "many"}, "/pattern"),
        ({"kind": "max_lines", "pattern": "٣"}, "/pattern"),
        ({"kind": "forbid_name", "pattern": ""}, "/pattern"),
        ({"kind": "forbid_name", "pattern": "x" * 201}, "/pattern"),
        ({"kind": "forbid_name", "severity": "fatal"}, "/severity"),
    ],
)
def test_a_rule_that_is_none_is_refused(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        check(GOOD, rules=[OwnRule(rule_id="x", **fields)])
    assert [fault.pointer for fault in refused.value.faults] == [pointer]


def test_a_pattern_of_stars_ends() -> None:
    rule = OwnRule(rule_id="x", kind="forbid_literal", pattern="*a" * 99 + "b")
    check(f"x = '{'a' * 60_000}'\n" + GOOD, rules=[rule])


def test_every_kind_of_own_rule_is_tried() -> None:
    assert {kind for kind, *_ in OWN} == set(OWN_KINDS)


# What is remembered.


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    real = process.ask

    def ask(question: Any, limits: LintLimits) -> Any:
        asked.append(question["source"])
        return real(question, limits)

    monkeypatch.setattr("csb_core.lint.validator.ask", ask)
    return asked


def test_a_verdict_is_remembered_for_exactly_what_was_asked(counted: list[str]) -> None:
    validator = Validator(remembered=50)
    asked: list[dict[str, Any]] = [
        {},
        {"kind": "script"},
        {"declared": Declared()},
        {"rules": [OwnRule(rule_id="x", kind="forbid_name", pattern="q")]},
        {"allowed_packages": {"pyyaml": ("yaml",)}},
        {"history": History(count=9, p50_ms=1, p95_ms=1, peak_kb=1)},
        {"limits": LintLimits(findings=10)},
        {"minimum_score": 10},
        {"source": GOOD + "\n"},
    ]
    for times in (1, 2):
        for changed in asked:
            fields: dict[str, Any] = {"source": GOOD, "kind": "transformer", "declared": TOLD}
            fields |= changed
            validator.validate(fields.pop("source"), **fields)
        assert len(counted) == len(asked), f"pass {times}"


def test_only_so_much_is_remembered(counted: list[str]) -> None:
    validator = Validator(remembered=2)
    for source in ("#1", "#2", "#1", "#3", "#1", "#2"):
        validator.validate(source, kind="script", declared=TOLD)
    assert counted == ["#1", "#2", "#3", "#2"]


def test_what_is_our_fault_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch, counted: list[str]
) -> None:
    validator = Validator()
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nonexistent/python")
        with pytest.raises(LintUnavailable):
            validator.validate(GOOD, kind="transformer", declared=TOLD)
    assert validator.validate(GOOD, kind="transformer", declared=TOLD).is_valid
    assert len(counted) == 2


def test_only_so_many_run_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most = 0, 0
    lock = threading.Lock()
    real = process.ask

    def ask(question: Any, limits: LintLimits) -> Any:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        try:
            return real(question, limits)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr("csb_core.lint.validator.ask", ask)
    validator = Validator(at_once=2)
    verdicts: list[Validation] = []
    threads = [
        threading.Thread(
            target=lambda n=n: verdicts.append(
                validator.validate(f"{GOOD}#{n}", kind="transformer", declared=TOLD)
            )
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2
    assert len(verdicts) == 8
    assert all(verdict.is_valid for verdict in verdicts)


def test_whoever_waits_too_long_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    held, free = threading.Event(), threading.Event()

    def ask(*_: object) -> Any:
        held.set()
        free.wait(30)
        raise LintUnavailable("over")

    monkeypatch.setattr("csb_core.lint.validator.ask", ask)
    validator = Validator(at_once=1)

    def occupy() -> None:
        with pytest.raises(LintUnavailable, match="over"):
            validator.validate("#1", kind="script", declared=TOLD)

    other = threading.Thread(target=occupy)
    other.start()
    assert held.wait(30)
    limits = LintLimits(wall=timedelta(milliseconds=50))
    with pytest.raises(LintUnavailable, match="too many"):
        validator.validate("#2", kind="script", declared=TOLD, limits=limits)
    free.set()
    other.join()


UNDER_GEVENT = """
from gevent import monkey; monkey.patch_all()
import gevent, time
from csb_core.lint import Declared, Validator
validator = Validator(at_once=4)
beats = 0
def beat():
    global beats
    while True:
        gevent.sleep(0.002); beats += 1
gevent.spawn(beat)
def one(n):
    return validator.validate("x = eval\\n" * n, kind="script", declared=Declared())
found = [g.get() for g in [gevent.spawn(one, n) for n in range(1, 9)]]
assert all("FUN001" in str(v.document()) for v in found), found
assert beats > 5, beats
print("done")
"""


def test_it_works_under_gevent_and_holds_up_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNDER_GEVENT],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr


def test_no_process_and_no_descriptor_is_left() -> None:
    def left() -> tuple[int, str]:
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()
        return len(list(Path("/proc/self/fd").iterdir())), children

    check(GOOD)
    before = left()
    for source in (GOOD, HOSTILE["minus"], HOSTILE["nulls"]):
        check(source)
    with suppress(LintUnavailable):
        check(GOOD, limits=LintLimits(wall=timedelta(seconds=0.001)))
    assert left() == before


# The program and the command.


def test_the_inspector_imports_only_the_standard_library() -> None:
    folder = Path(program.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level <= 1, f"{path.name} imports from above"
                names = [] if node.level else [node.module or ""]
            else:
                continue
            for name in names:
                assert name.partition(".")[0] in sys.stdlib_module_names, f"{path.name}: {name}"


def test_the_command_prints_as_a_compiler_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = _written(tmp_path, "x = eval\n" + GOOD)
    assert lint([str(bad), "--description", "x"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"{bad}:1:5: error FUN001 eval runs text as code" in lines
    assert lines[-1] == f"{bad}: not valid, security score 59"

    good = _written(tmp_path, GOOD)
    assert lint([str(good), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_valid"] is True
    assert lint([str(good), "--kind", "script"]) == 1
    assert lint([str(tmp_path / "none.py")]) == 2
    reads = _written(tmp_path, "import yaml, defusedxml\n" + GOOD)
    assert lint([str(reads), "--dependency", "pyyaml=yaml", "--dependency", "defusedxml"]) == 0
    assert lint([str(reads), "--dependency", "pyyaml", "--dependency", "defusedxml"]) == 1
    good.write_bytes(b"x = '\xff'")
    assert lint([str(good)]) == 1
