"""The whole platform on this machine: up, shown, up again, killed, down."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis as redis_client

from csb_core.local import demo, parts, platform, processes, programs, standing
from csb_core.local.client import Client
from csb_core.local.layout import Layout
from csb_core.testing import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEYS = {
    "CSB_URL",
    "CSB_TOKEN",
    "CSB_OTHER_TOKEN",
    "CSB_DATABASE_URL",
    "CSB_ADMIN_DATABASE_URL",
    "CSB_AWS_DATABASE_URL",
    "CSB_SANDBOX_DATABASE_URL",
    "CSB_MIGRATOR_DATABASE_URL",
    "CSB_REDIS_URL",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "CSB_METRICS_URL",
    "CSB_DEMO_ACCOUNT",
    "CSB_DEMO_USER",
}


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    layout = Layout(root=ROOT, run=tmp_path / "a run; of % mine")
    yield layout
    platform.down(layout)


def test_the_platform_from_its_start_to_its_end(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    values = platform.up(layout, {})
    written = parts.read_environment(layout.environment)
    assert written == values
    assert written.keys() == KEYS
    assert layout.environment.stat().st_mode & 0o777 == 0o600
    _require_reachable(written)

    assert demo.run(values, layout.root) == 0
    shown = capsys.readouterr().out
    assert "\033" not in shown
    assert "IN_PROGRESS -> PENDING" in shown
    _require_utils_shown(shown)
    _require_lines_that_work(shown)
    _require_no_secret_in_the_sandbox(layout, values)
    _require_packages(layout, values)

    utils = _utils(values)
    assert demo.run(values, layout.root) == 0
    assert _utils(values) == utils

    before = standing.status(layout)
    assert platform.up(layout, written) == values
    assert standing.status(layout) == before

    _kill_supervisor(layout)
    platform.down(layout)
    assert processes.marked(layout.run) == []
    assert {one.health for one in standing.status(layout)} == {"silent"}


def _utils(values: dict[str, str]) -> list[tuple[str, int]]:
    """What a second demonstration must find as it is: no util twice, no version more."""
    api = Client(url=values["CSB_URL"], headers={"X-Auth-Token": values["CSB_TOKEN"]})
    found = api.get("/api/v1/utils?page_size=100")["items"]
    return sorted((one["util_id"], one["version"]) for one in found)


def _require_utils_shown(shown: str) -> None:
    for wanted in (
        "FUN001",  # the validator's reasons
        "hxxps://login[.]evil[.]example",
        "UTIL_TIMEOUT (util_timeout)",
        "FileNotFoundError: [Errno 2] No such file or directory: '/etc/passwd'",
    ):
        assert wanted in shown, wanted


def _require_lines_that_work(shown: str) -> None:
    lines = re.findall(r"^  (curl .*)$", shown.replace("\\\n", ""), re.MULTILINE)
    assert len(lines) >= 6
    for line in lines:
        done = subprocess.run(
            [*shlex.split(line), "--fail"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (line, done.stderr)
        assert json.loads(done.stdout)


def _require_no_secret_in_the_sandbox(layout: Layout, values: dict[str, str]) -> None:
    """Of all that the platform knows, its worker is told two URLs."""
    told = programs.read(layout.programs)["worker-sandbox"].env
    assert told["CSB_DATABASE_URL"] == values["CSB_SANDBOX_DATABASE_URL"]
    secrets = {
        value
        for name, value in values.items()
        if name.startswith("AWS_S") or name.endswith(("_DATABASE_URL", "TOKEN"))
    } - {values["CSB_SANDBOX_DATABASE_URL"]}
    assert not secrets & set(told.values())
    assert not [name for name in told if name.startswith("AWS_")]


def _require_packages(layout: Layout, values: dict[str, str]) -> None:
    """What utils may declare is there without anybody setting anything."""
    told = programs.read(layout.programs)["worker-sandbox"].env
    assert told["CSB_SANDBOX_PACKAGES"] == str(layout.packages)
    api = Client(url=values["CSB_URL"], headers={"X-Auth-Token": values["CSB_TOKEN"]})
    offered = api.get("/api/v1/utils/runtime")["packages"]
    assert offered.keys() >= {"PyYAML", "defusedxml", "python-dateutil"}


def test_up_after_the_supervisor_was_killed(layout: Layout) -> None:
    first = platform.up(layout, {})
    _kill_supervisor(layout)
    assert platform.up(layout, {}) == first
    assert {one.health for one in standing.status(layout)} == {"ready"}


def _require_reachable(values: dict[str, str]) -> None:
    for name, role in (
        ("CSB_DATABASE_URL", "csb_api_user"),
        ("CSB_ADMIN_DATABASE_URL", "csb_admin_user"),
        ("CSB_AWS_DATABASE_URL", "csb_aws_user"),
        ("CSB_SANDBOX_DATABASE_URL", "csb_sandbox_user"),
        ("CSB_MIGRATOR_DATABASE_URL", "csb_migrator"),
    ):
        with psycopg.connect(values[name]) as conn:
            assert conn.execute("SELECT current_user::text").fetchone() == (role,)
    with redis_client.Redis.from_url(values["CSB_REDIS_URL"]) as client:
        assert client.ping()


def _kill_supervisor(layout: Layout) -> None:
    pid = int((layout.run / "supervisord.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
