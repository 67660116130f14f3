"""What is bound to one call's lines stays with that call, under gevent as under threads."""

from __future__ import annotations

import subprocess
import sys

#: In a process of its own, as gevent's hub must not meet the other tests' threads.
TWO_CALLS = """
import gevent
from csb_core import log

def call(name):
    log.start(request_id=name)
    gevent.sleep(0)
    log.bind(correlation_id=f"{name}-c")
    gevent.sleep(0)
    return dict(log.bound_fields())

log.start(request_id="outside")
calls = [gevent.spawn(call, name) for name in ("a", "b", "c")]
gevent.joinall(calls, raise_error=True)
assert [c.value for c in calls] == [
    {"request_id": name, "correlation_id": f"{name}-c"} for name in ("a", "b", "c")
], calls
assert dict(log.bound_fields()) == {"request_id": "outside"}
"""


def test_greenlets_do_not_share_what_is_bound() -> None:
    done = subprocess.run(
        [sys.executable, "-c", TWO_CALLS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
