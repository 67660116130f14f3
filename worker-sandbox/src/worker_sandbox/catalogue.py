"""The catalogue: every action by its name in schema.json."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from csb_core.worker.action import Action
from worker_sandbox.code_cache import CodeCache
from worker_sandbox.keeper import Keeper
from worker_sandbox.run_util import RunUtil
from worker_sandbox.test_util import TestUtil

#: What an attempt may take beside its run: fetching the code, and waiting for a jail.
SLACK: Final = timedelta(seconds=60)


def build_actions(keeper: Keeper, codes: CodeCache) -> Mapping[str, Action]:
    """Every action, ready to be called from any thread."""
    jails = keeper.settings
    return {
        "run_util": RunUtil(
            run=keeper.execute,
            codes=codes,
            meter=keeper.meter,
            longest=jails.max_timeout,
            deadline=jails.max_timeout + SLACK,
        ),
        "test_util": TestUtil(
            run=keeper.execute,
            codes=codes,
            meter=keeper.meter,
            longest=jails.max_timeout,
            deadline=jails.test_time + SLACK,
        ),
    }
