"""What one execution in a jail costs: `python -m bench.sandbox` from the root.

The yardsticks are a bare interpreter and bubblewrap, started cold for the same small job in the
same run; Docker joins where an engine answers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.failure import BenchFailed
from bench.quantile import percentiles
from worker_sandbox.job import Job, Limits
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.sandbox_settings import SandboxSettings

_CODE: Final = "def transform(data):\n    return {'seen': data}\n"
_GIVEN: Final = {"ips": ["192.0.2.1", "198.51.100.7"], "score": 7.5}
_JOB: Final = Job(
    kind="transformer",
    code=_CODE,
    input=_GIVEN,
    limits=Limits(timeout_seconds=10, memory_limit_mb=128),
)
#: The same job for a cold interpreter, with the imports that every jail has already.
_COLD: Final = (
    "import json, sys, re, math, datetime, base64, hashlib, ipaddress, collections, csv\n"
    f"exec({_CODE!r})\n"
    "print(json.dumps(transform(json.load(sys.stdin))))"
)
_PYTHON: Final = str(Path(sys.executable).resolve())
_DOCKER_IMAGE: Final = "python:3.11-slim"
_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything."""

    samples: int
    cold_samples: int
    seconds: float
    threads: int


FULL: Final = Plan(samples=400, cold_samples=60, seconds=10, threads=4)
QUICK: Final = Plan(samples=100, cold_samples=15, seconds=3, threads=4)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure everything in one run, print a table, write JSON where asked to."""
    parser = argparse.ArgumentParser(prog="bench.sandbox", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a look in half a minute")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    chosen = parser.parse_args(argv)
    figures = measure(QUICK if chosen.quick else FULL)
    for name, value in figures.items():
        print(f"{name:34} {value}")
    if chosen.json:
        chosen.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def measure(plan: Plan) -> dict[str, Any]:
    """Every figure by its name. Raises BenchFailed when an answer is wrong."""
    figures: dict[str, Any] = {
        "machine": f"{os.cpu_count()} cores, Linux {platform.release()}",
        "load_before": round(os.getloadavg()[0], 2),
    }
    with Sandbox.open(SandboxSettings()) as sandbox:
        figures["tier"] = f"{sandbox.tier.name}: {', '.join(sandbox.tier.layers)}"
        figures |= _waiting_memory(sandbox)
        figures["hand_over_ms"] = percentiles(_hand_overs(sandbox, plan.samples))
    figures |= _sustained(plan)
    for name, command in _yardsticks().items():
        before = _processor()
        figures[f"{name}_ms"] = percentiles(_timed(command, plan.cold_samples))
        if name == "python_cold":  # what the others start is not theirs to account for
            used = _processor() - before
            figures[f"{name}_cpu_ms"] = round(1000.0 * used / plan.cold_samples, 2)
        figures[f"{name}_per_second"] = _cold_rate(command, plan)
    return figures


def _hand_overs(sandbox: Sandbox, samples: int) -> list[float]:
    """Milliseconds from a job to its run, each with a jail that stood ready."""
    taken = []
    for _ in range(samples):
        _wait_full(sandbox)
        time.sleep(0.005)
        began = time.perf_counter()
        _check(sandbox)
        taken.append(1000.0 * (time.perf_counter() - began))
    return taken


def _sustained(plan: Plan) -> dict[str, Any]:
    """Executions a second, each in a jail of its own, and the processor time of one, all told."""

    def work(sandbox: Sandbox, until: float) -> int:
        done = 0
        while time.perf_counter() < until:
            _check(sandbox)
            done += 1
        return done

    before = _processor()
    with Sandbox.open(SandboxSettings()) as sandbox, ThreadPoolExecutor(plan.threads) as pool:
        _wait_full(sandbox)
        began = time.perf_counter()
        workers = [pool.submit(work, sandbox, began + plan.seconds) for _ in range(plan.threads)]
        done = sum(worker.result() for worker in workers)
        passed = time.perf_counter() - began
    return {
        "executions_per_second": round(done / passed, 1),
        "cpu_ms_per_execution": round(1000.0 * (_processor() - before) / done, 2),
    }


def _waiting_memory(sandbox: Sandbox) -> dict[str, Any]:
    """What a jail that waits takes of the machine's memory; only root may look."""
    _wait_full(sandbox)
    shares, owns = [], []
    for pid in sandbox.waiting():
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        sizes = {
            line.split(":")[0]: int(line.split()[1]) for line in text.splitlines() if "kB" in line
        }
        shares.append(sizes["Pss"] / 1024)
        owns.append((sizes["Private_Dirty"] + sizes["Private_Clean"]) / 1024)
    if not shares:
        return {}
    return {
        "waiting_jail_pss_mib": round(sum(shares) / len(shares), 2),
        "waiting_jail_private_mib": round(sum(owns) / len(owns), 2),
    }


def _yardsticks() -> dict[str, list[str]]:
    """Cold starts of the same job."""
    found = {"python_cold": [_PYTHON, "-I", "-c", _COLD]}
    bubblewrap = shutil.which("bwrap")
    if bubblewrap:
        found["bwrap_cold"] = [bubblewrap, *_bubblewrap_arguments(), _PYTHON, "-I", "-c", _COLD]
    docker = shutil.which("docker")
    if (
        docker
        and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0
    ):
        found["docker_cold"] = [
            *(docker, "run", "--rm", "-i", "--network", "none", "--read-only"),
            *(_DOCKER_IMAGE, "python3", "-I", "-c", _COLD),
        ]
    return found


def _bubblewrap_arguments() -> list[str]:
    """As close to our jail as its options come, without a seccomp filter."""
    prefix = str(Path(_PYTHON).parent.parent)
    binds = [prefix, *(path for path in ("/lib", "/lib64", "/usr/lib") if Path(path).exists())]
    return [
        *("--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--dev", "/dev"),
        *(word for path in binds for word in ("--ro-bind", path, path)),
        *("--tmpfs", "/scratch", "--chdir", "/scratch", "--cap-drop", "ALL"),
    ]


def _timed(command: list[str], samples: int) -> list[float]:
    taken = []
    for _ in range(samples):
        began = time.perf_counter()
        _cold(command)
        taken.append(1000.0 * (time.perf_counter() - began))
    return taken


def _cold_rate(command: list[str], plan: Plan) -> float:
    count = plan.cold_samples
    began = time.perf_counter()
    with ThreadPoolExecutor(plan.threads) as pool:
        list(pool.map(_cold, [command] * count))
    return round(count / (time.perf_counter() - began), 1)


def _cold(command: list[str]) -> None:
    ran = subprocess.run(
        command, input=json.dumps(_GIVEN).encode(), capture_output=True, check=False, timeout=60
    )
    if ran.returncode != 0 or json.loads(ran.stdout) != {"seen": _GIVEN}:
        raise BenchFailed(f"{command[0]} answered {ran.stdout!r} {ran.stderr[-500:]!r}")


def _check(sandbox: Sandbox) -> None:
    ran = sandbox.run(_JOB)
    if ran.value != {"seen": _GIVEN}:
        raise BenchFailed(f"the sandbox answered {ran}")


def _wait_full(sandbox: Sandbox) -> None:
    until = time.monotonic() + _PATIENCE
    _wait(lambda: sandbox.ready >= sandbox.settings.pool_size, until)


def _wait(true: Callable[[], bool], until: float) -> None:
    while not true():
        if time.monotonic() > until:
            raise BenchFailed("the pool does not fill")
        time.sleep(0.001)


def _processor() -> float:
    """Our own, and that of every process below us that has ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


if __name__ == "__main__":
    sys.exit(main())
