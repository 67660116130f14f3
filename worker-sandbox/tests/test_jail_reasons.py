"""Every way in which a job can end has one reason, and its author is told why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from worker_sandbox.jail import frames
from worker_sandbox.job import ExitReason, Job, Kind, Limits, Run
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.sandbox_settings import SandboxSettings


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    with Sandbox.open(SandboxSettings(tier=request.param, pool_size=2)) as opened:
        yield opened


def run(sandbox: Sandbox, code: str, given: Any = None, kind: Kind = "transformer") -> Run:
    limits = Limits(timeout_seconds=5, memory_limit_mb=64)
    return sandbox.run(Job(kind=kind, code=code, input=given, limits=limits))


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("def transform(data): return data", {"a": [1, 2.5, None, True, "ü"]}),
        ("def transform(data): return (1, 'x')", [1, "x"]),
        ("def transform(data): return None", None),
        ("def transform(data): return __name__", "__util__"),
        ("transform = lambda data: [2 ** 64 - 1, -2 ** 63]", [2**64 - 1, -(2**63)]),
        ("class T:\n def __call__(self, data): return 7\ntransform = T()", 7),
        (
            (
                "from dataclasses import dataclass\n@dataclass\nclass A:\n x: int\n"
                "def transform(data): return A(3).x"
            ),
            3,
        ),
        (
            (
                "import threading\ndef transform(data):\n said = []\n"
                " t = threading.Thread(target=said.append, args=(1,))\n t.start()\n t.join()\n"
                " return said"
            ),
            [1],
        ),
        (
            (
                "import threading, time\ndef transform(data):\n"
                " threading.Thread(target=time.sleep, args=(60,)).start()\n return 1"
            ),
            1,
        ),
        ("import atexit, os\ndef transform(data):\n atexit.register(os.abort)\n return 1", 1),
        (
            (
                "import builtins\ndef transform(data):\n"
                " builtins.len = builtins.isinstance = builtins.print = None\n return 1"
            ),
            1,
        ),
        (
            (
                "import json\ndef transform(data):\n json.dumps = json.JSONEncoder = None\n"
                " return [1]"
            ),
            [1],
        ),
        ("import sys\ndef transform(data):\n sys.stdout = sys.stderr = None\n return 1", 1),
        ("import os\ndef transform(data):\n os.close(1)\n os.close(2)\n return 1", 1),
        ("import sys\ndef transform(data):\n sys.modules.clear()\n return 1", 1),
    ],
)
def test_a_value_comes_back_whatever_the_code_did_to_its_interpreter(
    sandbox: Sandbox, code: str, value: Any
) -> None:
    ran = run(sandbox, code, value)

    assert (ran.exit_reason, ran.error) == ("ok", None)
    assert ran.value == value


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        ("def transform(data): 1 / 0", "ZeroDivisionError", "division by zero"),
        ("def transform(data) return 1", "SyntaxError", "line 1"),
        ("x = " + "-" * 10_000 + "1", "SyntaxError", "nests too deep"),
        ("x" + ".a" * 30_000, "RecursionError", "during compilation"),
        ("x = 1", "NameError", "defines transform"),
        ("transform = 3", "TypeError", "not callable"),
        ("def transform(): pass", "TypeError", "takes 0 positional"),
        ("raise SystemExit(3)", "SystemExit", "asked to exit with 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", "KeyboardInterrupt"),
        ("def transform(data): return transform(data)", "RecursionError", "recursion"),
        ("import os\ndef transform(data): os._exit(0)", "error", "exit code 0"),
        ("import os\ndef transform(data): os._exit(9)", "error", "exit code 9"),
        ("def transform(data): return {1, 2}", "NotJson", "a set is no JSON"),
        ("def transform(data): return float('nan')", "NotJson", "NaN"),
        ("def transform(data): return [float('inf')]", "NotJson", "infinite"),
        ("def transform(data):\n a = []\n a.append(a)\n return a", "NotJson", "contains itself"),
        ("def transform(data):\n a = 0\n for _ in range(101): a = [a]\n return a", "NotJson",
         "more than 100 levels"),
        ("def transform(data):\n a = 0\n for _ in range(9999): a = [a]\n return a", "NotJson",
         "too deeply"),
        ("def transform(data): return '\\ud800'", "NotJson", "surrogate"),
        ("def transform(data): return {'a\\0': 1}", "NotJson", "NUL"),
        ("def transform(data): return {'a': [2 ** 64]}", "NotJson", "64 bits"),
        ("def transform(data): return -2 ** 63 - 1", "NotJson", "64 bits"),
        ("def transform(data): return 10 ** 5000", "NotJson", "4300 digits"),
        (("class E(Exception):\n def __str__(self): raise self\n"
         "def transform(data): raise E()"), "Unanswerable", "cannot be described"),
        (("class E(Exception):\n def __str__(self): raise SystemExit\n"
         "def transform(data): raise E()"), "Unanswerable", "cannot be described"),
        ("def transform(data): raise ValueError('x' * 10 ** 6)", "ValueError", "xxx"),
        ("def transform(data): raise ValueError('a\\0\\ud800')", "ValueError", "a\ufffd?"),
    ],
)  # fmt: skip
def test_an_error_is_told_with_its_type_and_message(
    sandbox: Sandbox, code: str, kind: str, message: str
) -> None:
    ran = run(sandbox, code)

    assert ran.exit_reason == "error"
    assert ran.error is not None
    assert ran.error["type"] == kind
    assert message in ran.error["message"]
    assert len(ran.error["message"]) <= 4096


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import ctypes\ndef transform(data): ctypes.string_at(0)", "killed"),
        ("import os\ndef transform(data): os.abort()", "killed"),
        ("import os\ndef transform(data): os.write(4, b'\\0\\0\\0\\2{}'); os._exit(0)", "rejected"),
        ("import os\ndef transform(data): os.write(4, b'\\0\\0\\0\\2{'); os._exit(0)", "rejected"),
        ("import os\ndef transform(data): os.write(4, b'\\0'); os._exit(0)", "rejected"),
        (("import os\ndef transform(data):\n b = b'{\"reason\":\"ok\",\"value\":1}'\n"
         " os.write(4, b'\\0\\0\\0' + bytes([len(b)]) + b)\n return 2"), "rejected"),
        (("import os, time\ndef transform(data):\n b = b'{\"reason\":\"ok\",\"value\":1}'\n"
         " os.write(4, b'\\0\\0\\0' + bytes([len(b)]) + b)\n time.sleep(60)"), "rejected"),
        ("import os\ndef transform(data): os.write(4, b'\\xff' * 4); os._exit(0)", "output"),
    ],
)  # fmt: skip
def test_what_is_no_answer_of_ours_is_never_taken_for_one(
    sandbox: Sandbox, code: str, reason: ExitReason
) -> None:
    ran = run(sandbox, code)

    assert ran.exit_reason == reason
    assert ran.value is None
    assert ran.error is not None


def test_a_frame_without_the_jobs_seal_is_none(sandbox: Sandbox) -> None:
    code = (
        "import os\ndef transform(data):\n"
        ' b = b\'0\' * 32 + b\'{"reason":"ok","value":1}\'\n'
        " os.write(4, b'\\0\\0\\0' + bytes([len(b)]) + b)\n return 2"
    )
    for _ in range(5):
        ran = run(sandbox, code)
        assert (ran.exit_reason, ran.value) == ("rejected", None)


def test_where_the_kernel_does_not_tell_of_a_process_its_end_is_awaited(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker_sandbox.jails.Jail.measure", lambda _: None)
    ran = run(sandbox, "def transform(data): return data", 5)

    assert (ran.exit_reason, ran.value) == ("ok", 5)
    assert ran.memory_peak_kb > 0
    assert ran.wall_ms < 4000


def test_an_error_of_ours_does_not_tell_where_our_program_lies(sandbox: Sandbox) -> None:
    ran = run(sandbox, "def transform(data):\n    return {1, 2}\n")

    assert ran.error is not None
    assert ran.error["type"] == "NotJson"
    assert (ran.error["traceback"] or "").startswith("NotJson: a set is no JSON")


def test_a_traceback_shows_the_authors_own_lines_only(sandbox: Sandbox) -> None:
    ran = run(sandbox, "import json\n\ndef transform(data):\n    return json.loads('{')\n")

    assert ran.error is not None
    trace = ran.error["traceback"]
    assert trace is not None
    assert 'File "<util>", line 4, in transform' in trace
    assert "return json.loads('{')" in trace
    assert "decoder.py" not in trace
    assert "inside.py" not in trace


def test_a_script_gets_its_input_and_works_in_its_scratch_directory(sandbox: Sandbox) -> None:
    code = (
        "import os, pathlib\n"
        "def main(params):\n"
        "    pathlib.Path('a').write_text(params['x'])\n"
        "    os.mkdir('d')\n"
        "    os.rename('a', 'd/b')\n"
        "    return pathlib.Path('d/b').read_text()\n"
    )
    ran = run(sandbox, code, {"x": "kept"}, "script")

    if sandbox.tier.name == "landlock":
        # No mount can be had: there is no place that could be capped.
        assert ran.exit_reason == "error"
    else:
        assert (ran.exit_reason, ran.value) == ("ok", "kept")
        again = run(sandbox, "import os\ndef main(p): return os.listdir('.')", None, "script")
        assert again.value == []


def test_a_transformer_writes_no_file(sandbox: Sandbox) -> None:
    code = "def transform(data):\n with open('/job/scratch/a', 'w') as file: file.write('x')"

    assert run(sandbox, code).exit_reason == "error"


def test_what_is_written_to_nowhere_is_nothing_to_refuse(sandbox: Sandbox) -> None:
    code = "import os\ndef transform(data):\n with open(os.devnull, 'w') as file: file.write('x')"

    assert run(sandbox, code).exit_reason == "ok"


def test_endless_recursion_in_c_ends_the_jail_alone(sandbox: Sandbox) -> None:
    code = (
        "import sys\ndef transform(data):\n sys.setrecursionlimit(10 ** 9)\n"
        " a = []\n for _ in range(10 ** 6): a = [a]\n return repr(a)"
    )
    assert run(sandbox, code).exit_reason in {"killed", "memory"}
    assert run(sandbox, "def transform(data): return 1").value == 1


def test_a_job_that_cannot_be_told_is_rejected(sandbox: Sandbox) -> None:
    assert run(sandbox, "def transform(data): return 1", {1, 2}).exit_reason == "rejected"
    long = "x" * (frames.MAX_JOB + 1)
    assert run(sandbox, "def transform(data): return 1", long).exit_reason == "rejected"


def test_two_jails_share_neither_randomness_nor_hostname(sandbox: Sandbox) -> None:
    code = "import random, os\ndef transform(data): return [random.random(), os.uname().nodename]"
    one, two = run(sandbox, code).value, run(sandbox, code).value

    assert one[0] != two[0]
    if sandbox.tier.name == "namespaces":
        assert one[1] == "sandbox"


def test_nothing_of_ours_can_be_imported(sandbox: Sandbox) -> None:
    for name in ("worker_sandbox", "csb_core", "orjson", "pip", "yaml"):
        ran = run(sandbox, f"import {name}")
        assert ran.error is not None
        assert ran.error["type"] == "ModuleNotFoundError"
