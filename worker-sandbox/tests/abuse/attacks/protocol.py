"""Family 7: outputs and results. What comes out is capped, valid, and comes once."""

from __future__ import annotations

import json
import signal

from abuse.case import SHORT, Case
from abuse.checks import (
    answered,
    answers,
    failed_with,
    fails,
    gave,
    goes_on,
    silent,
)
from abuse.outside import KEPT, Ending
from worker_sandbox.job import Limits, Run

TAIL = 64 << 10
MIB = 1 << 20
SHORTLY = 1.5


def wrote_all(ending: Ending) -> None:
    assert ending.written >= KEPT, ending


def tail_is_marked(run: Run) -> None:
    for tail in (run.stdout, run.stderr):
        assert len(tail) <= TAIL + 200
    longest = max(run.stdout, run.stderr, key=len)
    assert run.exit_reason == "output" or len(longest) > TAIL // 2, "nothing was kept"


def no_json(ending: Ending) -> None:
    assert b"NaN" in ending.answer, ending
    assert b"Infinity" in ending.answer, ending


def long_answer(ending: Ending) -> None:
    assert len(ending.answer) > MIB, ending


def twice(ending: Ending) -> None:
    assert ending.answer.count(b'"1"') == 2, ending


def long_number(ending: Ending) -> None:
    assert len(ending.answer) >= 200_000, ending


def deep(ending: Ending) -> None:
    assert ending.answer.count(b"[") == 800, ending


def grew(ending: Ending) -> None:
    assert ending.timed_out, ending
    assert ending.peak_kb > 100 << 10, ending


def interrupted(ending: Ending) -> None:
    assert ending.code == -signal.SIGINT, ending


def one_key(run: Run) -> None:
    assert run.value is None or list(run.value) == ["1"], run


def plain(run: Run) -> None:
    """What looks like something else is what JSON says that it is."""
    assert run.exit_reason != "ok" or json.loads(json.dumps(run.value)) == run.value, run


CASES = [
    Case(
        name="a-gigabyte-of-prints",
        code="""
        def main(p):
            block = "x" * (1 << 20)
            for _ in range(p["mb"]):
                print(block)
            return "printed"
        """,
        given={"mb": 1024},
        given_outside={"mb": 16},
        ends=("ok", "output"),
        inside=tail_is_marked,
        outside=wrote_all,
    ),
    Case(
        name="a-gigabyte-of-errors",
        code="""
        def main(p):
            block = b"e" * (1 << 20)
            for _ in range(p["mb"]):
                os.write(2, block)
            return "written"
        """,
        given={"mb": 1024},
        given_outside={"mb": 16},
        ends=("ok", "output"),
        inside=tail_is_marked,
        outside=wrote_all,
    ),
    Case(
        name="prints-without-end",
        code="""
        def main(p):
            while True:
                print("y" * 1000, end="")
                print("z", file=sys.stderr, end="", flush=True)
        """,
        limits=SHORT,
        ends=("timeout", "output"),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="a-million-small-writes",
        code="""
        def main(p):
            for _ in range(p["times"]):
                os.write(1, b".")
            return "written"
        """,
        given={"times": 1_000_000},
        given_outside={"times": 10_000},
        ends=("ok", "output"),
        outside=answered("written"),
    ),
    Case(
        name="no-line-and-no-text",
        code="""
        def main(p):
            os.write(1, b"\\xff\\xfe\\x00\\x1b[2J\\x80" * 100)
            os.write(2, bytes(range(256)))
            print("\\ud800" if False else "\\N{SNOWMAN}", end="")
            return "written"
        """,
        inside=gave("written"),
        outside=answered("written"),
    ),
    Case(
        name="print-what-cannot-be-encoded",
        code="""
        def main(p):
            print("\\ud800")
            return "printed"
        """,
        ends=("ok", "error"),
        outside=fails,
    ),
    Case(
        name="closed-outputs",
        code="""
        def main(p):
            os.close(1)
            os.close(2)
            try:
                print("into nothing", flush=True)
            except OSError:
                return "refused"
        """,
        ends=("ok", "error"),
        outside=answered("refused"),
    ),
    Case(
        name="outputs-handed-round",
        code="""
        def main(p):
            null = os.open("/dev/null", os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(1, 2)
            sys.stdout = sys.stderr = None
            print("into nothing")
            return "quiet"
        """,
        inside=gave("quiet"),
        outside=answered("quiet"),
    ),
    Case(
        name="two-mebibytes-of-value",
        code="""
        def main(p):
            return "v" * (2 << 20)
        """,
        ends=("output",),
        inside=gave(None),
        outside=long_answer,
    ),
    Case(
        name="just-a-mebibyte",  # with its quotes it is one byte too many
        code="""
        def main(p):
            return "v" * ((1 << 20) - 1)
        """,
        ends=("output",),
        outside=long_answer,
    ),
    Case(
        name="almost-a-mebibyte",
        code="""
        def main(p):
            return "v" * ((1 << 20) - 2)
        """,
        inside=gave("v" * (MIB - 2)),
        outside=answered("v" * (MIB - 2)),
    ),
    Case(
        name="a-value-that-grows-when-written",  # a few bytes inside, many outside
        code="""
        def main(p):
            return ["\\x01" * 1000] * 1000
        """,
        ends=("output",),
        outside=long_answer,
    ),
    Case(
        name="a-value-of-gigabytes",
        code="""
        def main(p):
            row = ["x" * 1000] * 1000
            return [row] * p["times"]
        """,
        given={"times": 10_000},
        given_outside={"times": 4},
        limits=Limits(timeout_seconds=3.0, memory_limit_mb=64, cpu_limit=1.0),
        ends=("output", "memory", "error", "timeout"),
        outside=long_answer,
    ),
    Case(
        name="no-number",
        code="""
        def main(p):
            return [float("nan"), float("inf"), -float("inf")]
        """,
        ends=("error",),
        outside=no_json,
    ),
    Case(
        name="huge-numbers",
        code="""
        def main(p):
            return [10 ** 4000, -(10 ** 4000), 1e308, 5e-324, -0.0, 2 ** 64]
        """,
        ends=("ok", "error"),
        inside=plain,
        outside=answers,
    ),
    Case(
        name="a-number-nobody-writes",
        code="""
        def main(p):
            return 10 ** 5000
        """,
        ends=("error",),
        outside=fails,
    ),
    Case(
        name="a-number-nobody-reads",  # written by hand, past Python's own limit
        code="""
        def main(p):
            sys.set_int_max_str_digits(0)
            return int("9" * 200_000)
        """,
        ends=("ok", "error", "rejected"),
        outside=long_number,
    ),
    Case(
        name="deeper-than-anybody-reads",
        code="""
        def main(p):
            value = 1
            for _ in range(p["deep"]):
                value = [value]
            return value
        """,
        given={"deep": 100_000},
        given_outside={"deep": 800},
        ends=("error", "rejected", "killed"),
        outside=deep,
    ),
    Case(
        name="as-deep-as-it-may-be",
        code="""
        def main(p):
            sys.setrecursionlimit(100_000)
            value = 1
            for _ in range(900):
                value = {"a": [value]}
            return value
        """,
        ends=("ok", "error", "rejected"),
        outside=answers,
    ),
    Case(
        name="one-key-twice",
        code="""
        def main(p):
            return {1: "first", "1": "second"}
        """,
        ends=("ok", "error", "rejected"),
        inside=one_key,
        outside=twice,
    ),
    Case(
        name="half-a-character",
        code="""
        def main(p):
            return {"\\ud800": "\\udfff", "nul": "a\\x00b", "bom": "\\ufeff"}
        """,
        ends=("ok", "error", "rejected"),
        outside=answers,
    ),
    Case(
        name="no-json-at-all",
        code="""
        def main(p):
            return {"set": {1, 2}, "bytes": b"x", "object": object()}
        """,
        ends=("error",),
        outside=fails,
    ),
    Case(
        name="keys-of-every-kind",
        code="""
        def main(p):
            return {None: 1, True: 2, 1.5: 3, (1, 2): 4}
        """,
        ends=("error",),
        outside=fails,
    ),
    Case(
        name="a-circle",
        code="""
        def main(p):
            value = []
            value.append({"self": value})
            return value
        """,
        ends=("error",),
        outside=fails,
    ),
    Case(
        name="values-that-answer-back",
        code="""
        class Text(str):
            def __str__(self):
                os._exit(0)
            __repr__ = __format__ = encode = __str__

        class Number(int):
            def __repr__(self):
                return '1, "exit_reason": "ok"'
            __str__ = __repr__

        class Items(dict):
            def items(self):
                return [("forged", '"}')] * 3
            def __iter__(self):
                raise SystemExit(0)

        def main(p):
            return {"text": Text("t"), "number": Number(7), "items": Items(a=1)}
        """,
        ends=("ok", "error", "rejected", "killed"),
        inside=plain,
        outside=answers,
    ),
    Case(
        name="a-list-without-end",
        code="""
        class Many(list):
            def __iter__(self):
                while True:
                    yield "more" * 1000
            def __len__(self):
                return 1

        class Pairs(dict):
            def items(self):
                n = 0
                while True:
                    n += 1
                    yield str(n), "more" * 1000
            def __len__(self):
                return 1
            def __bool__(self):
                return True

        def main(p):
            return [Many([1]), Pairs(a=1)]
        """,
        limits=SHORT,
        ends=("ok", "error", "timeout", "memory", "output"),
        inside=plain,
        outside=grew,
        patience=SHORTLY,
    ),
    Case(
        name="something-still-to-be-awaited",
        code="""
        async def main(p):
            return 1
        """,
        ends=("error",),
        outside=fails,
    ),
    Case(
        name="an-exception-that-bites",
        code="""
        class Evil(Exception):
            def __str__(self):
                raise SystemExit(0)
            __repr__ = __str__
            @property
            def __class__(self):
                raise SystemExit(0)
            @property
            def args(self):
                raise SystemExit(0)
            @property
            def __traceback__(self):
                raise SystemExit(0)
            __cause__ = __context__ = __notes__ = __traceback__

        def main(p):
            raise Evil
        """,
        ends=("error", "killed", "rejected"),
        outside=fails,
    ),
    Case(
        name="an-exception-that-never-tells",
        code="""
        class Evil(Exception):
            def __str__(self):
                while True:
                    pass
            __repr__ = __str__

        def main(p):
            raise Evil
        """,
        limits=SHORT,
        ends=("error", "timeout"),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="a-message-of-megabytes",
        code="""
        def main(p):
            kind = type("E" * 100_000, (Exception,), {})
            error = kind("\\ud800\\x00" + "m" * (8 << 20))
            for _ in range(100):
                error.add_note("n" * 10_000)
            raise error from kind("c" * 100_000)
        """,
        ends=("error", "output", "memory"),
        outside=fails,
    ),
    Case(
        name="a-traceback-without-end",
        code="""
        def down(n):
            if n == 0:
                raise ValueError("deep")
            try:
                down(n - 1)
            except ValueError as exc:
                raise ValueError("d" * 1000) from exc

        def main(p):
            down(300)
        """,
        ends=("error",),
        outside=fails,
    ),
    Case(
        name="groups-of-exceptions",
        code="""
        def main(p):
            error = ValueError(1)
            for _ in range(p["deep"]):
                error = ExceptionGroup("g" * 100, [error])
            raise error
        """,
        given={"deep": 5_000},
        given_outside={"deep": 50},
        ends=("error", "killed"),
        outside=fails,
    ),
    Case(
        name="leave-quietly",
        code="""
        def main(p):
            raise SystemExit(0)
        """,
        ends=("error",),
        inside=failed_with("SystemExit"),
        outside=silent,
    ),
    Case(
        name="leave-at-once",
        code="""
        def main(p):
            os._exit(0)
        """,
        ends=("error", "killed", "rejected"),
        outside=silent,
    ),
    Case(
        name="interrupt-the-runner",
        code="""
        def main(p):
            raise KeyboardInterrupt
        """,
        ends=("error",),
        outside=interrupted,
    ),
    Case(
        name="leave-a-generator",
        code="""
        def main(p):
            raise GeneratorExit
        """,
        ends=("error",),
        outside=fails,
    ),
    Case(
        name="nothing-to-call", code="x = 1", bare=True, ends=("error", "rejected"), outside=fails
    ),
    Case(
        name="not-callable", code="main = 7", bare=True, ends=("error", "rejected"), outside=fails
    ),
    Case(
        name="wrong-number-of-parameters",
        code="def main():\n    return 1",
        bare=True,
        ends=("error", "rejected"),
        outside=fails,
    ),
    Case(
        name="no-python",
        code="def main(p:\n  return ]",
        bare=True,
        ends=("error", "rejected"),
        inside=failed_with("SyntaxError"),
        outside=fails,
    ),
    Case(
        name="a-nul-in-the-source",
        code="def main(p):\n    return '\x00'",
        bare=True,
        ends=("error", "rejected"),
        outside=fails,
    ),
    Case(
        name="half-a-character-in-the-source",
        code="def main(p):\n    return '\ud800'",
        bare=True,
        ends=("error", "rejected"),
        outside=fails,
    ),
    Case(
        name="escapes-for-whoever-reads-the-log",
        code="""
        def main(p):
            print("\\x1b]0;owned\\x07\\r\\n{\\"level\\": \\"error\\"}")
            raise ValueError("\\x1b[31m\\r\\nlevel=critical")
        """,
        ends=("error",),
        outside=fails,
    ),
]
