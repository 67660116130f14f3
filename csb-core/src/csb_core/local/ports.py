"""Free ports on this machine's loopback."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

HOST = "127.0.0.1"

#: Below the range from which Linux takes ports for outgoing connections, so that a remembered
#: port is still free after a restart.
RANGE = range(20000, 32000)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_port(*, besides: Collection[int] = ()) -> int:
    """A port on which nobody listens, none of `besides`; raises OSError when there is none."""
    for port in random.sample(RANGE, k=200):
        if port not in besides and is_free(port):
            return port
    raise OSError(f"no free port between {RANGE.start} and {RANGE.stop} on {HOST}")
