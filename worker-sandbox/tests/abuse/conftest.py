"""One sandbox for all cases, in a world that is worth breaking out into."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from abuse import snapshot, world
from abuse.arena import Arena
from abuse.neighbour import Neighbour
from abuse.world import World, canary
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.settings import JailSettings

PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(scope="package")
def planted() -> Iterator[tuple[str, ...]]:
    """Secrets that the worker holds when it starts: in its environment, and in its memory."""
    in_environment, in_memory = canary(), canary()
    os.environ["CSB_REDIS_URL"] = f"redis://:{in_environment}@127.0.0.1:1/0"
    held = [bytearray(in_memory.encode()) for _ in range(64)]
    try:
        yield in_environment, in_memory
    finally:
        del os.environ["CSB_REDIS_URL"], held


@pytest.fixture(scope="package")
def here(planted: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    # Whoever loses his parent becomes ours, so that nobody leaves our sight; later tests want init.
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        with world.built(tmp_path_factory.mktemp("world"), (*planted, canary())) as built:
            yield built
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.fixture(scope="package")
def arena(here: World) -> Iterator[Arena]:
    # As an operator may choose: CSB_SANDBOX_TIER tries the other tier.
    sandbox = Sandbox.open(JailSettings().sandbox())
    try:
        neighbour = Neighbour(sandbox=sandbox, secret=here.canaries[-1])
        pace = neighbour.pace()
        while sandbox.ready < sandbox.settings.pool_size:
            time.sleep(0.01)
        arena = Arena(
            sandbox=sandbox,
            world=here,
            neighbour=neighbour,
            before=snapshot.at_rest(marker=here.marker, key=here.key),
            pace=pace,
        )
        yield arena
    finally:
        sandbox.close()
