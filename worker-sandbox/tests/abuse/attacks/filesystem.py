"""Family 4: the filesystem. A root built from nothing, read-only, with a scratch folder in it."""

from __future__ import annotations

import sysconfig

from abuse.case import Case
from abuse.checks import answered, gave, gave_at_most, listed, refused
from abuse.outside import Ending
from worker_sandbox.job import Limits, Run

LIMITS = Limits(timeout_seconds=10.0, memory_limit_mb=64, cpu_limit=1.0)

#: What may stand at the top of a jail; the library stands where it stands outside.
TOP = {"dev", "job", "usr", sysconfig.get_path("stdlib").split("/")[1]}
DEVICES = {"null", "zero", "full", "random", "urandom"}
ENVIRONMENT = {"HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "PYTHONHASHSEED", "TMPDIR", "TZ"}


def lonely(run: Run) -> None:
    """The descriptors are the standard three, null or pipes, and at most two more pipes."""
    for number, (kind, _) in run.value.items():
        assert kind in {"pipe", "null", "file"}, run.value
        assert int(number) < 16, run.value
    assert len(run.value) <= 6, run.value


def scrubbed(run: Run) -> None:
    assert set(run.value["environ"]) <= ENVIRONMENT, run.value
    assert set(run.value["raw environ"]) <= ENVIRONMENT, run.value


def bare(run: Run) -> None:
    assert set(run.value["top"]) <= TOP, run.value["top"]
    assert set(run.value["dev"]) <= DEVICES, run.value["dev"]
    assert not run.value["special"], run.value["special"]
    assert not run.value["privileged"], run.value["privileged"]
    assert run.value["writable"] in ([], [run.value["cwd"]]), run.value["writable"]


def found_much(ending: Ending) -> None:
    assert ending.evidence["writable"], ending
    assert ending.evidence["privileged"], ending


def only_scratch(run: Run) -> None:
    cwd = run.value["cwd"]
    assert all(cwd.startswith(folder) for folder in run.value["into"]), run


def holds(ending: Ending) -> None:
    assert len(ending.evidence) >= 4, ending


def told_all(ending: Ending) -> None:
    assert "CSB_REDIS_URL" in ending.evidence["environ"], ending
    assert "CSB_REDIS_URL" in ending.evidence["stack"], ending


CASES = [
    Case(
        name="read-what-is-secret",
        code="""
        def main(p):
            attempt("secret", read, p["file"])
            attempt("passwd", read, "/etc/passwd")
            attempt("shadow", read, "/etc/shadow")
            attempt("home", read, p["home"])
            attempt("logs", os.listdir, "/var/log")
            attempt("up", read, "../" * 40 + p["file"])
            attempt("raw", lambda: os.read(raw(2, p["file"].encode() + b"\\0", 0), 100).decode())
            attempt("openat2", lambda: os.read(openat2(p["file"]), 100).decode())
            return seen

        def openat2(path):
            import ctypes
            how = (ctypes.c_uint64 * 3)(0, 0, 0)
            return raw(437, -100, path.encode() + b"\\0", ctypes.byref(how), 24)
        """,
        denied=("secret", "passwd", "shadow", "home", "logs", "up", "raw", "openat2"),
        as_root=True,
    ),
    Case(
        name="what-the-kernel-tells",
        code="""
        def main(p):
            for path in (
                "/proc/self/environ", "/proc/self/maps", "/proc/self/status", "/proc/1/cmdline",
                "/proc/mounts", "/proc/net/tcp", "/proc/sysvipc/shm", "/proc/loadavg",
                "/proc/sys/kernel/core_pattern", f"/proc/{p['worker']}/environ",
                f"/proc/{p['victim']}/cmdline", "/sys/kernel/notes", "/sys/class",
                "/sys/fs/cgroup",
            ):
                attempt(path, read, path)
                if seen[path] == "IsADirectoryError" or seen[path] == "EISDIR":
                    attempt(path, os.listdir, path)
            attempt("root", os.listdir, "/proc/1/root")
            attempt("cwd", os.listdir, f"/proc/{p['worker']}/cwd")
            seen["open"] = [name for name, what in seen.items() if what[0] == "done"]
            return {"open": seen["open"]}
        """,
        inside=gave({"open": []}),
        outside=listed("open", 14),
        as_root=True,
    ),
    Case(
        name="write-ones-own-memory-as-a-file",
        code="""
        def main(p):
            attempt("mem", os.open, "/proc/self/mem", os.O_RDWR)
            attempt("oom", write, "/proc/self/oom_score_adj", "0")
            attempt("fd", os.listdir, "/proc/self/fd")
            attempt("dev fd", os.listdir, "/dev/fd/")
            return seen
        """,
        denied=("mem", "oom", "fd", "dev fd"),
    ),
    Case(
        name="poison-the-library",
        code="""
        import sysconfig

        def main(p):
            library = os.path.dirname(os.__file__)
            packages = sysconfig.get_path("purelib")
            if p.get("outside"):  # the machine's own library is not for trying
                library = packages = built()
            attempt("new module", write, f"{library}/{p['marker']}.py", "")
            attempt("old module", lambda: os.close(os.open(f"{library}/os.py", os.O_RDWR)))
            attempt("packages", write, f"{packages}/{p['marker']}.pth", "")
            attempt("compiled", lambda: os.utime(f"{library}/os.py"))
            attempt("cache", write, f"{library}/__pycache__/{p['marker']}.pyc", "")
            attempt("rename", os.rename, f"{library}/os.py", f"{library}/{p['marker']}")
            attempt("remove", os.unlink, f"{library}/this.py")
            attempt("mode", os.chmod, f"{library}/json", 0o777)
            attempt("owner", os.chown, f"{library}/json", 0, 0)
            attempt("attribute", os.setxattr, f"{library}/json", "user.abuse", b"1")
            return seen

        def built():
            for folder in ("json", "__pycache__"):
                os.makedirs("library/" + folder)
            for name in ("os.py", "this.py"):
                write("library/" + name)
            return "library"
        """,
        given_outside={"outside": True},
        denied=(
            *("new module", "old module", "packages", "compiled", "cache", "rename", "remove"),
            *("mode", "owner", "attribute"),
        ),
        as_root=True,
    ),
    Case(
        name="write-anywhere",
        code="""
        def main(p):
            for folder in "/ /tmp /dev /dev/shm /etc /usr /var/tmp /run /home".split():
                path = f"{folder}/{p['marker']}"
                if attempt(folder, write, path):
                    os.unlink(path)
            for folder in [] if p.get("outside") else sys.path:
                path = f"{folder}/{p['marker']}"
                if attempt(folder, write, path):
                    os.unlink(path)
            into = [name for name, what in seen.items() if what[0] == "done"]
            return {"into": into, "cwd": os.getcwd()}
        """,
        given_outside={"outside": True},
        inside=only_scratch,
        outside=listed("into", 5),
        as_root=True,
    ),
    Case(
        name="everything-there-is",  # walk over the whole root
        code="""
        import stat

        def main(p):
            found = {"special": [], "privileged": [], "writable": [], "cwd": os.getcwd()}
            found["top"] = os.listdir("/")
            found["dev"] = [n for n in os.listdir("/dev") if not os.path.isdir("/dev/" + n)]
            for top in p.get("tops") or ["/"]:
                for folder, folders, files in os.walk(top):
                    if folder.startswith(("/dev", "/proc", "/sys")):
                        continue
                    probe = f"{folder}/{p['marker']}"
                    try:
                        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY))
                    except OSError:
                        pass
                    else:
                        os.unlink(probe)
                        found["writable"].append(folder)
                    for name in files:
                        try:
                            mode = os.lstat(f"{folder}/{name}").st_mode
                        except OSError:
                            continue
                        if mode & (stat.S_ISUID | stat.S_ISGID):
                            found["privileged"].append(f"{folder}/{name}")
                        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
                            found["special"].append(f"{folder}/{name}")
            return {name: what[:50] for name, what in found.items()}
        """,
        given_outside={"tops": ["/usr/bin"]},
        inside=bare,
        outside=found_much,
        as_root=True,
    ),
    Case(
        name="devices",
        code="""
        def main(p):
            attempt("mem", os.open, "/dev/mem", os.O_RDONLY)
            attempt("kmsg", os.open, "/dev/kmsg", os.O_RDONLY)
            attempt("disk", os.open, p["disk"], os.O_RDONLY)
            for name in OTHERS.split():
                attempt("dev " + name, os.open, "/dev/" + name, os.O_RDONLY)
            return {"open": sorted(n for n, what in seen.items() if what[0] == "done")}

        OTHERS = "kmem port fuse kvm vsock net/tun tty ptmx console loop-control vhost-net pts"
        """,
        given={"disk": "/dev/vda"},
        inside=gave({"open": []}),
        outside=listed("open", 2),
        as_root=True,
    ),
    Case(
        name="make-a-device",
        code="""
        import stat

        def main(p):
            attempt("null", lambda: use(os.mknod("null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))))
            attempt("memory", os.mknod, "memory", 0o666 | stat.S_IFCHR, os.makedev(1, 1))
            attempt("disk", os.mknod, "disk", 0o666 | stat.S_IFBLK, os.makedev(254, 0))
            attempt("raw", raw, 133, b"raw\\0", 0o666 | stat.S_IFCHR, 0x0103)
            return seen

        def use(_):
            os.close(os.open("null", os.O_RDWR))
        """,
        denied=("null", "memory", "disk", "raw"),
        as_root=True,
    ),
    Case(
        name="spoil-the-devices",  # they are the machine's own
        code="""
        def main(p):
            null = "null" if p.get("outside") else "/dev/null"
            if p.get("outside"):
                os.mknod("null", 0o600 | 0o20000, os.makedev(1, 3))
            attempt("mode", os.chmod, null, 0o644)
            attempt("owner", os.chown, null, 12345, 12345)
            attempt("time", os.utime, null, (1, 1))
            attempt("gone", os.unlink, null)
            return seen
        """,
        given_outside={"outside": True},
        denied=("mode", "owner", "time", "gone"),
        as_root=True,
    ),
    Case(
        name="mount-something",
        code="""
        def main(p):
            os.mkdir("here")
            none = b"none\\0"
            attempt("tmpfs", raw, 165, none, b"here\\0", b"tmpfs\\0", 0, 0)
            attempt("bind", raw, 165, b"/\\0", b"here\\0", 0, 0x5000, 0)
            attempt("writable", raw, 165, 0, b"/\\0", 0, 0x1020, 0)
            attempt("proc", raw, 165, none, b"here\\0", b"proc\\0", 0, 0)
            attempt("fsopen", raw, 430, b"tmpfs\\0", 0)
            attempt("open_tree", raw, 428, -100, b"/\\0", 0x8001)
            attempt("setattr", raw, 442, -100, b"/\\0", 0, attributes(), 32)
            attempt("detach", raw, 166, b"here\\0", 2)
            return seen

        def attributes():
            import ctypes
            return ctypes.byref((ctypes.c_uint64 * 4)(0, 0, 0, 0))
        """,
        denied=("tmpfs", "bind", "proc", "fsopen", "open_tree", "setattr", "detach"),
        apart=True,
    ),
    Case(
        name="another-root",
        code="""
        def main(p):
            os.mkdir("inner")
            raw(39)  # all that it takes is loaded before the library is out of sight
            here = attempt("open", os.open, ".", os.O_RDONLY)
            attempt("chroot", os.chroot, "inner")
            attempt("back", lambda: escape(here, p))
            attempt("raw chroot", raw, 161, b".\\0")
            return seen

        def escape(here, p):
            os.fchdir(here)
            for _ in range(64):
                os.chdir("..")
            os.chroot(".")
            return read(p["file"])
        """,
        denied=("chroot", "raw chroot", "back"),
        as_root=True,
    ),
    Case(
        name="links-to-what-is-outside",
        code="""
        def main(p):
            os.symlink(p["file"], "soft")
            attempt("soft", read, "soft")
            os.symlink("../" * 40 + p["file"].lstrip("/"), "up")
            attempt("up", read, "up")
            attempt("hard", lambda: (os.link(p["file"], "hard"), read("hard"))[1])
            attempt("magic", lambda: read("/proc/self/root" + p["file"]))
            return seen
        """,
        denied=("soft", "up", "magic"),
    ),
    Case(
        name="links-for-the-supervisor",  # who would follow them when it collects or cleans up
        code="""
        def main(p):
            for name in ("result", "result.json", "stdout", "stderr", "output", "input", "code.py"):
                attempt(name, os.symlink, p["file"], name)
            attempt("folder", os.symlink, "/", "all")
            return "done"
        """,
        inside=gave("done"),
        outside=answered("done"),
    ),
    Case(
        name="too-many-files",
        code="""
        def main(p):
            made = 0
            try:
                for made in range(p["files"]):
                    os.close(os.open(f"f{made}", os.O_CREAT | os.O_WRONLY))
            except OSError as exc:
                return made
            return made + 1
        """,
        given={"files": 200_000},
        given_outside={"files": 4_000},
        limits=LIMITS,
        ends=("ok", "memory", "timeout"),
        inside=gave_at_most(2_000),
        outside=answered(4_000),
    ),
    Case(
        name="a-folder-in-a-folder",  # whoever removes it by recursion does not
        code="""
        def main(p):
            depth = 0
            try:
                for depth in range(p["depth"]):
                    os.mkdir("d" * 200)
                    os.chdir("d" * 200)
            except OSError:
                pass
            return depth
        """,
        given={"depth": 5_000},
        given_outside={"depth": 500},
        limits=LIMITS,
        outside=answered(499),
    ),
    Case(
        name="names-nobody-can-write",
        code="""
        def main(p):
            os.chdir(p.get("into", "."))
            for name in (b"\\xff\\xfe", b"a\\nb", b"-rf", b" ", b"\\x1b[2J", b"x" * 255):
                os.close(os.open(name, os.O_CREAT | os.O_WRONLY))
            os.mkdir("closed")
            os.chmod("closed", 0)
            return len(os.listdir(b"."))
        """,
        inside=gave(7),
        outside=answered(7),
    ),
    Case(
        name="files-that-are-larger-than-they-are",
        code="""
        def main(p):
            file = os.open("sparse", os.O_CREAT | os.O_RDWR)
            attempt("truncate", os.ftruncate, file, 1 << 40)
            attempt("allocate", os.posix_fallocate, file, 0, 1 << 28)
            attempt("seek", lambda: os.pwrite(file, b"x", 1 << 39))
            attempt("raw fallocate", raw, 285, file, 0, 0, 1 << 28)
            return seen
        """,
        denied=("truncate", "allocate", "seek", "raw fallocate"),
        ends=("ok", "killed"),
        limits=LIMITS,
    ),
    Case(
        name="run-what-one-wrote",
        code="""
        import mmap

        def main(p):
            with open("program", "wb") as file:
                file.write(b"\\xc3" * 4096)
            file = os.open("program", os.O_RDONLY)
            runs = mmap.PROT_READ | mmap.PROT_EXEC
            attempt("map", lambda: mmap.mmap(file, 4096, flags=mmap.MAP_PRIVATE, prot=runs))
            attempt("library", load)
            return seen

        def load():
            import ctypes, _ctypes
            with open(p_library(), "rb") as source, open("lib.so", "wb") as copy:
                copy.write(source.read())
            return bool(ctypes.CDLL(os.path.abspath("lib.so")))

        def p_library():
            import math, _ctypes
            return getattr(math, "__file__", None) or _ctypes.__file__
        """,
        denied=("map", "library"),
    ),
    Case(
        name="files-by-handle",
        code="""
        import ctypes

        def main(p):
            attempt("name", lambda: handle(p["file"]))
            attempt("open", lambda: os.read(by_handle(p), 99).decode())
            return seen

        def by_handle(p):
            return raw(304, opened(p), ctypes.byref(handle(p["file"])), 0)

        def opened(p):
            return os.open(os.path.dirname(p["file"]), os.O_RDONLY)

        def handle(path):
            kept = ctypes.create_string_buffer(136)
            ctypes.cast(kept, ctypes.POINTER(ctypes.c_uint32))[0] = 128
            mount = ctypes.c_int()
            raw(303, -100, path.encode() + b"\\0", ctypes.byref(kept), ctypes.byref(mount), 0)
            return kept
        """,
        denied=("name", "open"),
        as_root=True,
    ),
    Case(
        name="handle-of-what-one-has",  # of the read-only library, which lies on the machine's disk
        code="""
        import ctypes

        def main(p):
            library = os.open(os.__file__, os.O_RDONLY)
            attempt("name", lambda: handle(os.__file__))
            attempt("root", lambda: os.listdir(raw(304, library, ctypes.byref(root()), 0x10000)))
            return seen

        def handle(path):
            kept = ctypes.create_string_buffer(136)
            ctypes.cast(kept, ctypes.POINTER(ctypes.c_uint32))[0] = 128
            mount = ctypes.c_int()
            raw(303, -100, path.encode() + b"\\0", ctypes.byref(kept), ctypes.byref(mount), 0)
            return kept

        def root():
            kept = ctypes.create_string_buffer(136)
            words = ctypes.cast(kept, ctypes.POINTER(ctypes.c_uint32))
            words[0], words[1], words[2], words[3] = 8, 1, 2, 0  # inode 2: an ext root
            return kept
        """,
        denied=("name",),
        inside=refused("root"),
    ),
    Case(
        name="privileges-in-files",
        code="""
        import shutil, stat

        def main(p):
            with open("program", "w") as file:
                file.write("x")
            everything = bytes.fromhex("01000002") + b"\\xff" * 16
            attempt("capability", os.setxattr, "program", "security.capability", everything)
            attempt("owner", os.chown, "program", 12345, 12345)
            attempt("trusted", os.setxattr, "program", "trusted.abuse", b"1")
            return seen
        """,
        denied=("capability", "owner", "trusted"),
        as_root=True,
    ),
    Case(
        name="open-descriptors",
        code="""
        import stat

        def main(p):
            found = {}
            for number in range(1024):
                try:
                    is_ = os.fstat(number)
                except OSError:
                    continue
                kind = {1: "pipe", 4: "folder", 8: "file"}.get(is_.st_mode >> 12)
                if stat.S_ISCHR(is_.st_mode) and os.major(is_.st_rdev) == 1:
                    kind = "null"
                found[number] = [str(kind), is_.st_size]
            return found
        """,
        inside=lonely,
        outside=holds,
    ),
    Case(
        name="environment-and-arguments",
        code="""
        def main(p):
            import ctypes
            environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc(), "environ")
            raw_names, n = [], 0
            while environ and environ[n]:
                raw_names.append(environ[n].decode().partition("=")[0])
                n += 1
            return {
                "environ": sorted(os.environ),
                "raw environ": raw_names,
                "argv": [*sys.argv, *sys.orig_argv],
                "all": dict(os.environ),
                "stack": above(environ),
            }

        def above(environ):
            # Where the kernel put arguments and environment of the program: even what was cleared.
            import ctypes
            top = ctypes.addressof(environ.contents) if environ else 0
            return readable(top).decode("latin-1").replace("\\0", " ")[:65536] if top else ""

        def readable(start):
            import ctypes
            reading, writing = os.pipe()
            found = b""
            for page in range(start & ~4095, (start & ~4095) + (16 << 12), 4096):
                try:
                    raw(1, writing, page, 4096)
                except OSError:
                    break
                found += os.read(reading, 4096)
            return bytes(c for c in found if 32 <= c < 127 or c == 0)
        """,
        inside=scrubbed,
        outside=told_all,
    ),
    Case(
        name="a-scratch-of-ones-own",  # empty when one comes, and nobody else's
        code="""
        def main(p):
            before = os.listdir(".")
            write(p["marker"], "left behind")
            write(".hidden", "left behind")
            return before
        """,
        inside=gave([]),
        outside=answered([]),
    ),
    Case(
        name="a-file-without-a-name",
        code="""
        def main(p):
            attempt("library", os.open, os.path.dirname(os.__file__), os.O_TMPFILE | os.O_RDWR)
            attempt("root", os.open, "/", os.O_TMPFILE | os.O_RDWR)
            return seen
        """,
        denied=("library", "root"),
        as_root=True,
    ),
]
