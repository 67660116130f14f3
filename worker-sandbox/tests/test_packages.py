"""What utils may declare: as it is locked, in real jails, and as the API judges it."""

from __future__ import annotations

import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import timedelta
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from packaging.utils import canonicalize_name

from api_service.app import create_app, deps_of
from csb_core.config import ApiSettings, load
from csb_core.errors import ConfigurationError
from csb_core.local.layout import Layout
from csb_core.queue import connect
from csb_core.testing import ROOT, Database, make_api_key, make_tenant
from worker_sandbox.jail import root
from worker_sandbox.jail.plan import TierName
from worker_sandbox.job import Job, Limits, Run
from worker_sandbox.keeper import Keeper
from worker_sandbox.meter import Meter
from worker_sandbox.sandbox import Sandbox
from worker_sandbox.sandbox_settings import SandboxSettings
from worker_sandbox.settings import JailSettings

INSTALLED = Layout.of(ROOT, {}).packages
UTILS = "/api/v1/utils"

YAML = "import yaml\n\n\ndef transform(data):\n    return yaml.safe_load(data)\n"
SIX = "import six\n\n\ndef transform(data):\n    return six.ensure_str(data)\n"
XML = """
from defusedxml import EntitiesForbidden
from defusedxml.ElementTree import fromstring

def transform(data):
    try:
        return fromstring(data).text
    except EntitiesForbidden:
        return "refused"
"""
#: Each package at work on what it is there for: code, what it is given, what it must answer.
AT_WORK: dict[str, tuple[str, Any, Any]] = {
    "pyyaml": (YAML, "a: [1, 2]\n", {"a": [1, 2]}),
    "pyyaml, compiled": (
        "import yaml\ndef transform(data):\n    return yaml.load(data, Loader=yaml.CSafeLoader)\n",
        "[x]",
        ["x"],
    ),
    "python-dateutil": (
        "from dateutil.parser import parse\ndef transform(d): return parse(d).isoformat()\n",
        "Fri, 27 Nov 2026 09:00:00 +0100",
        "2026-11-27T09:00:00+01:00",
    ),
    "defusedxml": (
        XML,
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        "refused",
    ),
    "six": (SIX, "plain", "plain"),
}


def locked() -> dict[str, str]:
    lock = (ROOT / "worker-sandbox" / "packages.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))


def installed() -> dict[str, str]:
    return {one.name: one.version for one in distributions(path=[str(INSTALLED)])}


def library_is_open() -> bool:
    """Whether jails that see the host's files may read the standard library."""
    above = Path(root.library()).parents
    return os.geteuid() != 0 or all(folder.stat().st_mode & 0o001 for folder in above)


def run(sandbox: Sandbox, code: str, given: Any = None) -> Run:
    limits = Limits(timeout_seconds=10, memory_limit_mb=64)
    return sandbox.run(Job(kind="transformer", code=code, input=given, limits=limits))


@pytest.fixture
def hidden(tmp_path: Path) -> Path:
    """The packages, below a directory that only its owner may enter."""
    tmp_path.chmod(0o700)
    return Path(shutil.copytree(INSTALLED, tmp_path / "packages"))


@pytest.fixture
def seen(hidden: Path) -> Path:
    """The packages, where everybody may read them."""
    for folder in [*hidden.parents][:-2]:
        folder.chmod(0o755)
    return hidden


@pytest.fixture
def keep() -> Iterator[Callable[..., Keeper]]:
    """A factory of sandboxes that have passed their self-test."""
    made: list[Keeper] = []

    def keeper(told: str | None = None, **settings: Any) -> Keeper:
        made.append(Keeper(settings=JailSettings(pool=1, **settings), meter=Meter(most_series=1)))
        if told:
            made[-1].tell(connect(told, timeout=timedelta(seconds=1)))
        made[-1].probe()
        return made[-1]

    yield keeper
    for one in made:
        one.stop()


@pytest.fixture
def client_of(database: Database, redis_url: str) -> Iterator[Callable[..., FlaskClient]]:
    """A factory of clients of one tenant, each of an API with settings of its own."""
    token = make_api_key(database.admin, make_tenant(database.admin))
    apps = []

    def make(**settings: Any) -> FlaskClient:
        urls = {"database_url": database.api, "redis_url": redis_url}
        apps.append(create_app(load(ApiSettings, **urls, **settings)))
        client = apps[-1].test_client()
        client.environ_base["HTTP_X_AUTH_TOKEN"] = token
        return client

    yield make
    for app in apps:
        deps_of(app).close()


def body(name: str, code: str, *dependencies: str) -> dict[str, Any]:
    return {
        "name": name,
        "description": "Reads a text.",
        "kind": "transformer",
        "code": code,
        "parameters": {"dependencies": list(dependencies)},
    }


def refusals(client: FlaskClient, code: str, *dependencies: str) -> list[str]:
    """The rules by which a util is refused, none when it is stored."""
    answer = client.post(UTILS, json=body("refused", code, *dependencies))
    assert answer.status_code in {201, 422}, answer.text
    errors = answer.get_json().get("errors", [])
    assert bool(errors) == (answer.status_code == 422)
    return [error["rule"] for error in errors if error["severity"] == "error"]


def test_what_is_installed_is_what_is_locked() -> None:
    assert INSTALLED.is_dir(), "make setup installs it"
    assert {canonicalize_name(name): version for name, version in installed().items()} == locked()
    named = (ROOT / "worker-sandbox" / "packages.in").read_text()
    wanted = re.findall(r"^[\w.-]+", named, re.MULTILINE)
    assert wanted
    assert set(wanted) <= locked().keys()


def test_everybody_may_read_it_and_nobody_else_write() -> None:
    """A jail is another user's when the worker is root."""
    for path in (INSTALLED, *INSTALLED.rglob("*")):
        mode = path.lstat().st_mode
        wanted = 0o005 if stat.S_ISDIR(mode) else 0o004
        assert (mode & wanted, mode & 0o022) == (wanted, 0), path


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_each_package_does_its_work_in_a_jail(tier: TierName, seen: Path) -> None:
    with Sandbox.open(SandboxSettings(tier=tier, pool_size=1, packages=seen)) as sandbox:
        for name, (code, given, wanted) in AT_WORK.items():
            if name == "defusedxml" and tier == "landlock" and not library_is_open():
                continue  # it loads the library's parser anew, from files
            done = run(sandbox, code, given)
            assert (done.exit_reason, done.value) == ("ok", wanted), (name, done)


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_no_jail_changes_what_the_next_one_imports(tier: TierName, seen: Path) -> None:
    """Not for its owner or its mode: everybody could write to these."""
    for path in (seen, *seen.rglob("*")):
        path.chmod(path.stat().st_mode | 0o222)
    # The mount alone has to hold where there is one.
    without = ("landlock",) if tier == "namespaces" else ()
    settings = SandboxSettings(tier=tier, pool_size=1, packages=seen)

    def state() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mode, path.stat().st_mtime_ns) for path in seen.rglob("*")}

    before = state()
    attempts = (
        f"open({str(seen / 'yaml/__init__.py')!r}, 'w')",
        f"open({str(seen / 'yaml/__pycache__/x.pyc')!r}, 'wb')",
        f"os.unlink({str(seen / 'six.py')!r})",
        f"os.rename({str(seen / 'six.py')!r}, {str(seen / 'seven.py')!r})",
        f"os.mkdir({str(seen / 'requests')!r})",
        f"os.chmod({str(seen / 'six.py')!r}, 0o777)",
        f"os.symlink('/etc', {str(seen / 'etc')!r})",
    )
    with Sandbox.open(settings, without=without) as sandbox:
        for attempt in attempts:
            code = (
                "import os\ndef transform(data):\n"
                f"    try:\n        {attempt}\n    except OSError:\n        return 'refused'\n"
            )
            said = run(sandbox, code).value
            # The weaker tier says of a mode that it was changed, of whatever file it is.
            assert said == "refused" or (tier == "landlock" and "chmod" in attempt), attempt
    assert state() == before


def test_a_root_of_its_own_shows_what_lies_below_a_closed_directory(hidden: Path) -> None:
    """The mount is made before the worker's root goes."""
    with Sandbox.open(SandboxSettings(tier="namespaces", pool_size=1, packages=hidden)) as sandbox:
        assert run(sandbox, YAML, "1").value == 1


def test_the_weaker_tier_shows_only_what_its_user_may_read(hidden: Path) -> None:
    with Sandbox.open(SandboxSettings(tier="landlock", pool_size=1, packages=hidden)) as sandbox:
        done = run(sandbox, YAML, "1")
    if os.geteuid() == 0:
        assert done.error is not None
        assert done.error["type"] == "ModuleNotFoundError"
    else:
        assert done.value == 1


def test_what_no_jail_sees_is_not_offered_and_the_log_says_so(
    keep: Callable[..., Keeper], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        keeper = keep(packages=tmp_path)
    assert [(r.getMessage(), vars(r)["path"]) for r in caplog.records] == [
        ("sandbox.packages_unseen", str(tmp_path))
    ]
    assert keeper._standing is not None
    assert keeper._standing["packages"] == {}


def test_a_library_that_no_jail_can_read_closes_the_worker_and_says_so(
    keep: Callable[..., Keeper],
) -> None:
    assert keep(tier="namespaces")._standing is not None  # there it is mounted
    if library_is_open():
        assert keep(tier="landlock")._standing is not None
    else:
        with pytest.raises(ConfigurationError, match="give CSB_SANDBOX_PYTHON an interpreter"):
            keep(tier="landlock")


def test_the_api_knows_what_jails_hold_and_who_declares_it(
    client_of: Callable[..., FlaskClient],
    keep: Callable[..., Keeper],
    redis_url: str,
    seen: Path,
) -> None:
    client = client_of()
    assert refusals(client, YAML, "pyyaml") == ["IMP004", "IMP004"]  # no worker has told yet

    keeper = keep(told=redis_url, packages=seen)
    told = client.get(f"{UTILS}/runtime").get_json()["packages"]
    assert told == installed()
    assert told.keys() >= {"PyYAML", "defusedxml", "python-dateutil"}

    assert client.post(UTILS, json=body("reads", YAML, "pyyaml")).status_code == 201
    assert refusals(client, YAML) == ["IMP003"]
    assert refusals(client, YAML.replace("yaml", "tablib"), "tablib") == ["IMP004"]
    loads_anything = YAML.replace("safe_load", "unsafe_load")
    assert refusals(client, loads_anything, "pyyaml") == ["IMP009"]

    # What a package needs itself is a package like the others: there, and only for who declares it.
    assert refusals(client, SIX, "python-dateutil") == ["IMP003"]
    assert refusals(client, SIX, "six") == []

    # The environment is the same in every jail: not declaring is refused, not prevented.
    advised = client_of(util_validation="advisory").post(UTILS, json=body("undeclared", YAML))
    assert advised.status_code == 201
    assert advised.get_json()["validation"]["is_valid"] is False
    limits = Limits(timeout_seconds=10, memory_limit_mb=64)
    work = Job(kind="transformer", code=YAML, input="[1]", limits=limits)
    assert keeper.execute(work).value == [1]
