"""What every Dockerfile keeps to, so that it builds anywhere and its image is safe to run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from images.build import IMAGES, Build
from tests.house import ROOT, text

from csb_core.config import ApiSettings, Settings, WorkerSettings
from worker_sandbox.settings import SandboxWorkerSettings

FILES = sorted({*ROOT.glob("*/Dockerfile"), *ROOT.glob("*/*.Dockerfile")})
LISTENERS: dict[str, type[Settings]] = {
    "api-service": ApiSettings,
    "worker-service-aws": WorkerSettings,
    "worker-sandbox": SandboxWorkerSettings,
}


@pytest.fixture(params=FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def file(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def instructions(path: Path) -> Iterator[tuple[str, str]]:
    """Each instruction with its arguments, lines joined and comments left out."""
    lines = [line for line in text(path).splitlines() if not line.startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def of(path: Path, name: str) -> list[str]:
    return [rest for instruction, rest in instructions(path) if instruction == name]


def test_there_is_one_for_every_image() -> None:
    assert {ROOT / file for file in IMAGES.values()} == set(ROOT.glob("*/Dockerfile"))


def test_only_the_base_is_taken_from_elsewhere(file: Path) -> None:
    assert {line.split(" AS ")[0] for line in of(file, "FROM")} == {"${PYTHON_IMAGE}"}
    assert re.fullmatch(
        r"PYTHON_IMAGE=docker\.io/library/python:\d+\.\d+-slim-\w+", of(file, "ARG")[0]
    )
    assert not of(file, "ADD")
    assert "apt-get" not in text(file)


def test_old_builders_can_read_it(file: Path) -> None:
    assert not re.search(r"^#\s*syntax", text(file), re.IGNORECASE | re.MULTILINE)
    assert "<<" not in text(file)
    assert not re.search(r"^COPY .*--(link|exclude|parents|chmod)", text(file), re.MULTILINE)


def test_it_runs_as_a_number_that_is_not_root(file: Path) -> None:
    assert of(file, "USER")[-1] == "10001:10001"
    assert of(file, "STOPSIGNAL") == ["SIGTERM"]
    assert isinstance(json.loads(of(file, "ENTRYPOINT")[-1]), list)
    health = of(file, "HEALTHCHECK")[-1]
    assert health == "NONE" or isinstance(json.loads(health.partition("CMD ")[2]), list)


def test_everything_that_is_installed_is_hashed_or_ours(file: Path) -> None:
    installs = [
        command
        for line in of(file, "RUN")
        for command in line.split("&&")
        if re.search(r"pip\b.* (install|wheel) ", command)
    ]
    assert len(installs) >= 3
    for command in installs:
        hashed = "--require-hashes" in command and "--only-binary :all:" in command
        assert hashed or "--no-index" in command, command


def test_nothing_secret_is_an_argument_or_stays(file: Path) -> None:
    named = [*of(file, "ARG"), *of(file, "ENV")]
    assert not [line for line in named if re.search(r"(?i)password|token|index_url|_key=", line)]
    assert not [line for line in of(file, "COPY") if "secret" in line or line.startswith(". ")]


@pytest.mark.parametrize("image", LISTENERS)
def test_it_listens_where_the_service_does_but_for_everybody(image: str) -> None:
    path, fields = ROOT / IMAGES[image], LISTENERS[image].model_fields
    ports = [str(fields[name].default).rpartition(":")[2] for name in ("bind", "metrics_bind")]
    assert of(path, "EXPOSE") == [" ".join(ports)]
    environment = " ".join(of(path, "ENV"))
    assert f"CSB_BIND=0.0.0.0:{ports[0]} " in f"{environment} "
    assert f"CSB_METRICS_BIND=0.0.0.0:{ports[1]} " in f"{environment} "


def test_jails_are_told_of_the_packages_that_the_image_installs() -> None:
    path = ROOT / IMAGES["worker-sandbox"]
    steps = " ".join(of(path, "RUN"))
    [folder] = re.findall(r"--target (\S+) -r packages\.txt", steps)
    assert f"CSB_SANDBOX_PACKAGES={folder} " in " ".join([*of(path, "ENV"), ""])
    assert re.search(rf"compileall [^&]* {folder}\b", steps)


def test_the_context_is_named_file_by_file() -> None:
    lines = [
        line for line in text(ROOT / ".dockerignore").splitlines() if line[:1] not in {"", "#"}
    ]
    assert lines[0] == "*"
    assert {"**/tests", "**/.*"} <= set(lines)
    let_in = {line[1:] for line in lines if line.startswith("!")}
    copied = {
        source.split("/")[0]
        for path in FILES
        for line in of(path, "COPY")
        if "--from" not in line
        for source in line.split()[:-1]
    }
    assert copied == let_in


def test_a_secret_is_handed_on_and_never_spelled_out() -> None:
    build = Build(engine="docker", tag="x", secrets=("id=pip.conf,src=/etc/pip.conf",))
    command = build.command("api-service")
    assert command[:2] == ["docker", "build"]
    assert command[command.index("--secret") + 1] == "id=pip.conf,src=/etc/pip.conf"
    assert command[command.index("--file") + 1] == "api-service/Dockerfile"
    assert command[-1] == "."
    assert "--build-arg=PYTHON_IMAGE" not in " ".join(command)
