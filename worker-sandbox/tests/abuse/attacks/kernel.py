"""Family 6: the kernel's surface. What no honest util needs is not there.

The sweep over all numbers of system calls stands in `test_syscalls.py`.
"""

from __future__ import annotations

from abuse.case import Case
from abuse.checks import refused
from abuse.outside import Ending
from worker_sandbox.job import Run

NAMESPACES = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "time": 0x00000080,
}


def powerless(run: Run) -> None:
    """No capability in any set, and none to be had."""
    assert run.value == {"sets": [0] * 6, "bounding": [], "no_new_privs": 1, "seccomp": 2}, run


def powerful(ending: Ending) -> None:
    assert ending.evidence["bounding"], ending
    assert any(ending.evidence["sets"]), ending


def all_refused(run: Run) -> None:
    there = {name: what for name, what in run.value.items() if what not in ("EPERM", "ENOSYS")}
    assert not there, there


def some_there(ending: Ending) -> None:
    there = [name for name, what in ending.evidence.items() if what not in ("EPERM", "ENOSYS")]
    assert len(there) >= 8, ending


def gave_a_pid(ending: Ending) -> None:
    assert ending.evidence > 1, ending


def zero_is_had(ending: Ending) -> None:
    assert ending.evidence["zero"][0] == "done", ending


CASES = [
    Case(
        name="unshare",
        code="""
        def main(p):
            for name, flag in p["flags"].items():
                attempt(name, raw, 272, flag)
            return seen
        """,
        given={
            "flags": {name: NAMESPACES[name] for name in ("user", *NAMESPACES) if name != "pid"}
        },
        denied=tuple(name for name in NAMESPACES if name != "pid"),
    ),
    Case(
        name="clone-into-namespaces",
        code="""
        def main(p):
            for name, flag in p["flags"].items():
                attempt(name, lambda: reap(raw(56, flag | 17, 0, 0, 0, 0)))
                attempt("high " + name, lambda: reap(raw(56, 1 << 40 | flag | 17, 0, 0, 0, 0)))
            attempt("thread in user", raw, 56, 0x10000000 | 0x00010000, 0, 0, 0, 0)
            return seen

        def reap(pid):
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        """,
        given={"flags": NAMESPACES},
        denied=tuple(
            f"{how}{name}" for how in ("", "high ") for name in NAMESPACES if name != "time"
        ),
        inside=refused("thread in user", "time"),
        apart=True,
    ),
    Case(
        name="programs-in-the-kernel",
        code="""
        import ctypes

        def main(p):
            attempt("bpf map", lambda: os.close(raw(321, 0, ctypes.byref(array()), 72)))
            attempt("bpf", raw, 321, 5, ctypes.byref(array()), 72)
            return seen

        def array():
            return (ctypes.c_uint32 * 18)(2, 4, 8, 1)
        """,
        denied=("bpf map",),
        inside=refused("bpf"),
        as_root=True,
    ),
    Case(
        name="performance-events",
        code="""
        import ctypes

        def main(p):
            event = (ctypes.c_uint32 * 32)(1, 128)
            attempt("self", lambda: os.close(raw(298, ctypes.byref(event), 0, -1, -1, 0)))
            attempt("all", lambda: os.close(raw(298, ctypes.byref(event), -1, 0, -1, 0)))
            return seen
        """,
        denied=("self", "all"),
        as_root=True,
    ),
    Case(
        name="faults-in-user-space",
        code="""
        def main(p):
            attempt("userfaultfd", lambda: os.close(raw(323, 0)))
            attempt("user only", lambda: os.close(raw(323, 1)))
            attempt("device", os.open, "/dev/userfaultfd", os.O_RDWR)
            return seen
        """,
        denied=("userfaultfd", "user only"),
        inside=refused("device"),
        as_root=True,
    ),
    Case(
        name="segments-and-personalities",
        code="""
        import ctypes

        def main(p):
            attempt("modify_ldt", raw, 154, 0, ctypes.byref((ctypes.c_char * 64)()), 64)
            entry = (ctypes.c_uint32 * 4)(0, 0, 0xFFFFF, 0x51)
            attempt("write ldt", raw, 154, 1, ctypes.byref(entry), 16)
            attempt("personality", raw, 135, 0x0040000)
            attempt("executable", raw, 135, 0x0400000)
            return seen
        """,
        denied=("modify_ldt", "write ldt", "personality", "executable"),
    ),
    Case(
        name="another-filter",
        code="""
        import ctypes

        def main(p):
            attempt("no new privileges", raw, 157, 38, 1, 0, 0, 0)
            allow = (ctypes.c_uint64 * 1)(0x7FFF0000 << 32 | 0x06)
            program = (ctypes.c_uint64 * 2)(1, ctypes.addressof(allow))
            attempt("listener", lambda: os.close(raw(317, 1, 8, ctypes.byref(program))))
            attempt("filter", raw, 317, 1, 0, ctypes.byref(program))
            attempt("prctl", raw, 157, 22, 2, ctypes.addressof(program), 0, 0)
            attempt("still", raw, 272, 0x10000000) if not p.get("outside") else None
            return seen
        """,
        given_outside={"outside": True},
        denied=("listener",),
        inside=refused("still"),
    ),
    Case(
        name="process-controls",
        code="""
        def main(p):
            attempt("undumpable", raw, 157, 4, 0, 0, 0, 0)
            attempt("dumpable", raw, 157, 4, 1, 0, 0, 0)
            attempt("keep capabilities", raw, 157, 8, 1, 0, 0, 0)
            attempt("no time stamp", raw, 157, 26, 1, 0, 0, 0)
            attempt("unprivileged again", raw, 157, 38, 0, 0, 0, 0)
            attempt("map", raw, 157, 35, 1, 0x1000, 0, 0)
            attempt("ambient", raw, 157, 47, 2, 0, 0, 0)
            attempt("speculation", raw, 157, 53, 0, 2, 0, 0)
            attempt("securebits", raw, 157, 28, 1, 0, 0, 0)
            attempt("machine check", raw, 157, 33, 0, 1, 0, 0)
            attempt("unaligned", raw, 157, 6, 1, 0, 0, 0)
            attempt("strict", raw, 157, 22, 1, 0, 0, 0) if not p.get("outside") else None
            return seen
        """,
        given_outside={"outside": True},
        denied=("dumpable", "keep capabilities"),
        inside=refused("map", "ambient", "securebits", "unprivileged again", "machine check"),
        ends=("ok", "killed"),
    ),
    Case(
        name="capabilities",
        code="""
        import ctypes

        def main(p):
            header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            raw(125, ctypes.byref(header), ctypes.byref(data))
            bounding = []
            for number in range(64):
                try:
                    if raw(157, 23, number, 0, 0, 0):
                        bounding.append(number)
                except OSError:
                    break
            return {
                "sets": list(data),
                "bounding": bounding,
                "no_new_privs": raw(157, 39, 0, 0, 0, 0),
                "seccomp": raw(157, 21, 0, 0, 0, 0),
            }
        """,
        inside=powerless,
        outside=powerful,
        as_root=True,
    ),
    Case(
        name="somebody-elses-rights",
        code="""
        import ctypes

        def main(p):
            attempt("capset", capset)
            attempt("setgroups", os.setgroups, [0])
            attempt("setgid", os.setgid, 12345)
            attempt("setresgid", os.setresgid, 12345, 12345, 12345)
            attempt("setfsgid", lambda: raw(123, 12345) == raw(123, 12345) or refuse())
            attempt("setuid", os.setuid, 12345)
            attempt("raw setresuid", raw, 117, 12345, 12345, 12345)
            if not p.get("outside"):
                attempt("root", os.setuid, 0)
                attempt("raw root", raw, 105, 0)
                attempt("raw resuid", raw, 117, 0, 0, 0)
            return seen

        def refuse():
            raise PermissionError

        def capset():
            header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
            raw(125, ctypes.byref(header), ctypes.byref(data))
            data[0] |= 1 << 21 | 1  # CAP_SYS_ADMIN
            data[1] |= 1 << 21 | 1
            raw(126, ctypes.byref(header), ctypes.byref(data))
        """,
        given_outside={"outside": True},
        denied=("capset", "setgroups", "setgid", "setresgid", "setuid", "raw setresuid"),
        inside=refused("root", "raw root", "raw resuid"),
        as_root=True,
    ),
    Case(
        name="the-machine-itself",  # asked so that even a kernel that may refuses the arguments
        code="""
        def main(p):
            found = {}
            for name, number in p["calls"].items():
                try:
                    raw(number, -1, -1, -1, -1, -1)
                    found[name] = "done"
                except OSError as exc:
                    found[name] = errno.errorcode[exc.errno]
            return found
        """,
        given={
            "calls": {
                "reboot": 169,
                "kexec_load": 246,
                "kexec_file_load": 320,
                "init_module": 175,
                "delete_module": 176,
                "finit_module": 313,
                "swapon": 167,
                "swapoff": 168,
                "acct": 163,
                "syslog": 103,
                "quotactl": 179,
                "ioperm": 173,
                "iopl": 172,
                "vhangup": 153,
                "pivot_root": 155,
                "settimeofday": 164,
                "quotactl_fd": 443,
                "mount_setattr": 442,
                "move_mount": 429,
                "fspick": 433,
                "fsconfig": 431,
                "sync": 162,
                "syncfs": 306,
                "migrate_pages": 256,
                "move_pages": 279,
                "statmount": 457,
                "listmount": 458,
                "lsm_set_self_attr": 460,
            }
        },
        inside=all_refused,
        outside=some_there,
        apart=True,
    ),
    Case(
        name="thirty-two-bits",
        code="""
        import ctypes, mmap

        def main(p):
            code = b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3"  # getpid by int 0x80
            area = mmap.mmap(-1, 4096, prot=7)
            area.write(code)
            address = ctypes.addressof(ctypes.c_char.from_buffer(area))
            return ctypes.CFUNCTYPE(ctypes.c_int)(address)()
        """,
        ends=("killed", "error"),
        outside=gave_a_pid,
    ),
    Case(
        name="x32",
        code="""
        def main(p):
            for number in (0, 1, 2, 9, 39, 41, 56, 57, 59, 101, 272, 520, 521, 537):
                attempt(str(number), raw, 0x40000000 | number, -1, -1, -1)
            attempt("raw", raw, 39 if p.get("outside") else 0x40000000 | 39)
            return seen
        """,
        given_outside={"outside": True},
        denied=("raw",),
        ends=("ok", "killed"),
        inside=refused(*map(str, (0, 1, 2, 9, 39, 41, 56, 57, 59, 101, 272, 520, 521, 537))),
    ),
    Case(
        name="the-page-at-zero",
        code="""
        import ctypes

        def main(p):
            library = libc()
            library.mmap.restype = ctypes.c_long
            for name, address in {"zero": 0}.items():
                area = library.mmap(ctypes.c_void_p(address), 4096, 3, 0x32, -1, 0)
                seen[name] = ["done", area] if area == address else "refused"
            return seen
        """,
        inside=refused("zero"),
        outside=zero_is_had,
        as_root=True,
    ),
    Case(
        name="drop-what-others-have-read",  # the library's pages are everybody's
        code="""
        def main(p):
            file = os.open(os.__file__, os.O_RDONLY)
            attempt("fadvise", os.posix_fadvise, file, 0, 0, os.POSIX_FADV_DONTNEED)
            attempt("raw fadvise", raw, 221, file, 0, 0, 4)
            attempt("all cores wait", raw, 324, 1, 0, 0)
            attempt("cachestat", raw, 451, file, place(16), place(40), 0)
            attempt("mincore", raw, 27, id(None) & ~4095, 4096, place(8))
            return seen

        def place(size):
            import ctypes
            kept.append(ctypes.create_string_buffer(size))
            return ctypes.addressof(kept[-1])

        kept = []
        """,
        denied=("fadvise", "raw fadvise", "all cores wait", "mincore"),
        inside=refused("cachestat"),  # outside it takes the owner of the file
    ),
    Case(
        name="timers-that-signal-others",
        code="""
        import ctypes

        def main(p):
            event = (ctypes.c_int * 16)(0, 0, 10, 4, p["victim"])  # SIGEV_THREAD_ID
            attempt("timer", raw, 222, 0, ctypes.byref(event), ctypes.byref(ctypes.c_int()))
            attempt("owner", lambda: __import__("fcntl").fcntl(os.pipe()[0], 8, p["victim"]))
            return seen
        """,
        inside=refused("timer"),
    ),
]
