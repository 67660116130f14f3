"""What the sandbox tries on itself before it takes work: small programs that attack.

Each runs twice, once as an ordinary process and once in a jail, with the same `bait`. It gives back
True when it got what it wanted. What it cannot get as an ordinary process proves nothing.
"""

from __future__ import annotations

from typing import Final

#: Bare system calls, because Python's own functions may refuse for reasons of their own.
_KERNEL: Final = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    numbers = {
        "x86_64": {"clone": 56, "ptrace": 101, "unshare": 272, "mount": 165, "keyctl": 250},
        "aarch64": {"clone": 220, "ptrace": 117, "unshare": 97, "mount": 40, "keyctl": 219},
    }[os.uname().machine]
    longs = [ctypes.c_long(argument) if isinstance(argument, int) else argument
             for argument in arguments]
    return libc.syscall(ctypes.c_long(numbers[name]), *longs)
"""

ATTACKS: Final[dict[str, str]] = {
    "read the host's accounts": """
def main(bait):
    with open("/etc/passwd") as file:
        return "root" in file.read()
""",
    "read a file of the worker's": """
def main(bait):
    with open(bait["file"]) as file:
        return file.read() == "canary"
""",
    "write outside the scratch directory": """
import os
def main(bait):
    with open(os.path.join(bait["directory"], "written"), "w") as file:
        file.write("x")
    return True
""",
    "connect to a local port": """
import socket
def main(bait):
    socket.create_connection(("127.0.0.1", bait["port"]), 2).close()
    return True
""",
    "connect to an abstract unix socket": """
import socket
def main(bait):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\\0" + bait["abstract"])
    return True
""",
    "see other processes": """
import os
def main(bait):
    return str(bait["pid"]) in os.listdir("/proc")
""",
    "signal another process": """
import os
def main(bait):
    os.kill(bait["pid"], 0)
    return True
""",
    "fork": _KERNEL
    + """
def main(bait):
    pid = call("clone", 17, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    return pid > 0
""",
    "execute a program": """
import os
def main(bait):
    try:
        os.execv("/nowhere/to/be/found", ["x"])
    except FileNotFoundError:
        return True
""",
    "make a user namespace and mount in it": _KERNEL
    + """
def main(bait):
    return call("unshare", 0x10020000) == 0 and call("mount", b"x", b"/", b"tmpfs", 0, 0) == 0
""",
    "make a user namespace": _KERNEL
    + """
def main(bait):
    return call("unshare", 0x10000000) == 0
""",
    "be traced": _KERNEL
    + """
def main(bait):
    return call("ptrace", 0, 0, 0, 0) == 0
""",
    "change the user": """
import os
def main(bait):
    os.setresuid(os.getuid(), os.getuid(), os.getuid())
    return True
""",
    "reach the kernel's keyring": _KERNEL
    + """
def main(bait):
    return call("keyctl", 0, -3, 1) > 0
""",
    "execute memory that was written": """
import mmap
def main(bait):
    mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    return True
""",
    "take more memory than the limit": """
def main(bait):
    return len(bytearray(bait["memory"])) == bait["memory"]
""",
    "read the worker's environment": """
import os
def main(bait):
    return any("canary" in value for value in os.environ.values())
""",
    "find a descriptor of the worker's": """
import os
def main(bait):
    for descriptor in range(5, 1024):
        try:
            os.fstat(descriptor)
            return True
        except OSError:
            pass
    return False
""",
}
