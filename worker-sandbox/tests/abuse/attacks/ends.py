"""More of family 8: what still runs, and what is broken, while the runner writes its answer."""

from __future__ import annotations

import signal

from abuse.case import SHORT, Case
from abuse.checks import (
    answered,
    answered_at_least,
    answers,
    fails,
    gave,
    gave_at_most,
    goes_on,
    succeeded,
)
from abuse.outside import KEPT, Ending
from worker_sandbox.job import Limits, Run

SHORTLY = 1.5
TAIL = 64 << 10
MIB = 1 << 20
SCRATCH_MIB = 16
ABORTED, FAULTED = (
    {"type": "killed", "message": f"the process died by {name}", "traceback": None}
    for name in ("SIGABRT", "SIGSEGV")
)


def died(ending: Ending) -> None:
    assert ending.code == -signal.SIGBUS, ending


def aborted_if_killed(run: Run) -> None:
    # The first process of a pid namespace does not hear SIGABRT; abort() then faults.
    assert run.exit_reason != "killed" or run.error in (ABORTED, FAULTED), run


def whole_tail(run: Run) -> None:
    assert run.stdout == "x" * TAIL, "what fits is neither cut nor marked"
    assert run.stderr.startswith("[... "), "what is cut is marked"
    assert len(run.stderr.encode()) <= TAIL, run


def wrote_both(ending: Ending) -> None:
    assert ending.written == 2 * TAIL + 1, ending


def wrote_much(ending: Ending) -> None:
    assert ending.written >= KEPT, ending


def longer_than_may_be(ending: Ending) -> None:
    assert len(ending.evidence) > MIB, ending


def died_by_itself(ending: Ending) -> None:
    assert ending.code == -signal.SIGABRT, ending


def none_is_told(run: Run) -> None:
    assert run.value is None or run.value["seen"] > 1000, "nothing was looked at"
    assert run.value is None or not run.value["found"], run


def told_secret(ending: Ending) -> None:
    assert ending.evidence["found"], "proves nothing"


CASES = [
    Case(
        name="just-the-tail",
        code="""
        def main(p):
            os.write(1, b"x" * (64 << 10))
            os.write(2, b"y" * ((64 << 10) + 1))
        """,
        inside=whole_tail,
        outside=wrote_both,
    ),
    Case(
        name="just-as-much-as-may-be-printed",
        code="""
        def main(p):
            for _ in range(p["blocks"]):
                os.write(1, b"x" * (64 << 10))
            return "printed"
        """,
        given={"blocks": 128},
        given_outside={"blocks": 128},
        inside=gave("printed"),
        outside=wrote_much,
    ),
    Case(
        name="prints-that-come-after-the-answer",
        code="""
        import threading

        def go_on():
            while True:
                os.write(1, b"late ")

        def main(p):
            threading.Thread(target=go_on, daemon=True).start()
            time.sleep(0.02)
            return "answered"
        """,
        ends=("ok", "output"),
        outside=answered("answered"),
    ),
    Case(
        name="outputs-that-bite",
        code="""
        class Teeth:
            def __getattr__(self, name):
                raise SystemExit(0)

        def main(p):
            sys.stdout = sys.stderr = sys.__stdout__ = Teeth()
            raise ValueError("bitten")
        """,
        ends=("error",),
        outside=fails,
    ),
    Case(
        name="outputs-in-another-encoding",
        code="""
        def main(p):
            sys.stdout.reconfigure(encoding="utf-16", errors="strict")
            print("é", flush=True)
            return "printed"
        """,
        inside=gave("printed"),
        outside=answered("printed"),
    ),
    Case(
        name="timers-into-the-answer",
        code="""
        import signal

        def bite(*_):
            raise SystemExit(0)

        def main(p):
            signal.signal(signal.SIGALRM, bite)
            signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
            return ["x" * 1000] * 500
        """,
        # Killed where the job is not the first process of its namespace: one that comes while the
        # interpreter is taken down, and its handler is gone.
        ends=("ok", "error", "rejected", "killed"),
        outside=fails,
    ),
    Case(
        name="exceptions-into-the-answer",
        code="""
        import ctypes, threading, _thread

        def main(p):
            here = ctypes.c_ulong(threading.main_thread().ident)
            def bite():
                while True:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(here, ctypes.py_object(SystemExit))
            threading.Thread(target=bite, daemon=True).start()
            return ["x" * 1000] * 500
        """,
        # One that bites outside our `try` ends its own interpreter: while that is taken down its
        # thread wants pthread_exit(), finds no libgcc_s in the jail, and aborts.
        ends=("ok", "error", "rejected", "timeout", "killed"),
        inside=aborted_if_killed,
        limits=SHORT,
        outside=lambda _: None,  # chance decides when it is hit
        patience=SHORTLY,
    ),
    Case(
        name="a-collector-that-bites",
        code="""
        import gc

        def bite(*_):
            raise SystemExit(0)

        def main(p):
            gc.callbacks.append(bite)
            gc.set_threshold(1)
            return [[n] for n in range(1000)]
        """,
        ends=("ok", "error"),
        outside=answers,
    ),
    Case(
        name="no-frames-for-the-runner",
        code="""
        def main(p):
            depth, frame = 0, sys._getframe()
            while frame:
                depth, frame = depth + 1, frame.f_back
            sys.setrecursionlimit(depth + 1)
            return {"a": [[[[[[1]]]]]]}
        """,
        ends=("ok", "error"),
        outside=lambda _: None,  # it has other frames above it, and fails at another place
    ),
    Case(
        name="take-the-interpreter-down",
        code="""
        import ctypes

        def main(p):
            ctypes.pythonapi.Py_FinalizeEx()
            return 1
        """,
        ends=("error", "killed", "timeout"),
        limits=SHORT,
        outside=lambda ending: fails(ending) if not ending.timed_out else None,
        patience=SHORTLY,
    ),
    Case(
        name="the-first-thread-leaves",  # and its process stays, a zombie with living threads
        code="""
        import ctypes, threading

        def main(p):
            threading.Thread(target=libc().sleep, args=(60,)).start()
            libc().syscall(ctypes.c_long(60), 0)
        """,
        ends=("timeout", "error", "killed"),
        limits=SHORT,
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="leave-without-python",
        code="""
        def main(p):
            libc().exit(0)
        """,
        ends=("error",),
        outside=lambda ending: answers(ending) if ending.code else None,
    ),
    Case(
        name="an-error-with-lies-in-it",  # which whoever prints it has to believe
        code="""
        def main(p):
            error = SyntaxError("x")
            error.filename, error.text = "f", "\\t" * 100
            error.lineno, error.offset, error.end_lineno, error.end_offset = 1, 1, 1, 2 ** 40
            error.__notes__ = 7
            raise error
        """,
        ends=("error", "memory"),
        outside=fails,
    ),
    Case(
        name="notes-without-end",
        code="""
        import collections.abc

        class Notes:
            def __iter__(self):
                while True:
                    yield "n" * 1000

        collections.abc.Sequence.register(Notes)

        def main(p):
            error = ValueError(1)
            error.__notes__ = Notes()
            raise error
        """,
        limits=SHORT,
        ends=("error", "timeout", "memory"),
        outside=fails,
        patience=SHORTLY,
    ),
    Case(
        name="a-file-that-shrinks-under-its-map",
        code="""
        import mmap

        def main(p):
            with open("shrinks", "w+b") as file:
                file.truncate(1 << 20)
                seen_by = mmap.mmap(file.fileno(), 1 << 20)
                file.truncate(0)
                return seen_by[5000]
        """,
        ends=("killed",),
        outside=died,
    ),
    Case(
        name="files-without-a-name-that-add-up",  # deleted, and held open
        code="""
        def main(p):
            held = written = 0
            try:
                for held in range(p["files"]):
                    file = os.open("gone", os.O_CREAT | os.O_EXCL | os.O_RDWR)
                    os.unlink("gone")
                    written += os.write(file, bytes(1 << 20))
            except OSError:
                pass
            return written >> 20
        """,
        given={"files": 50},
        given_outside={"files": SCRATCH_MIB + 4},
        inside=gave_at_most(SCRATCH_MIB),
        outside=answered_at_least(SCRATCH_MIB + 1),
    ),
    Case(
        name="maps-without-number",  # each is the kernel's memory, and not ours
        code="""
        import mmap

        def main(p):
            held = []
            try:
                while len(held) < p["maps"]:
                    held.append(mmap.mmap(-1, 4096, prot=1 + 2 * (len(held) & 1)))
            except (OSError, MemoryError):
                pass
            return len(held)
        """,
        given={"maps": 200_000},
        given_outside={"maps": 40_000},
        ends=("ok", "memory", "timeout"),
        inside=gave_at_most((128 << 20) // 4096),
        outside=answered_at_least((128 << 20) // 4096 + 1),
    ),
    Case(
        name="a-page-of-every-table",  # of two MiB one page is touched: the table is the cost
        code="""
        import ctypes

        def main(p):
            tables = 0
            try:
                while tables < p["tables"]:
                    where = raw(9, 0, 1 << 21, 1, 0x4022, -1, 0)
                    ctypes.c_char.from_address(where).value
                    tables += 1
            except OSError:
                pass
            return tables
        """,
        given={"tables": 100_000},
        given_outside={"tables": 1000},
        ends=("ok", "memory"),
        inside=gave_at_most(64),
        outside=answered_at_least(1000),
    ),
    Case(
        name="chance-by-the-gigabyte",
        code="""
        def main(p):
            source = os.open("/dev/urandom", os.O_RDONLY)
            while True:
                os.read(source, 1 << 25)
                os.getrandom(1 << 20)
        """,
        limits=SHORT,
        ends=("timeout",),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="a-tenth-of-a-second",
        code="""
        def main(p):
            while True:
                try:
                    time.sleep(1)
                except BaseException:
                    pass
        """,
        limits=Limits(timeout_seconds=0.1, memory_limit_mb=16, cpu_limit=0.1),
        ends=("timeout",),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="as-little-memory-as-may-be",
        code="""
        def main(p):
            return len("x" * 100_000)
        """,
        limits=Limits(timeout_seconds=5.0, memory_limit_mb=16, cpu_limit=1.0),
        inside=gave(100_000),
        outside=answered(100_000),
    ),
    Case(
        name="thaw-what-was-frozen",  # what the runner's own objects would refer to
        code="""
        import gc

        def main(p):
            mark, found, near = "CAN" + "ARY-", [], 0
            gc.unfreeze()
            for thing in gc.get_objects():
                parts = gc.get_referents(thing)
                # A dictionary of texts is none of the collector's objects.
                for part in (*parts, *gc.get_referents(*(p for p in parts if type(p) is dict))):
                    near += 1
                    if isinstance(part, (str, bytes, bytearray)) and len(part) < 4096:
                        text = part if isinstance(part, str) else bytes(part).decode("latin-1")
                        if mark in text and len(text) > 20:
                            found.append(text[:200])
            return {"found": found, "seen": near}
        """,
        inside=none_is_told,
        outside=told_secret,
    ),
    Case(
        name="the-first-words-on-the-stack",  # where the kernel puts arguments and environment
        code="""
        import ctypes

        def main(p):
            find = libc().getauxval
            find.restype, find.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
            name = find(31)  # AT_EXECFN: the last of them
            start = max(name - 60_000, find(25) + 16)  # AT_RANDOM stands below them
            block = ctypes.string_at(start, name - start)
            mark = b"CAN" + b"ARY-"
            words = [word for word in block.split(b"\\0") if mark in word]
            return {"found": [word.decode("latin-1")[:200] for word in words], "seen": 2000}
        """,
        inside=none_is_told,
        outside=told_secret,
    ),
    Case(
        name="a-folder-that-moves-under-ones-feet",
        code="""
        def main(p):
            os.mkdir("a")
            os.mkdir("b")
            os.chdir("a")
            os.rename("../a", "../b/a")
            attempt("up", os.listdir, "../" * 40 + "etc")
            attempt("secret", read, "../" * 40 + p["file"])
            attempt("own", os.listdir, "../..")
            return seen
        """,
        denied=("up", "secret"),
        outside=succeeded("own"),
    ),
    Case(
        name="another-cap-for-the-runner",  # in the cell where it keeps it; no ctypes needed
        code="""
        def main(p):
            frame = sys._getframe()
            while frame:
                room = frame.f_locals.get("room")
                for cell in getattr(room, "encode", main).__closure__ or ():
                    if cell.cell_contents == 1 << 20:
                        cell.cell_contents = 1 << 30
                frame = frame.f_back
            return "x" * ((1 << 20) + 50_000)
        """,
        ends=("output", "rejected"),
        outside=longer_than_may_be,
    ),
    Case(
        name="the-first-thread-leaves-and-the-rest-prints",
        code="""
        import ctypes, threading

        def go_on():
            while True:
                os.write(1, b"z" * 4096)

        def main(p):
            threading.Thread(target=go_on).start()
            libc().syscall(ctypes.c_long(60), 0)
        """,
        ends=("output", "timeout"),
        limits=SHORT,
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="pipes-that-carry-packets",  # O_DIRECT: what is read at once is what was written so
        code="""
        import fcntl

        def main(p):
            for pipe in (1, 2, 4):
                attempt(f"packets {pipe}", fcntl.fcntl, pipe, fcntl.F_SETFL, os.O_DIRECT)
            os.write(1, b"a")
            os.write(1, b"b")
            return "v" * 200_000
        """,
        inside=gave("v" * 200_000),
        outside=answered("v" * 200_000),
    ),
    Case(
        name="an-exit-code-that-aborts",  # when whoever reports it asks what it is
        code="""
        class Code:
            def __repr__(self):
                os.abort()

        def main(p):
            raise SystemExit(Code())
        """,
        ends=("error", "killed"),
        inside=aborted_if_killed,
        outside=died_by_itself,
    ),
]
