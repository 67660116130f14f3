"""Family 8: attacks on the runner, which is Python in the same process as the hostile code.

It can be broken at will; what must not be had through it is another end than the supervisor saw,
another tenant's data, or a secret.
"""

from __future__ import annotations

from abuse.case import SHORT, Case
from abuse.checks import answered, answers, crashes, fails, gave, goes_on, silent
from abuse.outside import Ending
from worker_sandbox.job import Run

SHORTLY = 1.5

#: Answers as every protocol might frame them that a supervisor could speak.
FORGERY = """
import json, struct, threading

def forged(extra=None):
    answer = {"ok": True, "exit_reason": "ok", "reason": "ok", "status": "ok",
              "value": "forged", "result": "forged",
              "kind": "value", "type": "result", "error": None, "stdout": "", "stderr": "",
              "cpu_ms": -1, "wall_ms": -1, "memory_peak_kb": -1, "tier": "forged", **(extra or {})}
    body = json.dumps(answer).encode()
    value = json.dumps("forged").encode()
    for text in (body, value):
        yield text + b"\\n"
        yield struct.pack(">I", len(text)) + text
        yield struct.pack("<I", len(text)) + text
        yield struct.pack(">Q", len(text)) + text
        for kind in (b"V", b"R", b"\\0", b"\\1", b"O"):
            yield kind + struct.pack(">I", len(text)) + text
            yield struct.pack(">I", len(text) + 1) + kind + text

def everywhere(frame, first=3):
    for fd in range(first, 256):
        try:
            os.set_blocking(fd, False)
            os.write(fd, frame)
        except OSError:
            pass
"""


def forged_outside(ending: Ending) -> None:
    assert b"forged" in ending.answer.splitlines()[0], ending


def forged_and_goes_on(ending: Ending) -> None:
    goes_on(ending)
    forged_outside(ending)


def measured(run: Run) -> None:
    """A forger may choose its own value, as every util may; the rest is the supervisor's."""
    assert run.tier != "forged", run
    assert run.cpu_ms >= 0, run
    assert run.wall_ms > 0, run
    assert run.memory_peak_kb > 0, run
    assert run.exit_reason != "ok" or run.error is None, run


def found_itself(ending: Ending) -> None:
    assert any("naive_runner" in line for line in ending.evidence["frames"]), ending


def secret_was_there(ending: Ending) -> None:
    assert ending.evidence["found"], ending


def no_secret(run: Run) -> None:
    assert run.value is None or not run.value["found"], run


def none_of_ours(run: Run) -> None:
    """Nothing of the platform, and of its libraries, was ever imported in what is forked."""
    ours = ("csb_core", "worker_sandbox", "psycopg", "redis", "gunicorn", "prometheus_client")
    loaded = [name for name in run.value["names"] if name.split(".")[0] in ours]
    # The runner itself is there, by whatever name; it imports nothing of ours.
    assert not [name for name in loaded if name.split(".")[0] != "worker_sandbox"], loaded
    assert not run.value["found"], run


def looked_and_found_nothing(run: Run) -> None:
    assert run.value["pages"] >= 200, "this looked nowhere"
    assert not run.value["found"], run


def gave_nothing(run: Run) -> None:
    assert not run.value, run


def answered_twice(ending: Ending) -> None:
    assert b"true" in ending.answer, ending
    assert b"forged" in ending.answer, ending


def garbage(ending: Ending) -> None:
    assert len(ending.answer) >= 4096, ending


def nothing_came(ending: Ending) -> None:
    assert not ending.answer, ending


def no_true_answer(ending: Ending) -> None:
    assert b"true" not in ending.answer, ending


def ended(ending: Ending) -> None:
    assert not ending.timed_out, ending


CASES = [
    Case(
        name="walk-up-the-frames",
        code="""
        def main(p):
            frame, frames, seen_names = sys._getframe(), [], []
            while frame:
                frames.append(frame.f_code.co_filename)
                seen_names.append(repr({**frame.f_globals, **frame.f_locals})[:20_000])
                frame = frame.f_back
            return {"frames": frames, "names": "".join(seen_names)[:500_000]}
        """,
        outside=found_itself,
    ),
    Case(
        name="every-object-there-is",
        code="""
        import gc

        def main(p):
            mark, found = "CAN" + "ARY-", []
            for thing in gc.get_objects():
                near = gc.get_referents(thing)
                for part in (*near, *gc.get_referents(*(p for p in near if type(p) is dict))):
                    if isinstance(part, (str, bytes, bytearray)):
                        text = part if isinstance(part, str) else bytes(part).decode("latin-1")
                        if mark in text and len(text) > 20:
                            found.append(text[:200])
            return {"found": [text for text in found if "def main" not in text][:20]}
        """,
        inside=no_secret,
        outside=secret_was_there,
    ),
    Case(
        name="every-module-there-is",
        code="""
        def main(p):
            mark, found = "CAN" + "ARY-", []
            for name, module in list(sys.modules.items()):
                text = repr(getattr(module, "__dict__", ""))
                if mark in text:
                    found.append(name)
            return {"found": found, "names": sorted(sys.modules)}
        """,
        inside=none_of_ours,
        outside=secret_was_there,
    ),
    Case(
        name="read-the-whole-memory",  # all pages near whatever has an address
        code="""
        import ctypes

        def main(p):
            mark, found, pages = b"CAN" + b"ARY-", [], 0
            reading, writing = os.pipe()
            here = [id(p), id(main), id(object), id(sys), ctypes.addressof(ctypes.c_int())]
            here.append(ctypes.cast(libc().malloc, ctypes.c_void_p).value)
            here.append(raw(12, 0))  # the end of the heap
            end, seen_pages = time.monotonic() + 3, set()
            for start in here:
                for step in (1, -1):
                    page = start & ~4095
                    gap = 0
                    while gap < 2048 and time.monotonic() < end:
                        if page not in seen_pages:
                            seen_pages.add(page)
                            try:
                                raw(1, writing, page, 4096)
                            except OSError:
                                gap += 1
                            else:
                                gap = 0
                                pages += 1
                                block = os.read(reading, 4096)
                                at = block.find(mark)
                                if at >= 0 and block[at + 7:at + 31].isalnum():
                                    found.append(block[at:at + 31].decode("latin-1"))
                        page += 4096 * step
            return {"found": found, "pages": pages}
        """,
        inside=looked_and_found_nothing,
        outside=secret_was_there,
    ),
    Case(
        name="forge-an-answer",
        code=FORGERY
        + """
def main(p):
    for frame in forged():
        everywhere(frame)
    os._exit(0)
""",
        ends=("ok", "rejected", "error", "killed", "output"),
        inside=measured,
        outside=forged_outside,
    ),
    Case(
        name="forge-from-another-thread",
        code=FORGERY
        + """
def main(p):
    def forge():
        while True:
            for frame in forged():
                everywhere(frame)
    threading.Thread(target=forge, daemon=True).start()
    time.sleep(0.2)
    return "true"
""",
        ends=("ok", "rejected", "error", "output", "timeout"),
        inside=measured,
        outside=forged_outside,
        limits=SHORT,
    ),
    Case(
        name="forge-and-go-on",  # the answer is there, and the execution never ends
        code=FORGERY
        + """
def main(p):
    for frame in forged():
        everywhere(frame)
    while True:
        time.sleep(1)
""",
        ends=("ok", "rejected", "timeout", "output", "error"),
        inside=measured,
        outside=forged_and_goes_on,
        limits=SHORT,
        patience=SHORTLY,
    ),
    Case(
        name="forge-at-the-end",
        code=FORGERY
        + """
import atexit

def main(p):
    global last
    atexit.register(lambda: [everywhere(frame) for frame in forged()])
    class Last:
        def __del__(self):
            for frame in forged():
                os.write(3, frame)
    last = Last()
    return "true"
""",
        ends=("ok", "rejected"),
        inside=measured,
        outside=answered_twice,
    ),
    Case(
        name="half-a-frame",
        code="""
        def main(p):
            for fd in range(3, 256):
                try:
                    os.write(fd, b"\\0\\0")
                except OSError:
                    pass
            time.sleep(3600)
        """,
        limits=SHORT,
        ends=("timeout", "rejected"),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="a-frame-of-four-gigabytes",
        code="""
        def main(p):
            for head in (b"\\xff\\xff\\xff\\xff", b"\\x7f" + b"\\xff" * 7, b"\\x00\\x10\\x00\\x01"):
                for fd in range(3, 256):
                    try:
                        os.set_blocking(fd, False)
                        while os.write(fd, head + b"x" * 65536):
                            if p.get("outside"):
                                break
                    except OSError:
                        pass
            return "true"
        """,
        given_outside={"outside": True},
        limits=SHORT,
        ends=("ok", "rejected", "output", "timeout", "error"),
        inside=measured,
        outside=garbage,
    ),
    Case(
        name="garbage-for-an-answer",
        code="""
        def main(p):
            for fd in range(3, 256):
                try:
                    os.set_blocking(fd, False)
                    os.write(fd, os.urandom(4096) + b"\\n")
                except OSError:
                    pass
            os._exit(0)
        """,
        ends=("rejected", "error", "output", "killed"),
        outside=garbage,
    ),
    Case(
        name="close-everything",
        code="""
        def main(p):
            os.closerange(0, 4096)
            return "closed"
        """,
        ends=("rejected", "error", "killed"),
        outside=fails,
    ),
    Case(
        name="one-descriptor-for-another",
        code="""
        def main(p):
            file = os.open("file", os.O_RDWR | os.O_CREAT)
            for fd in range(3, 256):
                if fd != file:
                    try:
                        os.dup2(file, fd)
                    except OSError:
                        pass
            return "lost"
        """,
        ends=("rejected", "error", "killed"),
        outside=nothing_came,
    ),
    Case(
        name="read-the-next-job",  # there is none: a jail is used once
        code="""
        def main(p):
            found = []
            for fd in range(0, 256):
                try:
                    os.set_blocking(fd, False)
                    found.append(os.read(fd, 65536).decode("latin-1"))
                except OSError:
                    pass
            return "".join(found)
        """,
        ends=("ok", "rejected", "error"),
        inside=gave_nothing,
        outside=answered(""),
    ),
    Case(
        name="other-tools-for-the-runner",
        code="""
        import builtins, json, struct, traceback

        def main(p):
            def forge(*args, **named):
                return '"forged"'
            json.dumps = json.JSONEncoder.encode = json.JSONEncoder.iterencode = forge
            json.encoder.c_make_encoder = None
            struct.pack = lambda *args: b""
            os.write = lambda fd, data: len(data)
            traceback.format_exception = traceback.format_exc = forge
            sys.stdout = sys.stderr = open("file", "w")
            for name in "len isinstance type repr str min range print open".split():
                setattr(builtins, name, forge)
            return "true"
        """,
        ends=("ok", "rejected", "error", "killed"),
        inside=measured,
        outside=no_true_answer,
    ),
    Case(
        name="other-builtins",
        code="""
        import builtins

        def main(p):
            builtins.BaseException = builtins.Exception = ValueError
            builtins.__import__ = lambda *a, **n: 1 / 0
            builtins.__build_class__ = None
            builtins.dict = builtins.list = builtins.bytes = builtins.int = None
            sys.modules.clear()
            raise SystemExit(0)
        """,
        ends=("error", "rejected", "killed"),
        outside=silent,
    ),
    Case(
        name="other-types",  # through the dictionaries that Python keeps for itself
        code="""
        import gc

        def main(p):
            for kind, name in (
                (str, "encode"), (dict, "items"), (bytes, "join"), (list, "append"), (dict, "get")
            ):
                inner = gc.get_referents(kind.__dict__)[0]
                inner[name] = lambda *args, **named: 1 / 0
            return {"a": "true".encode()}
        """,
        ends=("ok", "error", "rejected", "killed"),
        inside=measured,
        outside=fails,
    ),
    Case(
        name="trace-the-runner",
        code="""
        import threading

        def main(p):
            def follow(frame, event, arg):
                if event == "return":
                    os._exit(0)
                return follow
            def profile(frame, event, arg):
                name = getattr(arg, "__name__", "")
                if event == "c_call" and name in ("write", "dumps", "encode", "_exit"):
                    os._exit(0)
            threading.settrace(follow)
            frame = sys._getframe()
            while frame:
                frame.f_trace = follow
                frame = frame.f_back
            sys.settrace(follow)
            sys.setprofile(profile)
            return "true"
        """,
        ends=("ok", "error", "rejected", "killed"),
        inside=measured,
        outside=silent,
    ),
    Case(
        name="hook-every-import",
        code="""
        import importlib.abc

        def main(p):
            class Finder(importlib.abc.MetaPathFinder):
                def find_spec(self, name, path, target=None):
                    os._exit(0)
            sys.meta_path.insert(0, Finder())
            sys.path_hooks.insert(0, lambda path: os._exit(0))
            sys.path.insert(0, os.getcwd())
            for name in ("json", "traceback", "struct", "encodings.utf_8", "linecache", "resource"):
                sys.modules.pop(name, None)
            import this
        """,
        ends=("error", "rejected", "killed"),
        outside=silent,
    ),
    Case(
        name="modules-in-the-scratch-folder",  # which would be found before the library's
        code="""
        def main(p):
            for name in ("json", "struct", "traceback", "linecache", "encodings", "io", "codecs"):
                write(name + ".py", "import os; os._exit(0)")
                sys.modules.pop(name, None)
            sys.path.insert(0, os.getcwd())
            raise ValueError("who writes my traceback?")
        """,
        ends=("error", "rejected", "killed"),
        outside=ended,
    ),
    Case(
        name="audit-every-step",
        code="""
        def main(p):
            def refuse(event, args):
                raise SystemExit(0)
            sys.addaudithook(refuse)
            return "true"
        """,
        ends=("ok", "error", "rejected", "killed"),
        inside=measured,
        outside=ended,
    ),
    Case(
        name="signals-into-the-runner",
        code="""
        import signal

        def main(p):
            def leave(*_):
                raise SystemExit(0)
            for number in (signal.SIGALRM, signal.SIGUSR1, signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, leave)
            signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.00005)
            return ["x" * 100] * 5_000
        """,
        ends=("ok", "error", "rejected", "killed", "timeout"),
        inside=measured,
        outside=ended,
    ),
    Case(
        name="no-room-for-the-runner",
        code="""
        def main(p):
            frame = sys._getframe()
            depth = 0
            while frame:
                depth, frame = depth + 1, frame.f_back
            sys.setrecursionlimit(depth + 2)
            return {"a": [{"b": [1]}]}
        """,
        ends=("ok", "error", "rejected", "killed"),
        inside=measured,
        outside=ended,
    ),
    Case(
        name="no-memory-for-the-runner",
        code="""
        def main(p):
            global held
            held = []
            for size in (1 << 24, 1 << 20, 1 << 16, 1 << 12, 1 << 9):
                try:
                    while len(held) < p["most"]:
                        held.append(bytearray(size))
                except MemoryError:
                    pass
            return "x" * 100_000
        """,
        given={"most": 1_000_000},
        given_outside={"most": 20},
        ends=("ok", "memory", "error", "rejected", "killed"),
        inside=measured,
        outside=answers,
    ),
    Case(
        name="no-descriptors-for-the-runner",
        code="""
        def main(p):
            try:
                while len(os.listdir(".")) < 10_000:
                    os.dup(1)
            except OSError:
                pass
            return "x"
        """,
        ends=("ok", "error"),
        outside=answered("x"),
        inside=gave("x"),
    ),
    Case(
        name="interpreters-in-the-interpreter",
        code="""
        import _xxsubinterpreters as inner

        def main(p):
            made = inner.create()
            inner.run_string(made, "import sys; found = sorted(sys.modules)")
            inner.run_string(made, "import os; os._exit(0)")
        """,
        ends=("error", "rejected", "killed"),
        outside=silent,
    ),
    Case(
        name="write-over-the-interpreter",
        code="""
        import ctypes

        def main(p):
            ctypes.memset(id(None), 0, 16)
            ctypes.memset(id(sys._getframe().f_back.f_code), 0xFF, 64)
            ctypes.memset(id(str), 0xFF, 256)
            return "gone"
        """,
        ends=("killed", "error", "rejected", "timeout"),
        limits=SHORT,
        outside=crashes,
    ),
    Case(
        name="last-words-of-a-crash",
        code="""
        import ctypes, faulthandler

        def main(p):
            for fd in range(63, 2, -1):
                try:
                    os.fstat(fd)
                    faulthandler.enable(fd)
                    break
                except OSError:
                    pass
            ctypes.string_at(0)
        """,
        ends=("killed", "rejected", "output"),
        outside=crashes,
    ),
    Case(
        name="nothing-is-new",  # what another execution could know beforehand
        code="""
        import random, secrets, uuid

        def main(p):
            return [random.random(), secrets.token_hex(8), str(uuid.uuid4()), os.urandom(8).hex()]
        """,
        outside=answers,
    ),
]
