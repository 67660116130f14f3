"""Runs a program as a container runtime would: confine.py PROFILE UID PROGRAM [ARGUMENT]...

The profile is loaded by libseccomp, which is what runc and crun do with it; the user is neither
root nor has a capability, and no program gives him one.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

_ALLOW: Final = 0x7FFF_0000
_ERRNO: Final = 0x0005_0000
_EQUAL: Final = 4
_UNKNOWN: Final = -1
_EXISTS: Final = -17
_ARCHITECTURES: Final = {"SCMP_ARCH_X86_64": 0xC000_003E, "SCMP_ARCH_AARCH64": 0xC000_00B7}


class _Argument(ctypes.Structure):
    _fields_ = (
        ("index", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def load(profile: dict[str, Any]) -> None:
    """Hold this process to it, for good."""
    lib = ctypes.CDLL("libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    made = ctypes.c_void_p(lib.seccomp_init(ctypes.c_uint32(_ERRNO | profile["defaultErrnoRet"])))
    for name in profile["architectures"]:
        assert lib.seccomp_arch_add(made, ctypes.c_uint32(_ARCHITECTURES[name])) in {0, _EXISTS}
    for group in profile["syscalls"]:
        assert group["action"] == "SCMP_ACT_ALLOW"
        for name in group["names"]:
            number = lib.seccomp_syscall_resolve_name(name.encode())
            if number == _UNKNOWN:  # newer than this libseccomp, and then not allowed
                continue
            arguments = group.get("args", [])
            assert all(one["op"] == "SCMP_CMP_EQ" for one in arguments)
            array = (_Argument * max(1, len(arguments)))(
                *(_Argument(one["index"], _EQUAL, one["value"], 0) for one in arguments)
            )
            done = lib.seccomp_rule_add_array(
                made, ctypes.c_uint32(_ALLOW), number, len(arguments), array
            )
            assert done == 0, (name, done)
    assert lib.seccomp_load(made) == 0  # it sets no_new_privs as well


def main(path: str, uid: str, *command: str) -> None:
    """Become the user, load the profile, exec."""
    profile = json.loads(Path(path).read_text())
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(int(uid), int(uid), int(uid))
        os.setresuid(int(uid), int(uid), int(uid))
    load(profile)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
