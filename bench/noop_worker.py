"""What gunicorn serves as the bench's worker: the real one, with an action that does nothing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import timedelta

from csb_core.models import Lease, Outcome, Succeeded
from csb_core.worker import main as worker
from csb_core.worker.action import Attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class Noop:
    """Succeeds at once; the first attempt at a request may be told to hold it for a while."""

    hold: float
    deadline: timedelta = timedelta(minutes=5)

    def __call__(self, lease: Lease, attempt: Attempt) -> Outcome:
        """Do nothing."""
        del attempt
        if self.hold and lease.attempt == 1:
            time.sleep(self.hold)
        return Succeeded(result={"attached": True}, changed=False)


app = worker.create("aws", {"attach_policy": Noop(hold=float(os.environ["BENCH_HOLD_SECONDS"]))})
