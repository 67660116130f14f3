"""More of family 7: sources that nobody would write, and values at the edge of what may be."""

from __future__ import annotations

import json
from typing import Final

from abuse.case import SHORT, Case
from abuse.checks import answered, answers, failed_with, fails, gave, goes_on
from abuse.outside import Ending
from worker_sandbox.job import Run

DEEP: Final = 100
MIB: Final = 1 << 20
SHORTLY: Final = 1.5
#: Of this a mebibyte of JSON holds, with its quotes, not one more.
EUROS: Final = (MIB - 2) // 3


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def told_why(run: Run) -> None:
    """Whatever Python's parser thinks of it, its process lives and says so."""
    assert run.error is not None, run
    assert run.error["type"] in {"SyntaxError", "RecursionError", "MemoryError"}, run


def twice(ending: Ending) -> None:
    assert len(json.loads(ending.answer, object_pairs_hook=list)) == 2, ending


def longer_than_a_mebibyte(ending: Ending) -> None:
    assert len(ending.evidence.encode()) > MIB - 2, ending


SOURCES = [
    Case(
        name=name,
        code=code,
        bare=True,
        ends=("error", "memory"),
        inside=told_why,
        outside=fails,
    )
    for name, code in (
        ("a-tower-of-signs", "x = " + "-" * 40_000 + "1"),
        ("a-tower-of-lambdas", "x = " + "lambda: " * 7_000 + "1"),
        ("a-tower-of-brackets", "x = " + "(" * 30_000 + ")" * 30_000),
        ("a-chain-of-attributes", "def main(p): return p" + ".a" * 30_000),
        ("a-sum-of-thousands", "x = " + "+".join(["1"] * 30_000)),
    )
]

ENTRIES = [
    Case(
        name=f"entry-{name}",
        code=code,
        bare=True,
        ends=("error",),
        inside=failed_with("is no JSON", "defines main", "not callable", "NameError"),
        outside=fails,
    )
    for name, code in (
        ("that-yields", "def main(p):\n    yield 1"),
        ("that-is-a-class", "class main:\n    def __init__(self, p): pass"),
        ("that-is-nothing", "main = None"),
        ("that-leaves-when-called", "main = exit"),  # which site.py would have brought
        ("that-deletes-itself", "def main(p): pass\ndel main"),
    )
]

CASES = [
    *SOURCES,
    *ENTRIES,
    Case(
        name="a-power-that-is-computed-beforehand",
        code="x = 9 ** 9 ** 9\ndef main(p): return 1",
        bare=True,
        limits=SHORT,
        ends=("timeout", "memory"),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="source-in-another-tongue",  # of a text that is read already a cookie says nothing
        code="# -*- coding: rot13 -*-\r\ndef \uff4dain(p):\r\n    return 'é'\r\n",
        bare=True,
        inside=gave("é"),
        outside=answered("é"),
    ),
    Case(
        name="just-as-deep-as-is-allowed",
        code=f"""
        def main(p):
            value = 1
            for _ in range({DEEP}):
                value = [value]
            return value
        """,
        inside=gave(nested(DEEP)),
        outside=answered(nested(DEEP)),
    ),
    Case(
        name="one-level-deeper",
        code=f"""
        def main(p):
            value = 1
            for _ in range({DEEP + 1}):
                value = [value]
            return value
        """,
        ends=("error",),
        inside=failed_with("levels deep"),
        outside=answered(nested(DEEP + 1)),
    ),
    Case(
        name="a-key-that-is-another-one",
        code="""
        def main(p):
            return {1: "first", "1": "second"}
        """,
        ends=("error",),
        inside=failed_with("stands twice"),
        outside=twice,
    ),
    Case(
        name="items-that-lie",
        code="""
        class Pairs(dict):
            def items(self):
                return [("a", 1), ("a", 2)]

        def main(p):
            return Pairs(b=1)
        """,
        ends=("ok", "error"),
        outside=answers,
    ),
    Case(
        name="items-without-memory",
        code="""
        class Pairs(dict):
            def items(self):
                raise MemoryError

        def main(p):
            return Pairs(b=1)
        """,
        ends=("ok", "error", "memory"),
        outside=fails,
    ),
    Case(
        name="one-bit-too-many",
        code="""
        def main(p):
            return [2 ** 64 - 1, -(2 ** 63), {"n": 2 ** 64}]
        """,
        ends=("error",),
        inside=failed_with("64 bits"),
        outside=answered([2**64 - 1, -(2**63), {"n": 2**64}]),
    ),
    Case(
        name="all-bits",  # whoever asks a range whether it has an IntEnum counts to it
        code="""
        import enum

        class Small(enum.IntEnum):
            ONE = 1

        def main(p):
            return [2 ** 64 - 1, -(2 ** 63), Small.ONE, True, "1" * 40]
        """,
        limits=SHORT,
        inside=gave([2**64 - 1, -(2**63), 1, True, "1" * 40]),
        outside=answered([2**64 - 1, -(2**63), 1, True, "1" * 40]),
    ),
    Case(
        name="a-mebibyte-of-euros",
        code=f"""
        def main(p):
            return "€" * {EUROS}
        """,
        inside=gave("€" * EUROS),
        outside=answered("€" * EUROS),
    ),
    Case(
        name="a-mebibyte-and-a-euro",
        code=f"""
        def main(p):
            return "€" * {EUROS + 1}
        """,
        ends=("output",),
        outside=longer_than_a_mebibyte,
    ),
    Case(
        name="every-character-that-controls",
        code="""
        def main(p):
            return "".join(map(chr, range(1, 160))) + "\\u2028\\ufeff\\uffff\\U0010ffff"
        """,
        inside=gave("".join(map(chr, range(1, 160))) + "\u2028\ufeff\uffff\U0010ffff"),
        outside=answers,
    ),
    Case(
        name="changed-while-it-is-written",
        code="""
        import threading
        value = {}

        def change():
            for n in range(10 ** 9):
                value[str(n)] = n
                if n % 50_000 == 0:
                    value.clear()

        def main(p):
            threading.Thread(target=change, daemon=True).start()
            time.sleep(0.05)
            return value
        """,
        ends=("ok", "error", "memory", "output"),
        outside=lambda _: None,  # what comes of it is chance, there too
    ),
]
