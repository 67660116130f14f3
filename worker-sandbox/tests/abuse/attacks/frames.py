"""More of family 8: the one thing that a supervisor reads, sent by hand and not by the runner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from abuse.case import SHORT, Case
from abuse.outside import Ending
from worker_sandbox.job import ExitReason, Run

BODY_MADE_OF: Final = """
import json, struct

def ok(value, more=b""):
    return b'{"reason":"ok","value":' + value + more + b"}"

def failed(kind, message, traceback=b"null", reason=b"error"):
    error = b'{"type":' + kind + b',"message":' + message + b',"traceback":' + traceback + b"}"
    return b'{"reason":"' + reason + b'","error":' + error + b"}"
"""

BY_HAND: Final = """
def main(p):
    body = BODY
    frame = struct.pack(">I", len(body)) + body
    for fd in range(3, 1024):
        rest = memoryview(frame)
        try:
            while rest:
                rest = rest[os.write(fd, rest):]
        except OSError:
            pass
    os._exit(0)
"""

#: The runner itself seals what its own tools were made to say.
BY_THE_RUNNER: Final = """
class Said:
    def encode(self):
        return BODY

def main(p):
    json.dumps = lambda *_, **__: Said()
    return {"no", "json"}
"""

#: As they stand in the code of a case, where they are computed.
BODIES: Final = {
    # Whoever looks for the end of a string from each quote anew, looks for hours.
    "a-string-that-never-ends": r"""b"[" * 101 + b'"' + b'\\"' * 520_000""",
    "strings-that-never-end": r"""b"[" * 101 + b'"\\' * 520_000""",
    "nothing-but-brackets": r"""b"[" * 1_000_000""",
    "nothing-but-digits": r"""ok(b"9" * 1_000_000)""",
    "a-hundred-thousand-keys": r"""ok(b"{%b}" % b",".join(b'"%d":0' % n for n in range(90_000)))""",
    "a-million-lists": r"""ok(b"[" + b",".join([b"[]"] * 330_000) + b"]")""",
    "the-platform-is-to-blame": r"""failed(b'"x"', b'"x"', reason=b"internal")""",
    "somebody-killed-it": r"""failed(b'"x"', b'"x"', reason=b"killed")""",
    "it-took-no-time": r"""ok(b"1", b',"cpu_ms":0,"memory_peak_kb":0,"tier":"forged"')""",
    "not-a-number": r"""ok(b"[NaN,Infinity,-Infinity]")""",
    "more-than-a-number": r"""ok(b"[1e999,-1e999]")""",
    "half-a-character": r"""ok(b'"\\ud800"')""",
    "no-character": r"""ok(b'{"\\u0000":"\\u0000"}')""",
    "half-a-character-in-an-error": r"""failed(b'"\\ud800"', b'"\\udfff"', b'"\\u0000"')""",
    "an-error-of-another-kind": r"""failed(b"[]", b'{"a":1}', b"7")""",
    "an-error-of-a-mebibyte": r"""failed(b'"x"', b'"' + b"m" * 1_000_000 + b'"')""",
    "no-reason": r"""b'{"reason":[],"value":1}'""",
    "two-reasons": r"""b'{"reason":"error","reason":"ok","value":1}'""",
    "no-text": r"""b'\xff\xfe' * 1000""",
    "no-object": r"""b"[1]" """,
    "nothing-at-all": r"""b"" """,
    "something-behind-it": r"""ok(b"1") + b"{}" """,
    "two-frames": r"""ok(b"1") + struct.pack(">I", 2) + b"{}" """,
    "a-value-that-grows-when-it-is-written-again": r"""ok(b"[" + b"1e15," * 200_000 + b"1]")""",
    "a-value-over-the-cap": r"""ok(b'"' + b"v" * ((1 << 20) + 1000) + b'"')""",
}
ENDS: Final[tuple[ExitReason, ...]] = ("ok", "error", "rejected", "output", "timeout")


def arrived(ending: Ending) -> None:
    """Outside there is nobody who would look at it."""
    assert len(ending.answer) >= 4, ending


def arrived_as_it_was(ending: Ending) -> None:
    """Outside the runner says what it was made to say."""
    assert ending.answer.endswith(b"\n"), ending
    assert b'"no"' not in ending.answer, ending


def measured(run: Run) -> None:
    assert run.tier != "forged", run
    assert run.wall_ms > 0, run
    assert run.memory_peak_kb > 0, run


def cases(who: str, program: str, outside: Callable[[Ending], None]) -> list[Case]:
    return [
        Case(
            name=f"{who}-{name}",
            code=BODY_MADE_OF + program.replace("BODY", body),
            limits=SHORT,
            ends=ENDS,
            inside=measured,
            outside=outside,
        )
        for name, body in BODIES.items()
    ]


CASES = [
    *cases("by-hand", BY_HAND, arrived),
    *cases("sealed", BY_THE_RUNNER, arrived_as_it_was),
]
