"""compose.yaml names what is there; that it starts is tried where Docker runs, by `ci.yml`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import psycopg
import pytest
import yaml
from images.build import IMAGES, Build, version
from tests.house import ROOT, text

from csb_core.keys import key_id_of
from csb_core.testing import ROLES, Database, database, postgres, template
from worker_service_aws.local_aws.demo_seed import PLATFORM_KEY_ID, PLATFORM_SECRET, demo_seed

__all__ = ["database", "postgres", "template"]

OURS = (
    "api",
    "worker-aws",
    "worker-sandbox",
    "local-aws",
    "bootstrap",
    "migrate",
    "seed",
    "csbctl",
)
THEIRS = ("postgres", "redis")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(text(ROOT / "compose.yaml"))
    return document


def test_it_has_every_service(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {*OURS, *THEIRS}
    for name, service in compose["services"].items():
        assert set(service.get("depends_on", {})) <= set(compose["services"]), name
        assert set(service["networks"]) <= set(compose["networks"]), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).is_file(), name


def test_it_runs_the_images_that_make_images_builds(compose: dict[str, Any]) -> None:
    build = Build(engine="docker", tag=version())
    names = {build.name(image): file for image, file in IMAGES.items()}
    names[build.name("local-aws")] = "worker-service-aws/local-aws.Dockerfile"
    built = {
        service["image"]: service["build"]["dockerfile"]
        for name, service in compose["services"].items()
        if name in OURS
    }
    assert built == names
    assert all((ROOT / file).is_file() for file in built.values())


def test_nothing_of_ours_may_more_than_it_needs(compose: dict[str, Any]) -> None:
    for name in OURS:
        service = compose["services"][name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "user" not in service, name
        assert "privileged" not in service, name
        assert service["tmpfs"][0].startswith("/tmp:size="), name


def test_only_the_api_is_reached_and_only_from_here(compose: dict[str, Any]) -> None:
    published = {n: s["ports"] for n, s in compose["services"].items() if "ports" in s}
    assert published == {"api": ["127.0.0.1:8000:8000"]}
    sandbox = compose["services"]["worker-sandbox"]
    assert sandbox["networks"] == ["stores"]
    assert compose["networks"]["stores"]["internal"] is True
    assert not [name for name in sandbox["environment"] if name.startswith("AWS_")]


def test_every_service_has_the_role_that_is_its_own(compose: dict[str, Any]) -> None:
    role = re.compile(r"postgresql://(\w+):")
    found = {
        name: matched[1]
        for name, service in compose["services"].items()
        for variable, value in service.get("environment", {}).items()
        if variable.endswith("DATABASE_URL") and (matched := role.match(value))
    }
    assert found.pop("bootstrap") == "postgres"
    assert found == {
        "migrate": "csb_migrator",
        "seed": "csb_admin_user",
        "csbctl": "csb_admin_user",
        "api": "csb_api_user",
        "worker-aws": "csb_aws_user",
        "worker-sandbox": "csb_sandbox_user",
    }
    given = compose["services"]["bootstrap"]["environment"]
    # Nobody takes backups of what is for development.
    roles = {one.upper() for one in ROLES if "tiny" not in one and one != "csb_backup_user"}
    assert {f"{one}_PASSWORD" for one in roles} <= set(given)


def test_the_worker_enters_the_local_aws_as_it_may(compose: dict[str, Any]) -> None:
    environment = compose["services"]["worker-aws"]["environment"]
    assert environment["AWS_ACCESS_KEY_ID"] == PLATFORM_KEY_ID
    assert environment["AWS_SECRET_ACCESS_KEY"] == PLATFORM_SECRET


def test_the_seed_gives_a_token_and_an_account_that_the_local_aws_opens(
    database: Database,
) -> None:
    tokens = [_seeded(database), _seeded(database)]
    with psycopg.connect(database.admin) as conn:
        revoked: dict[str, bool] = dict(
            conn.execute(
                "SELECT key_id, revoked_at IS NOT NULL FROM csb_app.csb_api_keys"
            ).fetchall()
        )
        accounts = conn.execute(
            "SELECT account_id, role_arn, external_id FROM csb_app.csb_target_accounts"
        ).fetchall()
    assert [revoked[key_id_of(token) or ""] for token in tokens] == [True, False]
    assert len(accounts) == 1
    account, role, external_id = accounts[0]
    seeded = demo_seed({})["accounts"][account]["roles"]
    executor = next(one for one in seeded if one.get("name") == role.rpartition("/")[2])
    condition = executor["trust"]["Statement"][0]["Condition"]["StringEquals"]
    assert condition == {"sts:ExternalId": external_id}


def _seeded(database: Database) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "images/seed.py")],
        env={**os.environ, "CSB_ADMIN_DATABASE_URL": database.admin},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    url, token = done.stdout.splitlines()
    assert url == "CSB_URL=http://127.0.0.1:8000"
    return token.removeprefix("CSB_TOKEN=")
