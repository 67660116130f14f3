"""Numbers of several processes add up, gauges of ended ones are forgotten, a scrape never fails."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from csb_core import metrics, metrics_dir
from csb_core.errors import QueueUnavailable
from csb_core.metrics import QueueReading

#: Metrics whose names dashboards knew before us.
KNOWN_ELSEWHERE = {
    "utils_created",
    "utils_executed",
    "execution_duration_seconds",
    "active_containers",
}

#: What a worker process does; it says its pid and ends when its input does.
WORKER = """
import os, sys
from csb_core import metrics
metrics.ACCEPTED.labels("aws", "attach_policy").inc(2)
metrics.SLOTS_BUSY.labels("aws").set(3)
metrics.SUBMIT_SECONDS.observe(0.003)
print(os.getpid(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    yield metrics_dir.prepare("api-service")
    metrics_dir.remove()


def _value(text: str, sample: str) -> float | None:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None


def test_the_numbers_of_all_processes_add_up(directory: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for worker in workers:
        assert worker.stdout
        worker.stdout.readline()
    text = metrics.render().decode()
    accepted = 'csb_requests_accepted_total{action="attach_policy",provider="aws"}'
    assert _value(text, accepted) == 4
    assert _value(text, 'csb_slots_busy{provider="aws"}') == 6
    assert _value(text, "csb_submit_seconds_count") == 2

    gone = workers[0]
    gone.communicate()
    metrics_dir.child_exit(gone.pid)
    text = metrics.render().decode()
    assert _value(text, accepted) == 4
    assert _value(text, 'csb_slots_busy{provider="aws"}') == 3

    workers[1].communicate()
    metrics_dir.remove()
    assert not directory.exists()


def test_each_service_has_a_place_of_its_own_and_old_ones_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = tmp_path / f"csb-metrics-api-service-{ended.pid}"
    other = tmp_path / "csb-metrics-worker-1"
    for directory in (left, other):
        directory.mkdir()
        os.utime(directory, (0, 0))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    directory = metrics_dir.prepare("api-service")
    assert os.environ["PROMETHEUS_MULTIPROC_DIR"] == str(directory)
    assert directory.parent == tmp_path
    assert directory.stat().st_mode & 0o077 == 0
    assert not left.exists()
    assert other.exists()


def test_a_process_that_outlives_its_master_keeps_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    left = tmp_path / f"csb-metrics-api-service-{ended.pid}"
    left.mkdir()
    metrics_dir.prepare("api-service")
    assert left.exists(), "its processes may not have written anything yet"

    (left / f"counter_{os.getpid()}.db").touch()
    os.utime(left, (0, 0))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    metrics_dir.prepare("api-service")
    assert left.exists(), "a living process writes there"

    (left / f"counter_{os.getpid()}.db").rename(left / f"counter_{ended.pid}.db")
    os.utime(left, (0, 0))
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    metrics_dir.prepare("api-service")
    assert not left.exists()


def test_the_master_does_not_load_the_client_before_the_directory_is_named() -> None:
    code = "import sys, csb_core.metrics_dir; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"


def test_queues_are_read_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    reading = QueueReading(provider="aws", depth=7, oldest_seconds=1.5, tenants=3)
    text = metrics.render(lambda: [reading]).decode()
    assert _value(text, 'csb_queue_depth{provider="aws"}') == 7
    assert _value(text, 'csb_queue_oldest_seconds{provider="aws"}') == 1.5
    assert _value(text, 'csb_tenants_waiting{provider="aws"}') == 3
    assert _value(text, "csb_queue_up") == 1


def test_a_queue_that_is_down_is_said_and_spoils_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)

    def down() -> list[QueueReading]:
        raise QueueUnavailable("no answer")

    text = metrics.render(down).decode()
    assert _value(text, "csb_queue_up") == 0
    assert "csb_submit_seconds" in text


def test_a_pools_state_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    metrics.observe_pool("main", {"pool_size": 5, "pool_available": 2, "requests_waiting": 1})
    text = metrics.render().decode()
    assert _value(text, 'csb_pool_connections{pool="main",state="used"}') == 3
    assert _value(text, 'csb_pool_connections{pool="main",state="idle"}') == 2
    assert _value(text, 'csb_pool_waiting{pool="main"}') == 1


def test_every_metric_is_ours_and_says_what_it_counts() -> None:
    families = [family for metric in metrics.declared() for family in metric.describe()]
    assert len(families) > 30
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    assert {name for name in names if not name.startswith("csb_")} == KNOWN_ELSEWHERE
    assert all(family.documentation for family in families)
