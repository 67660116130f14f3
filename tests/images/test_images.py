"""Each image as it is built: what is in it, what it may do, and that it runs.

By hand, as root: `make test-images`. Docker's engine, the official base and arm64 are for the
workflows.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import distributions
from pathlib import Path

import psycopg
import pytest
import requests
from images.build import IMAGES
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.images.container import Container, Service

from csb_core.local.ports import free_port
from csb_core.local.postgres import PostgresServer
from csb_core.testing import PASSWORD, Database, database_urls, make_api_key, make_tenant

pytestmark = [pytest.mark.images, pytest.mark.timeout(1200)]

Built = Callable[[str], Container]

SERVICES = ("api-service", "worker-service-aws", "worker-sandbox")

#: The most that an image may add to its base, in MB; raise it only with a reason.
BUDGETS: Mapping[str, int] = {
    "api-service": 100,
    "worker-service-aws": 125,
    "worker-sandbox": 75,
    "csbctl": 125,
}


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def database(built: Built, postgres: PostgresServer) -> Database:
    """A database that the csbctl image has made ready, as the chart has it do."""
    name = "csb_images"
    with psycopg.connect(postgres.url, autocommit=True) as conn:
        conn.execute("CREATE DATABASE csb_images")
    urls = database_urls(postgres.url, name)
    container = built("csbctl")
    roles = ("MIGRATOR", "API_USER", "ADMIN_USER", "AWS_USER", "SANDBOX_USER")
    passwords = {f"CSB_{role}_PASSWORD": PASSWORD for role in roles}
    container.run(
        *container.command("bootstrap"),
        env={**passwords, "CSB_MIGRATOR_DATABASE_URL": urls.superuser},
    )
    migrator = {"CSB_MIGRATOR_DATABASE_URL": urls.migrator}
    applied = container.run(*container.command("up"), env=migrator).stdout
    assert "applied 0001_control_plane.sql" in applied
    assert "missing" not in container.run(*container.command(), env=migrator).stdout
    return urls


def test_it_says_how_it_is_run(built: Built, image: str) -> None:
    config = built(image).config
    assert config["User"] == "10001:10001"
    assert config["StopSignal"] == "SIGTERM"
    assert config["Entrypoint"][0].startswith("/opt/csb/bin/")
    assert not {line.split("=")[0] for line in config["Env"]} & {"PIP_CONFIG_FILE", "PIP_INDEX_URL"}
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"csecbridge/{image}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(r"\d+\.\d+\.\d+", labels["org.opencontainers.image.version"])
    assert re.fullmatch(r"[0-9a-f]{40}|unknown", labels["org.opencontainers.image.revision"])
    health = config["Healthcheck"]["Test"]
    assert health == ["NONE"] if image == "csbctl" else health[0] == "CMD"


def test_it_holds_nothing_that_it_should_not(built: Built, image: str) -> None:
    root = built(image).root
    wrong = []
    for path in _walk(root):
        mode = path.lstat().st_mode
        name = str(path.relative_to(root))
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            wrong.append(f"set-id {name}")
        if path.name in {".git", "pip.conf", "ca.pem", "ensurepip"} or name.startswith("build/"):
            wrong.append(name)
        if name.startswith("opt/csb/"):
            if mode & stat.S_IWOTH and not stat.S_ISLNK(mode):
                wrong.append(f"writable {name}")
            if path.lstat().st_uid != 0:
                wrong.append(f"not root's {name}")
            if re.search(r"/(csb_core|api_service|worker_\w+)/(.*/)?(tests|examples)(/|$)", name):
                wrong.append(name)
    assert not wrong


def test_it_keeps_to_its_budget(built: Built, image: str) -> None:
    size = sum(path.lstat().st_size for path in _walk(built(image).root / "opt/csb"))
    assert 10 < size / 1e6 < BUDGETS[image]


def test_it_installs_nothing(built: Built, image: str) -> None:
    container = built(image)
    for python in ("/opt/csb/bin/python", "/usr/bin/python3"):
        for module in ("pip", "setuptools", "ensurepip"):
            done = container.run(python, "-c", f"import {module}", check=False)
            assert "ModuleNotFoundError" in done.stderr, f"{python} imports {module}"


def test_what_is_installed_fits_together(built: Built, image: str) -> None:
    container = built(image)
    asked = "import platform; print(platform.python_version())"
    python = container.run("/opt/csb/bin/python", "-c", asked).stdout.strip()
    site = container.root / f"opt/csb/lib/python{python.rpartition('.')[0]}/site-packages"
    installed = {canonicalize_name(d.name): d for d in distributions(path=[str(site)])}
    needed = [
        (name, requirement)
        for name, one in installed.items()
        for requirement in map(Requirement, one.requires or ())
        if requirement.marker is None
        or requirement.marker.evaluate({"extra": "", "python_full_version": python})
    ]
    assert len(needed) > len(installed) > 10
    unmet = [
        f"{name} needs {requirement}"
        for name, requirement in needed
        if (there := installed.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(there.version, prereleases=True)
    ]
    assert not unmet


def test_everything_is_compiled_once(built: Built, image: str) -> None:
    """A read-only root keeps no bytecode: a module without any is compiled at each start."""
    root = built(image).root
    ours = [
        path for path in _walk(root / "opt/csb/lib") if re.search(r"/csb_core/\w+\.py$", str(path))
    ]
    library = next(
        path
        for path in (root / "usr/lib/python3.11", root / "usr/local/lib/python3.11")
        if path.is_dir()
    )
    modules = [*ours, library / "json/decoder.py"]
    assert len(ours) > 20
    lacking = [
        p for p in modules if not (p.parent / "__pycache__" / f"{p.stem}.cpython-311.pyc").exists()
    ]
    assert not lacking


def test_it_runs_as_nobody_in_particular_and_writes_nowhere(built: Built, image: str) -> None:
    script = """
import os, pathlib
status = dict(l.split(":\\t") for l in open("/proc/self/status").read().splitlines() if ":\\t" in l)
print(os.getuid(), os.getgid(), os.getgroups(), os.getpid(), status["CapBnd"], status["NoNewPrivs"])
for path in ("/opt/csb/x", "/etc/x", "/x", "/usr/bin/x", "/home/x", "/var/tmp/x", "/run/x"):
    try:
        pathlib.Path(path).write_text("x")
    except OSError as exc:
        print(path, exc.strerror)
pathlib.Path("/tmp/x").write_text("x")
pathlib.Path("/dev/shm/x").write_text("x")
"""
    who, *refused = built(image).run("/opt/csb/bin/python", "-c", script).stdout.splitlines()
    assert who == "10001 10001 [] 1 0000000000000000 1"
    assert len(refused) == 7
    assert all(line.endswith("Read-only file system") for line in refused), refused


@pytest.mark.parametrize("image", SERVICES)
def test_gunicorn_takes_its_configuration(built: Built, image: str, database: Database) -> None:
    container = built(image)
    settings = {"CSB_DATABASE_URL": database.api, "CSB_REDIS_URL": "redis://127.0.0.1:1"}
    program, *rest = container.command()
    container.run(program, "--check-config", *rest, env=settings)
    refused = container.run(program, "--check-config", *rest, check=False)
    assert refused.returncode != 0
    assert "CSB_DATABASE_URL" in refused.stdout + refused.stderr


@pytest.mark.parametrize("image", SERVICES)
def test_it_starts_serves_and_ends(
    built: Built, image: str, database: Database, redis_url: str, tmp_path: Path
) -> None:
    container, log = built(image), tmp_path / "log"
    port, metrics = free_port(), free_port()
    url = {"api-service": database.api, "worker-service-aws": database.aws}.get(image)
    settings = {
        "CSB_DATABASE_URL": url or database.sandbox,
        "CSB_REDIS_URL": redis_url,
        "CSB_BIND": f"127.0.0.1:{port}",
        "CSB_METRICS_BIND": f"127.0.0.1:{metrics}",
        "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_REGION": "eu-central-1",
    }
    with container.started(log, settings) as service:
        service.await_(lambda: _ok(f"http://127.0.0.1:{port}/ready"))
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code == 200
        assert "csb_" in requests.get(f"http://127.0.0.1:{metrics}/metrics", timeout=5).text
        _asks_for_its_health(container, settings, port)
        assert service.stop(seconds=60) == 0, log.read_text()[-4000:]
    _wrote_only_its_log(service)


def test_a_util_runs_from_its_post_to_its_result(
    built: Built, database: Database, redis_url: str, tmp_path: Path
) -> None:
    """Two images hand a request to each other, through the stores and nothing else."""
    token = make_api_key(database.admin, make_tenant(database.admin, "utils-imaged"))
    port, worker_port = free_port(), free_port()
    api = {
        "CSB_DATABASE_URL": database.api,
        "CSB_REDIS_URL": redis_url,
        "CSB_BIND": f"127.0.0.1:{port}",
        "CSB_METRICS_BIND": f"127.0.0.1:{free_port()}",
    }
    worker = {
        "CSB_DATABASE_URL": database.sandbox,
        "CSB_REDIS_URL": redis_url,
        "CSB_BIND": f"127.0.0.1:{worker_port}",
        "CSB_METRICS_BIND": f"127.0.0.1:{free_port()}",
    }
    code = "def transform(data):\n    return {'sum': sum(data)}\n"
    body = {"name": "sum", "description": "adds", "kind": "transformer", "code": code}
    with (
        built("api-service").started(tmp_path / "api", api) as serving,
        built("worker-sandbox").started(tmp_path / "worker", worker) as working,
        requests.Session() as session,
    ):
        serving.await_(lambda: _ok(f"http://127.0.0.1:{port}/ready"))
        working.await_(lambda: _ok(f"http://127.0.0.1:{worker_port}/ready"))
        session.headers["X-Auth-Token"] = token
        utils = f"http://127.0.0.1:{port}/api/v1/utils"
        made = session.post(utils, json=body, timeout=30)
        assert made.status_code == 201, made.text
        execute = f"{utils}/{made.json()['util_id']}/execute?wait=20"
        ran = session.post(execute, json={"input": [1, 2, 3]}, timeout=30).json()
        assert ran["status"] == "SUCCESS", ran
        assert ran["result"]["value"] == {"sum": 6}
        assert [working.stop(60), serving.stop(60)] == [0, 0]


def _asks_for_its_health(container: Container, settings: Mapping[str, str], port: int) -> None:
    """Docker's health check says yes of a service that lives, and no where nothing listens."""
    test = container.config["Healthcheck"]["Test"][1:]
    assert container.run(*test, env=settings).returncode == 0
    elsewhere = {**settings, "CSB_BIND": f"127.0.0.1:{free_port()}"}
    assert container.run(*test, env=elsewhere, check=False).returncode == 1
    assert _ok(f"http://127.0.0.1:{port}/health")


def _wrote_only_its_log(service: Service) -> None:
    lines = service.log.read_text().splitlines()
    assert lines
    assert all(line.startswith("{") for line in lines), lines
    assert not any('"level": "ERROR"' in line or '"level":"ERROR"' in line for line in lines)


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_jails_hold_in_this_image(built: Built, tier: str) -> None:
    """The sandbox's own attacks on itself, as nobody in particular and on a read-only root."""
    container = built("worker-sandbox")
    doctor = ("/opt/csb/bin/csbctl", "--json", "doctor", "--provider", "sandbox")
    env = {"CSB_SANDBOX_TIER": tier, "CSB_SANDBOX_FLOOR": tier}
    first, *attacks = json.loads(container.run(*doctor, env=env).stdout)
    assert first["check"] == "tier"
    assert first["detail"].startswith(f"{tier}: ")
    assert len(attacks) > 10
    assert {attack["verdict"] for attack in attacks} == {"ok"}


def test_csbctl_reaches_the_platform(built: Built, database: Database, redis_url: str) -> None:
    env = {"CSB_ADMIN_DATABASE_URL": database.admin, "CSB_REDIS_URL": redis_url, "CSB_ACTOR": "t"}
    csbctl = "/opt/csb/bin/csbctl"
    container = built("csbctl")
    container.run(csbctl, "tenant", "create", "imaged", "--name", "Imaged", env=env)
    assert "imaged" in container.run(csbctl, "tenant", "list", env=env).stdout
    principal = "arn:aws:iam::999988887777:user/csb-platform"
    registered = container.run(
        *(csbctl, "account", "register", "imaged", "111122223333", "--principal", principal),
        env=env,
    )
    assert "sts:ExternalId" in registered.stdout


def _ok(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).status_code == 200
    except (requests.ConnectionError, requests.Timeout):
        return False


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        yield from (Path(folder, name) for name in [*folders, *names])
