"""Values that cannot be meant are refused, and each refusal says what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml
from tests.deploy.charts import HELM, PRESETS, SUBCHARTS, NotRendered, pods, rendered
from tests.deploy.installed import program
from tests.house import text

from csb_core.config import ApiSettings, WorkerSettings
from csb_core.worker.main import LAST_SECONDS
from worker_sandbox.settings import JailSettings, SandboxWorkerSettings
from worker_service_aws.clients import DEADLINE


@pytest.mark.parametrize("writer", ["values_schemas.py", "readmes.py"])
def test_what_is_written_from_the_values_is_fresh(writer: str) -> None:
    command = [sys.executable, str(HELM / writer), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("chart", "value"),
    [
        ("csecbridge", "migratoins.mode=job"),
        ("csecbridge", "migrations.mode=init"),
        ("csecbridge", "migrations.existingSecret="),
        ("csecbridge", "maintenance.schedule=daily"),
        ("csecbridge", "smoke.accountId=12345"),
        ("csecbridge", "global.postgres.mode=bitnami"),
        ("csecbridge", "global.postgres.url=postgresql"),
        ("csecbridge", "global.digests.csbctl=latest"),
        ("csecbridge", "api-service.replicas=-1"),
        ("csecbridge", "api-service.replica=2"),
        ("csecbridge", "worker.workers.aws.slots=0"),
        ("csecbridge", "worker.workers.sandbox.jails.tier=privileged"),
        ("csecbridge", "worker.workers.gcp.slots=4"),
        ("csecbridge", "redis.embedded.maxMemory=1g"),
        ("csecbridge", "postgres-db.embedded.user=0"),
        ("api-service", "existingSecret="),
        ("api-service", "env.CSB_DATABASE_URL=postgresql"),
        ("api-service", "env.PYTHONPATH=x"),
        ("api-service", "resources.limits.memory=lots"),
        ("worker", "workers.aws.autoscaling.minReplicas=0"),
        ("worker", "defaults.securityContext.privileged=true"),
        ("redis", "nodeSelectors.a=b"),
    ],
)
def test_the_schema_refuses(chart: str, value: str) -> None:
    with pytest.raises(NotRendered, match="values don't meet the specifications of the schema"):
        rendered(chart, values=(value,))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("api-service.shutdown.gracePeriodSeconds=44",), "preStopSeconds, 35 s of gunicorn"),
        (("worker.workers.aws.graceSeconds=79",), "must exceed longestSeconds (70) by 10"),
        (("worker.workers.aws.gracePeriodSeconds=104",), "must exceed graceSeconds (90) by 15"),
        (("worker.workers.sandbox.longestSeconds=600",), "must exceed longestSeconds (600) by 10"),
        (("worker.workers.sandbox.resources.limits.memory=2Gi",), "what stands ready need"),
        (("redis.embedded.maxMemory=700Mi",), "more than three quarters"),
        (
            ("backup.enabled=true", "postgres-db.embedded.storage.size=1Ti"),
            "restored beside its dump, needs 838860 Mi",
        ),
        (("api-service.replicas=9",), "all pods together may open"),
        (("migrations.mode=hook",), "the database must be external"),
        (("global.postgres.mode=external",), "say where the external PostgreSQL is"),
        (("global.redis.mode=external",), "say where the external Redis is"),
        (("smoke.existingSecret=token",), "which account is the dry run about"),
        (
            ("global.postgres.mode=cnpg", "postgres-db.cnpg.synchronous=3"),
            "no commit ever ends",
        ),
        (
            ("api-service.autoscaling.enabled=true", "api-service.autoscaling.minReplicas=11"),
            "above maxReplicas",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_that_contradict_each_other_are_refused(values: tuple[str, ...], said: str) -> None:
    with pytest.raises(NotRendered) as refused:
        rendered(values=values)
    assert said in str(refused.value)


def test_a_long_release_name_is_refused() -> None:
    with pytest.raises(NotRendered, match="more than 40 characters"):
        rendered(release="a" * 41)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_in_hand_can_end_before_the_kill(preset: str) -> None:
    """The sums, from what is rendered and from what the code does with it."""
    manifests = rendered(preset=preset)
    config = {m["metadata"]["name"]: m["data"] for m in manifests if m["kind"] == "ConfigMap"}
    found = dict(pods(manifests))
    longest_util = config["csecbridge-worker-sandbox"]["CSB_SANDBOX_MAX_TIMEOUT_SECONDS"]
    for name, longest in (("aws", DEADLINE.total_seconds()), ("sandbox", float(longest_util))):
        grace = float(config[f"csecbridge-worker-{name}"]["CSB_GRACE_SECONDS"])
        pod = found[f"Deployment/csecbridge-worker-{name}"]["spec"]
        killed = pod["terminationGracePeriodSeconds"]
        assert longest < grace - LAST_SECONDS
        assert grace + 10 < killed, "gunicorn waits ten seconds longer than the worker"

    api = found["Deployment/csecbridge-api-service"]["spec"]
    pause = api["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    source = text(HELM.parent / "api-service/src/api_service/gunicorn_conf.py")
    assert "graceful_timeout = 35 " in source, "helm/api-service/templates/deployment.yaml has 35"
    assert pause + 35 < api["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_setting_is_one_that_the_code_reads(preset: str) -> None:
    config = {m["metadata"]["name"]: m["data"] for m in rendered(preset=preset) if "data" in m}
    workers = {f"CSB_{name.upper()}" for name in SandboxWorkerSettings.model_fields}
    jails = {f"CSB_SANDBOX_{name.upper()}" for name in JailSettings.model_fields}
    read = {
        "csecbridge-api-service": {f"CSB_{name.upper()}" for name in ApiSettings.model_fields},
        "csecbridge-worker-aws": {
            *(f"CSB_{name.upper()}" for name in WorkerSettings.model_fields),
            "AWS_REGION",
        },
        "csecbridge-worker-sandbox": workers | jails,
    }
    for name, variables in read.items():
        assert set(config[name]) <= variables, name


def test_a_changed_setting_restarts_the_pods() -> None:
    def checksum(*values: str) -> Any:
        pod = dict(pods(rendered(preset="dev", values=values)))["Deployment/csecbridge-worker-aws"]
        return pod["metadata"]["annotations"]["checksum/config"]

    assert checksum() == checksum("worker.workers.sandbox.jails.pool=3")
    assert checksum() != checksum("worker.workers.aws.slots=17")


def test_a_worker_of_another_provider_is_a_few_lines() -> None:
    worker = {
        "service": "worker-service-gcp",
        "image": {"name": "worker-service-gcp"},
        "existingSecret": "csb-worker-gcp",
        "slots": 8,
        "longestSeconds": 30,
        "graceSeconds": 40,
        "gracePeriodSeconds": 60,
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"memory": "256Mi"},
        },
    }
    values = (f"worker.workers.gcp={json.dumps(worker)}",)
    manifests = rendered(preset="dev", json_values=values)
    assert "Deployment/csecbridge-worker-gcp" in dict(pods(manifests))


def test_the_globals_are_documented_as_they_are() -> None:
    source = text(HELM / "library/templates/_globals.tpl")
    defaults = source.partition('{{- define "csb.defaults" -}}')[2].partition("{{- end }}")[0]
    shown = yaml.safe_load(text(HELM / "csecbridge/values.yaml"))["global"]
    assert yaml.safe_load(defaults) == shown


def test_no_chart_asks_for_what_it_has_no_schema_of() -> None:
    for chart in (*SUBCHARTS, "csecbridge"):
        assert (HELM / chart / "values.schema.json").is_file()


def test_a_comment_tells_of_the_value_right_below() -> None:
    values = (
        "# The chart.\n\n# Of a,\n# and b.\na: 1\nb:\n  # Of c.\n  c: 2\n  # Of none.\n\nd: 3\n"
    )
    told = program(HELM / "readmes.py").marked(values)
    assert told == values.replace("# Of a", "# -- Of a").replace("# Of c", "# -- Of c")
