"""Utils of several tenants in real jails: bad ones by the hundred, and a worker that is killed."""

from __future__ import annotations

import math
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import cycle, islice
from statistics import median
from typing import Final
from uuid import UUID

import pytest
from tests.chaos import proof
from tests.chaos.conftest import Make
from tests.chaos.jailed import SLOTS, Author, author, came_of, family, jailed
from tests.chaos.patience import until
from tests.chaos.platform import Platform
from tests.chaos.service import kill

from csb_core.local import processes

pytestmark = pytest.mark.chaos

#: What each of them takes from whoever runs it: processors by one thread and by many, memory, room
#: for output; one dies of a signal, one asks for processes.
BAD: Final[Mapping[str, str]] = {
    "loops": "def transform(data):\n    while True:\n        pass\n",
    "hoards": (
        "def transform(data):\n"
        "    kept = []\n"
        "    while True:\n"
        "        kept.append(b'x' * (1 << 20))\n"
    ),
    "floods": "def transform(data):\n    while True:\n        print('x' * 65536)\n",
    "crashes": "import ctypes\ndef transform(data):\n    return ctypes.string_at(0)\n",
    "burns": (
        "import hashlib, threading\n"
        "def burn():\n"
        "    while True:\n"
        "        hashlib.sha256(bytes(1 << 20)).digest()\n"
        "def transform(data):\n"
        "    for _ in range(4):\n"
        "        threading.Thread(target=burn).start()\n"
        "    burn()\n"
    ),
    "forks": (
        "import os\n"
        "def transform(data):\n"
        "    while True:\n"
        "        try:\n"
        "            os.fork()\n"
        "        except OSError:\n"
        "            pass\n"
    ),
}
ENDS: Final = {"timeout", "memory", "output", "killed"}
GOOD: Final = "def transform(data):\n    return sum(data)\n"
SLOW: Final = "import time\ndef transform(data):\n    time.sleep(data)\n    return data\n"
ECHO: Final = "def transform(data):\n    return data\n"

SAMPLES: Final = 60
FLOOD: Final = 600
PAUSE: Final = 0.02
#: A machine that others use as well has moments in which nothing is quick.
NOISE: Final = 0.3
LONGER: Final = timedelta(seconds=60)


@pytest.fixture(scope="module")
def platform(new_platform: Make) -> Iterator[Platform]:
    """One platform for these tests; what is left of a flood ends with it."""
    with jailed(new_platform) as standing:
        yield standing


def samples(quiet: Author, good: UUID, wanted: int = SAMPLES) -> list[float]:
    """How long a caller waits for the result of a good util, again and again; the longest last."""
    taken = []
    for number in range(wanted):
        answer = quiet.run(good, [number, 1])
        assert answer.status == 200, answer
        assert answer.document["result"]["value"] == number + 1, answer.document
        taken.append(answer.seconds)
        time.sleep(PAUSE)
    return sorted(taken)


def p99(taken: list[float]) -> float:
    return taken[math.ceil(0.99 * len(taken)) - 1]


def key() -> str:
    return f"jails-{secrets.token_hex(8)}"


def test_killed_amid_a_thousand_small_and_some_long_ones(platform: Platform) -> None:
    kill_amid(platform, seconds=6)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_killed_amid_long_ones_of_a_minute(platform: Platform) -> None:
    kill_amid(platform, seconds=60)


def kill_amid(platform: Platform, *, seconds: int) -> None:
    """A thousand small ones of two tenants, and long ones that outlive several leases."""
    tenants = author(platform), author(platform)
    wanted: dict[str, int] = {}
    for tenant in tenants:
        slow, echo = tenant.util(SLOW, timeout_seconds=seconds + 30), tenant.util(ECHO)
        runs = [(key(), slow, seconds) for _ in range(2)]
        runs += [(key(), echo, number) for number in range(500)]
        tenant.order(runs)
        wanted |= {name: given for name, _, given in runs}
    until(lambda: proof.open_requests(platform) < 700, LONGER, "a third of them has ended")
    [consumer] = platform.services["sandbox"].processes()
    jails = family(consumer)
    assert len(jails) > 4, "nothing was under way"

    kill(consumer)

    soon = timedelta(seconds=5)
    until(lambda: not any(map(processes.alive, jails)), soon, "its jails end with it")
    proof.await_ends(platform, timedelta(seconds=seconds) + LONGER)
    trails = proof.trails(platform, wanted)
    assert [fault for trail in trails.values() for fault in trail.faults()] == []
    results = {name: it for tenant in tenants for name, it in came_of(platform, tenant).items()}
    assert {name: result["value"] for name, result in results.items()} == wanted
    lost = Counter(trail.losses for trail in trails.values())
    assert lost.keys() == {0, 1}
    assert 4 <= lost[1] <= SLOTS, "all that was under way was done again, and nothing else"


def test_bad_ones_by_the_hundred_do_not_slow_a_good_one_of_another_tenant(
    platform: Platform,
) -> None:
    """Three times what it takes without them, at its slowest: the promise, beside what is idle."""
    quiet, loud = author(platform), author(platform)
    good = quiet.util(GOOD)
    bad = [loud.util(code, timeout_seconds=3, cpu_limit=2.0) for code in BAD.values()]
    samples(quiet, good, 10)  # what is loaded once is loaded now
    idle = samples(quiet, good)

    for _ in range(2):
        loud.order([(key(), util, None) for util in islice(cycle(bad), FLOOD // 2)])
    until(lambda: len(came_of(platform, loud)) > len(bad), LONGER, "the flood is in full flow")
    beside = samples(quiet, good)

    left = proof.open_requests(platform)
    assert left > FLOOD // 3, "the flood ended too soon to prove anything"
    reasons = Counter(result["exit_reason"] for result in came_of(platform, loud).values())
    assert reasons.keys() == ENDS, reasons
    print(
        f"\nidle p50 {median(idle) * 1e3:.0f} ms, p99 {p99(idle) * 1e3:.0f} ms; beside "
        f"{left} of {FLOOD} bad ones p50 {median(beside) * 1e3:.0f} ms, p99 {p99(beside) * 1e3:.0f}"
        f" ms: {p99(beside) / p99(idle):.1f} times; {dict(reasons)}"
    )
    assert median(beside) < max(3 * median(idle), NOISE / 2), (idle, beside)
    assert p99(beside) < max(3 * p99(idle), NOISE), (idle, beside)
