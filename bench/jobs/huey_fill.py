"""Enqueues N jobs on Huey and tells when it began and ended."""

from __future__ import annotations

import json
import sys
import time

from bench.jobs.huey_jobs import perform


def main() -> None:
    """Enqueue so many jobs; the job comes by standard input."""
    job = sys.stdin.read()
    began = time.time()
    for _ in range(int(sys.argv[1])):
        perform(job)
    json.dump([began, time.time()], sys.stdout)


if __name__ == "__main__":
    main()
