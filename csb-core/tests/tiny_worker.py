"""The worker of the provider `tiny` as gunicorn serves it: `tiny_worker:app`.

Its actions do as their parameters say and leave a line in the file `effects`.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Final

from tiny import PROVIDER, Act

from csb_core.models import Lease, Outcome, Succeeded
from csb_core.worker import main as worker
from csb_core.worker.action import Attempt

FOLDER: Final = Path(os.environ["TINY_FOLDER"])
EFFECTS: Final = os.open(FOLDER / "effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def act(lease: Lease, attempt: Attempt) -> Outcome:
    """Take a moment, wait for the gate if there is one, and leave the effect."""
    time.sleep(lease.parameters.get("seconds", 0))
    gate = lease.parameters.get("gate")
    while gate is not None and not (FOLDER / gate).exists():
        time.sleep(0.02)
    attempt.require_lease()
    os.write(EFFECTS, f"{lease.correlation_id} {os.getpid()}\n".encode())
    return Succeeded(result={"pid": os.getpid()}, changed=True)


def die(lease: Lease, attempt: Attempt) -> Outcome:
    """Take the whole process along."""
    del lease, attempt
    os._exit(9)


app = worker.create(
    PROVIDER,
    {
        "noop": Act(do=act),
        "short": Act(do=act, deadline=timedelta(seconds=1)),
        "poison": Act(do=die),
    },
)
