"""Family 1: CPU and time. The deadline is kept from outside, whatever the code does about it."""

from __future__ import annotations

from abuse.case import SHORT, Case, got
from abuse.checks import all_of, answered, answered_at_least, gave, goes_on, refused
from worker_sandbox.job import Limits, Run

# The control shows that nothing else would have ended it.
SHORTLY = 1.5
ITS_SHARE = 0.5 + 0.15  # half a processor for one second, and what a kernel adds before it looks
MORE_THAN_ITS_SHARE = 0.7


def worked_hard(run: Run) -> None:
    assert run.cpu_ms >= 100, "metering saw nothing of it"


def at_most_its_cpu(run: Run) -> None:
    assert run.cpu_ms <= 1000 * ITS_SHARE, run


def limited(run: Run) -> None:
    for name in ("CPU", "AS", "NOFILE", "FSIZE", "CORE", "MEMLOCK"):
        assert got(run.value, f"was {name}") != -1, f"RLIMIT_{name} is not set"


CASES = [
    Case(
        name="busy-loop",
        code="""
        def main(p):
            while True:
                pass
        """,
        limits=SHORT,
        ends=("timeout",),
        inside=worked_hard,
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="sleep-past-the-deadline",
        code="""
        def main(p):
            time.sleep(3600)
        """,
        limits=SHORT,
        ends=("timeout",),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="late-answer-is-no-answer",
        code="""
        def main(p):
            time.sleep(1.4)
            return "late"
        """,
        limits=SHORT,
        ends=("timeout",),
        inside=gave(None),
        outside=answered("late"),
    ),
    Case(
        name="ignore-every-signal",
        code="""
        import signal

        def main(p):
            for number in signal.valid_signals():
                attempt(str(number), signal.signal, number, signal.SIG_IGN)
            attempt("mask", signal.pthread_sigmask, signal.SIG_BLOCK, signal.valid_signals())
            attempt("terminate", os.kill, os.getpid(), signal.SIGTERM)
            while True:
                pass
        """,
        limits=SHORT,
        ends=("timeout",),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="swallow-every-exception",
        code="""
        def main(p):
            while True:
                try:
                    while True:
                        sum(range(1000))
                except BaseException:
                    pass
        """,
        limits=SHORT,
        ends=("timeout",),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="one-long-instruction",  # in C, with the interpreter's lock in hand
        code="""
        def main(p):
            return 9 ** 9 ** 9
        """,
        limits=SHORT,
        ends=("timeout", "memory", "error"),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="regular-expression-without-end",
        code="""
        import re

        def main(p):
            return bool(re.match(r"(a+)+$", "a" * 60 + "b"))
        """,
        limits=SHORT,
        ends=("timeout",),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="block-in-the-kernel",
        code="""
        import signal

        def main(p):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            while True:
                attempt("pause", raw, 34)
                attempt("poll", raw, 7, 0, 0, -1)
        """,
        limits=SHORT,
        ends=("timeout",),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="storm-of-timers",
        code="""
        import signal

        def main(p):
            signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 1e-6, 1e-6)
            while True:
                sum(range(100))
        """,
        limits=SHORT,
        ends=("timeout",),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="threads-on-every-processor",
        code="""
        import hashlib, threading

        def spin():
            block = bytes(1 << 20)
            while True:
                hashlib.sha256(block).digest()  # without the interpreter's lock

        def main(p):
            for _ in range(8):
                attempt("thread", threading.Thread(target=spin).start)
            spin()
        """,
        limits=SHORT,
        ends=("timeout",),
        inside=worked_hard,
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="no-more-than-its-share",
        code="""
        def main(p):
            while time.process_time() < p["share"]:  # however long that takes: others work too
                pass
            return time.process_time()
        """,
        given={"share": 60.0},
        given_outside={"share": MORE_THAN_ITS_SHARE},
        limits=Limits(timeout_seconds=1.0, memory_limit_mb=128, cpu_limit=0.5),
        ends=("timeout",),
        inside=at_most_its_cpu,
        outside=answered_at_least(MORE_THAN_ITS_SHARE),
    ),
    Case(
        name="loop-in-a-finaliser",  # after the answer, when the interpreter goes down
        code="""
        import atexit

        class Clings:
            def __del__(self):
                while True:
                    pass

        def forever():
            while True:
                pass

        def main(p):
            global clings
            clings = Clings()
            atexit.register(forever)
            return "done"
        """,
        limits=SHORT,
        ends=("ok", "timeout"),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="loop-while-it-is-imported",
        code="""
        while True:
            pass
        """,
        limits=SHORT,
        ends=("timeout",),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="wait-for-input",
        code="""
        def main(p):
            return len(sys.stdin.read()) if sys.stdin else 0
        """,
        limits=SHORT,
        ends=("ok", "error"),  # never a wait: there is nobody who would type
        outside=answered(0),
    ),
    Case(
        name="raise-the-limits",
        code="""
        import resource

        def main(p):
            for name in ("CPU", "AS", "NOFILE", "FSIZE", "CORE", "STACK", "NPROC", "MEMLOCK"):
                limit = getattr(resource, f"RLIMIT_{name}")
                soft, hard = resource.getrlimit(limit)
                seen["was " + name] = ["done", hard]
                more = resource.RLIM_INFINITY if hard == resource.RLIM_INFINITY else hard + 1
                attempt(name, resource.setrlimit, limit, (soft, more))
                attempt("raw " + name, raw, 302, 0, limit, more_of(soft, more), 0)
            return seen

        def more_of(soft, hard):
            import ctypes
            return ctypes.byref((ctypes.c_uint64 * 2)(soft % (1 << 64), hard % (1 << 64)))
        """,
        denied=tuple(how + name for how in ("", "raw ") for name in ("CPU", "AS", "FSIZE")),
        inside=all_of(limited, refused("NOFILE", "raw NOFILE", "CORE", "MEMLOCK")),
        as_root=True,
    ),
    Case(
        name="first-in-every-queue",
        code="""
        def main(p):
            attempt("nice", os.setpriority, os.PRIO_PROCESS, 0, -20)
            attempt("fifo", os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(50))
            attempt("raw fifo", raw, 144, 0, 1, parameter())
            attempt("ioprio", raw, 251, 1, 0, (1 << 13) | 0)
            return seen

        def parameter():
            import ctypes
            return ctypes.byref(ctypes.c_int(50))
        """,
        denied=("nice", "fifo", "raw fifo", "ioprio"),
        as_root=True,
    ),
]
