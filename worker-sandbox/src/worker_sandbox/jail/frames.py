"""What passes between supervisor and jail: one frame each way, a length and that many bytes.

The job is JSON. The result is JSON behind a seal, which came with the job: what the code writes
into our pipe by mistake, or before it had a job, is no frame.
"""

from __future__ import annotations

import os
import re
import struct
from typing import Final

HEADER: Final = struct.Struct(">I")
#: The jail's first byte: it stands, and waits for its job. Or it says why it does not.
READY: Final = b"R"
FAILED: Final = b"F"

MAX_VALUE: Final = 1 << 20
MAX_DEPTH: Final = 100
SEAL: Final = 32
#: The value, or an error with its traceback; and what surrounds it.
MAX_RESULT: Final = MAX_VALUE + (64 << 10)
MAX_JOB: Final = 64 << 20

#: It matches at every quote, so nothing is looked at twice: one that never ends goes to the end.
_STRING: Final = re.compile(rb'"[^"]*"?')
_BRACKET: Final = re.compile(rb"[\[{]|[\]}]")


def read(descriptor: int, limit: int) -> bytes | None:
    """The body of the one frame that comes; None when the other side closed before its end."""
    header = _exactly(descriptor, HEADER.size)
    if header is None:
        return None
    (length,) = HEADER.unpack(header)
    if length > limit:
        return None
    return _exactly(descriptor, length)


def too_deep(body: bytes, most: int = MAX_DEPTH) -> bool:
    """Whether JSON nests deeper than anybody needs; told without parsing it."""
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    unescaped = body.replace(rb"\\", b"").replace(rb"\"", b"")
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", unescaped)):
        depth += 1 if bracket in b"[{" else -1
        if depth > most:
            return True
    return False


def _exactly(descriptor: int, count: int) -> bytes | None:
    parts = []
    while count:
        part = os.read(descriptor, min(count, 1 << 20))
        if not part:
            return None
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
