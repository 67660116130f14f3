"""Family 2: memory. All of it is counted: the heap, mappings, files, stacks, the kernel's own."""

from __future__ import annotations

from typing import Final

from abuse.case import Case
from abuse.checks import all_of, answered, answered_at_least, crashes, fails, gave, gave_at_most
from abuse.outside import Ending
from worker_sandbox.job import ExitReason, Limits, Run

LIMITS = Limits(timeout_seconds=5.0, memory_limit_mb=64, cpu_limit=1.0)
# What the limit leaves room for beside the budget: the interpreter itself.
INTERPRETER_KB = 48 << 10
ENOUGH_MB = 256

FULL: Final[tuple[ExitReason, ...]] = ("memory", "error", "killed")


def kept(run: Run) -> None:
    most = (LIMITS.memory_limit_mb << 10) + INTERPRETER_KB
    assert run.memory_peak_kb <= most, f"used {run.memory_peak_kb} KiB"


def metered(run: Run) -> None:
    kept(run)
    assert run.exit_reason == "memory" or "MemoryError" in str(run.error), run


def took_it(ending: Ending) -> None:
    assert ending.peak_kb >= 200 << 10, ending
    assert ending.evidence


CASES = [
    Case(
        name="a-list-beyond-all-memory",
        code="""
        def main(p):
            return len([0] * p["items"])
        """,
        given={"items": 10**10},
        given_outside={"items": 4 * 10**7},
        limits=LIMITS,
        ends=("memory", "error"),
        inside=metered,
        outside=took_it,
    ),
    Case(
        name="grow-and-touch",
        code="""
        def main(p):
            held = []
            while len(held) < p["mb"]:
                held.append(bytearray(os.urandom(1 << 10) * 1024))
            return len(held)
        """,
        given={"mb": 4096},
        given_outside={"mb": ENOUGH_MB},
        limits=LIMITS,
        ends=("memory", "error"),
        inside=metered,
        outside=took_it,
    ),
    Case(
        name="swallow-and-try-again",
        code="""
        def main(p):
            held, refused = [], 0
            while len(held) < p["mb"] and refused < 200:
                try:
                    held.append(bytearray(os.urandom(1 << 10) * 1024))
                except MemoryError:
                    refused += 1
            return len(held)
        """,
        given={"mb": 4096},
        given_outside={"mb": ENOUGH_MB},
        limits=LIMITS,
        ends=("ok", "memory", "error", "timeout"),
        inside=kept,
        outside=took_it,
    ),
    Case(
        name="anonymous-mappings",
        code="""
        import mmap

        def main(p):
            held = []
            for _ in range(p["mb"] // 16):
                for flags in (mmap.MAP_PRIVATE, mmap.MAP_SHARED):  # as in a tmpfs
                    try:
                        area = mmap.mmap(-1, 8 << 20, flags | mmap.MAP_ANONYMOUS)
                    except (OSError, MemoryError, ValueError):
                        continue
                    for page in range(0, 8 << 20, 4096):
                        area[page] = 1
                    held.append(area)
            return 8 * len(held)
        """,
        given={"mb": 2048},
        given_outside={"mb": ENOUGH_MB},
        limits=LIMITS,
        ends=("ok", *FULL),
        inside=all_of(kept, gave_at_most(LIMITS.memory_limit_mb + 32)),
        outside=took_it,
    ),
    Case(
        name="more-address-space-than-memory",
        code="""
        def main(p):
            import ctypes
            library = libc()
            library.mmap.restype = ctypes.c_void_p
            nobody = ctypes.c_void_p(-1).value
            size = 1 << 36
            area = library.mmap(None, ctypes.c_size_t(size), 3, 0x4022, -1, ctypes.c_long(0))
            seen["noreserve"] = "ENOMEM" if area == nobody else ["done", size]
            return seen
        """,
        limits=LIMITS,
        denied=("noreserve",),
    ),
    Case(
        name="a-file-in-memory",
        code="""
        def main(p):
            name = b"abuse"
            file = attempt("memfd", os.memfd_create, "abuse")
            if file is None:
                import ctypes
                file = attempt("raw memfd", raw, 319, ctypes.c_char_p(name), 0)
            written = 0
            if isinstance(file, int):
                block = os.urandom(1 << 20)
                try:
                    while written < p["mb"]:
                        os.write(file, block)
                        written += 1
                except OSError:
                    pass
            return written
        """,
        given={"mb": 1024},
        given_outside={"mb": ENOUGH_MB},
        limits=LIMITS,
        ends=("ok", *FULL),
        inside=gave_at_most(LIMITS.memory_limit_mb + 32),
        outside=answered(ENOUGH_MB),
    ),
    Case(
        name="fill-the-scratch-folder",
        code="""
        def main(p):
            written, block = 0, os.urandom(1 << 20)
            try:
                for number in range(p["mb"]):
                    with open(f"file{number}", "wb", buffering=0) as file:
                        written += file.write(block)
            except OSError as exc:
                seen["why"] = exc.strerror
            for number in range(p["mb"]):
                if os.path.exists(f"file{number}"):
                    os.unlink(f"file{number}")
            return written >> 20
        """,
        given={"mb": 1024},
        given_outside={"mb": ENOUGH_MB},
        limits=LIMITS,
        ends=("ok", *FULL),
        inside=gave_at_most(LIMITS.memory_limit_mb + 32),
        outside=answered(ENOUGH_MB),
    ),
    Case(
        name="threads-for-their-stacks",
        code="""
        import threading

        def main(p):
            threading.stack_size(1 << 20)
            stop = threading.Event()
            started = []
            try:
                for _ in range(p["threads"]):
                    thread = threading.Thread(target=stop.wait, daemon=True)
                    thread.start()
                    started.append(thread)
            except (RuntimeError, MemoryError):
                pass
            stop.set()
            return len(started)
        """,
        given={"threads": 10_000},
        given_outside={"threads": 1_500},
        limits=LIMITS,
        ends=("ok", *FULL),
        inside=all_of(kept, gave_at_most(1_000)),
        outside=answered(1_500),
    ),
    Case(
        name="pipes-for-the-kernels-memory",
        code="""
        import fcntl

        def main(p):
            total, block = 0, bytes(1 << 20)
            try:
                for _ in range(p["pipes"]):
                    reading, writing = os.pipe()
                    os.set_blocking(writing, False)
                    try:
                        fcntl.fcntl(writing, 1031, 1 << 20)  # F_SETPIPE_SZ
                    except OSError:
                        pass
                    total += os.write(writing, block)
            except OSError:
                pass
            return total >> 20
        """,
        given={"pipes": 4_000},
        given_outside={"pipes": 200},
        limits=LIMITS,
        ends=("ok", *FULL),
        inside=gave_at_most(LIMITS.memory_limit_mb),
        outside=answered_at_least(100),
        as_root=True,  # anybody else's pipes stay small after a while
    ),
    Case(
        name="locked-memory",
        code="""
        import mmap

        def main(p):
            attempt("mlockall", raw, 151, 3)
            area = mmap.mmap(-1, 1 << 20)
            import ctypes
            address = ctypes.addressof(ctypes.c_char.from_buffer(area))
            attempt("mlock", raw, 149, address, 1 << 20)
            attempt("mlock2", raw, 325, address, 1 << 20, 0)
            return seen
        """,
        denied=("mlockall", "mlock", "mlock2"),
        as_root=True,
    ),
    Case(
        name="a-bomb-in-gzip",
        code="""
        import zlib

        def main(p):
            machine, size = zlib.compressobj(9), 0
            packed = b"".join(machine.compress(bytes(1 << 20)) for _ in range(p["mb"]))
            packed += machine.flush()
            return len(zlib.decompress(packed)) >> 20
        """,
        given={"mb": ENOUGH_MB},
        given_outside={"mb": ENOUGH_MB},
        limits=LIMITS,
        ends=("memory", "error"),
        inside=metered,
        outside=took_it,
    ),
    Case(
        name="recursion",
        code="""
        def down(n):
            return down(n + 1)

        def main(p):
            try:
                down(0)
            except RecursionError:
                return "refused"
        """,
        ends=("ok",),
        inside=gave("refused"),
        outside=answered("refused"),
    ),
    Case(
        name="recursion-through-the-stack",
        code="""
        class Deep:
            def __getattr__(self, name):
                return getattr(self, name + "x"[:0])

        def main(p):
            sys.setrecursionlimit(10**9)
            return repr(Deep().a)
        """,
        ends=("killed", "memory", "error", "timeout"),
        limits=LIMITS,
        inside=kept,
        outside=crashes,
    ),
    Case(
        name="an-endless-parse",
        code="x = "
        + "(" * 190
        + "1"
        + ")" * 190
        + "\nd = "
        + "-" * 60_000
        + "1\ndef main(p):\n    return 1",
        bare=True,
        ends=("error", "killed", "memory"),
        limits=LIMITS,
        inside=kept,
        outside=fails,
    ),
    Case(
        name="move-the-break",
        code="""
        def main(p):
            here = raw(12, 0)
            there = raw(12, here + (p["mb"] << 20))
            return (there - here) >> 20
        """,
        given={"mb": 8192},
        given_outside={"mb": ENOUGH_MB},
        limits=LIMITS,
        ends=("ok", *FULL),
        inside=gave_at_most(LIMITS.memory_limit_mb),
        outside=answered(ENOUGH_MB),
    ),
    Case(
        name="memory-nobody-may-see",
        code="""
        def main(p):
            attempt("memfd_secret", raw, 447, 0)
            attempt("userfaultfd", raw, 323, 0)
            return seen
        """,
        denied=("memfd_secret", "userfaultfd"),
        as_root=True,
    ),
]
