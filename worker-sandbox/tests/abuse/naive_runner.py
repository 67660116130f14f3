"""Runs a util as somebody would who trusts it: in a process that has a secret, and by a frame.

The positive controls run under it: `naive_runner.py FD < job`; it answers on that descriptor.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

SETTINGS = {"redis": os.environ.get("CSB_REDIS_URL")}


def main() -> None:
    answers = int(sys.argv[1])
    job = json.load(sys.stdin)
    space: dict[str, Any] = {"__name__": "util"}
    exec(compile(job["code"], "util.py", "exec"), space)
    value = space["main"](job["input"])
    os.write(answers, json.dumps(value).encode() + b"\n")


if __name__ == "__main__":
    main()
