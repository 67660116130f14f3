"""Family 3: processes. One jail is one process; it makes no other, and sees no other."""

from __future__ import annotations

from abuse.case import SHORT, Case
from abuse.checks import answered, answered_at_least, crashes, gave, gave_at_most, goes_on, silent
from abuse.outside import Ending
from worker_sandbox.job import Run

SHORTLY = 1.5

NO_MATTER_HOW = """
def reap(pid):
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid
"""


def nothing_typed(run: Run) -> None:
    typed = {name: seen for name, seen in run.value.items() if " " in name and seen[0] == "done"}
    assert not typed, f"terminal commands were carried out: {typed}"


def nobody(run: Run) -> None:
    """The first process of a namespace, or one without a parent that it could name; never root."""
    assert 0 not in run.value["ids"], run
    assert not set(run.value["groups"]) - {65534, *run.value["ids"]}, run


def somebody(ending: Ending) -> None:
    assert ending.evidence["parent"] > 0, ending


CASES = [
    Case(
        name="fork",
        code=NO_MATTER_HOW
        + """
def main(p):
    attempt("fork", lambda: reap(os.fork()))
    attempt("forkpty", lambda: reap(os.forkpty()[0]))
    attempt("raw fork", lambda: reap(raw(57)))
    attempt("raw clone", lambda: reap(raw(56, 17, 0, 0, 0, 0)))
    attempt("raw clone3", lambda: reap(raw(435, clone_args(), 88)))
    return seen

def clone_args():
    import ctypes
    args = (ctypes.c_uint64 * 11)()
    args[4] = 17
    return ctypes.byref(args)
""",
        denied=("fork", "forkpty", "raw fork", "raw clone", "raw clone3"),
    ),
    Case(
        name="start-a-program",
        code="""
        import subprocess

        def main(p):
            true = "/bin/true"
            attempt("subprocess", lambda: subprocess.run([true], check=True).returncode)
            attempt("spawn", lambda: os.waitpid(os.posix_spawn(true, [true], {}), 0)[1])
            attempt("system", lambda: must(os.system(true)))
            attempt("popen", lambda: must(os.popen("echo 1").read().strip() != "1"))
            attempt("python", lambda: subprocess.run([sys.executable, "-c", ""], check=True).args)
            return seen

        def must(failed):
            if failed:
                raise OSError
        """,
        denied=("subprocess", "spawn", "system", "popen", "python"),
    ),
    Case(
        name="become-another-program",
        code="""
        def main(p):
            os.dup2(2, 1)
            raw(59, b"/bin/true\\0", 0, 0)
        """,
        ends=("error",),
        outside=silent,
    ),
    Case(
        name="a-program-without-a-file",
        code="""
        import ctypes

        def main(p):
            script = b"#!/bin/true\\n"
            file = attempt("memfd", os.memfd_create, "abuse", 0)
            if file is None:
                file = os.open("abuse.sh", os.O_RDWR | os.O_CREAT, 0o700)
            os.write(file, script)
            argv = (ctypes.c_char_p * 2)(b"abuse", None)
            raw(322, file, ctypes.c_char_p(b""), ctypes.byref(argv), 0, 0x1000)
        """,
        ends=("error",),
        outside=silent,
    ),
    Case(
        name="fork-bomb",
        code="""
        import signal

        def main(p):
            made = 0
            for _ in range(p["forks"]):
                try:
                    pid = os.fork()
                except OSError:
                    continue
                if pid == 0:
                    signal.pause()
                made += 1
            return made
        """,
        given={"forks": 2_000},
        given_outside={"forks": 200},
        inside=gave(0),
        outside=answered(200),
        apart=True,
    ),
    Case(
        name="threads-without-number",
        code="""
        import threading

        def main(p):
            threading.stack_size(64 << 10)
            stop, started = threading.Event(), 0
            for _ in range(p["threads"]):
                try:
                    threading.Thread(target=stop.wait, daemon=True).start()
                    started += 1
                except (RuntimeError, MemoryError):
                    break
            stop.set()
            return started
        """,
        given={"threads": 20_000},
        given_outside={"threads": 1_500},
        ends=("ok", "memory", "error"),
        inside=gave_at_most(1_000),
        outside=answered(1_500),
    ),
    Case(
        name="a-thread-stays-behind",
        code="""
        import threading

        def stay():
            while True:
                time.sleep(0.01)

        def main(p):
            threading.Thread(target=stay).start()
            return "left"
        """,
        limits=SHORT,
        inside=gave("left"),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="kill-the-others",
        code="""
        import signal

        def main(p):
            victim = p["victim"]
            attempt("kill", os.kill, victim, 0)
            attempt("raw kill", raw, 62, victim, 0)
            attempt("raw tkill", raw, 200, victim, 0)
            attempt("raw tgkill", raw, 234, victim, victim, 0)
            attempt("raw sigqueue", raw, 129, victim, 0, info())
            attempt("pidfd", lambda: raw(424, raw(434, victim, 0), 0, 0, 0))
            return seen

        def info():
            import ctypes
            return ctypes.byref((ctypes.c_int * 32)(0, 0, -1))
        """,
        denied=("kill", "raw kill", "raw tkill", "raw tgkill", "raw sigqueue", "pidfd"),
    ),
    Case(
        name="kill-everybody",  # the control would: it counts whom it could
        code="""
        import signal

        def main(p):
            reached = 0
            for pid in (*range(2, 5_000), p["victim"]):
                if pid != os.getpid():
                    try:
                        os.kill(pid, 0)
                    except ProcessLookupError:
                        continue
                    except PermissionError:
                        continue
                    reached += 1
            if p.get("inside"):
                for victim in (-1, 0, 1, os.getppid(), p["victim"], p["worker"]):
                    try:
                        os.kill(victim, signal.SIGTERM if victim == 0 else signal.SIGKILL)
                    except OSError:
                        pass
            return reached
        """,
        given={"inside": True},
        given_outside={"inside": False},
        ends=("ok", "killed"),
        inside=gave_at_most(0),
        outside=answered_at_least(1),
    ),
    Case(
        name="debug-the-others",
        code="""
        def main(p):
            victim = p["victim"]
            attempt("seize", raw, 101, 0x4206, victim, 0, 0)
            attempt("readv", raw, 310, victim, 0, 0, 0, 0, 0)
            attempt("writev", raw, 311, victim, 0, 0, 0, 0, 0)
            attempt("kcmp", raw, 312, victim, victim, 1, 0, 0)
            attempt("robust list", lambda: raw(274, victim, *places()))
            attempt("open", os.pidfd_open, victim)
            attempt("getfd", lambda: raw(438, raw(434, victim, 0), 0, 0))
            attempt("madvise", lambda: raw(440, raw(434, victim, 0), 0, 0, 20, 0))
            return seen

        def places():
            import ctypes
            global kept
            kept = (ctypes.c_uint64 * 2)()
            return ctypes.addressof(kept), ctypes.addressof(kept) + 8
        """,
        denied=("seize", "readv", "writev", "kcmp", "robust list", "open", "getfd", "madvise"),
        as_root=True,
    ),
    Case(
        name="be-debugged",
        code="""
        def main(p):
            attempt("traceme", raw, 101, 0, 0, 0, 0)
            attempt("any tracer", raw, 157, 0x59616D61, -1, 0, 0, 0)
            return seen
        """,
        denied=("traceme",),
    ),
    Case(
        name="outlive-the-parent",
        code="""
        def main(p):
            attempt("no death signal", raw, 157, 1, 0, 0, 0, 0)
            attempt("subreaper", raw, 157, 36, 1, 0, 0, 0)
            attempt("setns", lambda: raw(308, raw(434, p["victim"], 0), 0x20000000))
            return seen
        """,
        denied=("no death signal", "subreaper", "setns"),
        as_root=True,
    ),
    Case(
        name="groups-and-terminals",
        code="""
        import fcntl

        def main(p):
            attempt("tty", os.open, "/dev/tty", os.O_RDWR)
            attempt("ptmx", os.open, "/dev/ptmx", os.O_RDWR | os.O_NOCTTY)
            for fd in range(3):
                for command in (0x5412, 0x541C, 0x540E, 0x15412 << 32 | 0x5412):
                    attempt(f"{fd} {command:x}", raw, 16, fd, command, b"x\\0")
            return seen
        """,
        denied=("ptmx",),
        inside=nothing_typed,
    ),
    Case(
        name="kill-oneself",
        code="""
        import signal

        def main(p):
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(3600)
        """,
        limits=SHORT,
        ends=("killed", "timeout", "error"),  # the first of its pid namespace is deaf to it
        outside=crashes,
    ),
    Case(
        name="stop-oneself",
        code="""
        import signal

        def main(p):
            os.kill(os.getpid(), signal.SIGSTOP)
            return "went on"
        """,
        limits=SHORT,
        ends=("ok", "error", "timeout"),
        outside=goes_on,
        patience=SHORTLY,
    ),
    Case(
        name="abort",
        code="""
        def main(p):
            os.abort()
        """,
        ends=("killed",),
        outside=crashes,
    ),
    Case(
        name="read-at-nothing",
        code="""
        import ctypes

        def main(p):
            return ctypes.string_at(0)
        """,
        ends=("killed",),
        outside=crashes,
    ),
    Case(
        name="broken-bytecode",  # no ctypes needed to leave Python
        code="""
        def main(p):
            code = main.__code__.replace(co_code=b"\\x64\\xff" * 8 + b"\\x53\\0", co_consts=())
            return type(main)(code, {})(p)
        """,
        ends=("killed", "error"),
        outside=crashes,
    ),
    Case(
        name="who-am-i",
        code="""
        def main(p):
            return {
                "pid": os.getpid(),
                "parent": os.getppid(),
                "ids": [*os.getresuid(), *os.getresgid()],
                "groups": os.getgroups(),
            }
        """,
        inside=nobody,
        outside=somebody,
    ),
]
