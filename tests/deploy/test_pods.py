"""Every pod keeps to Pod Security "restricted", and to what we ask of it beyond.

Kubernetes' own evaluator judges (`tests/deploy/pss`), and so do the controls as they are written
down here: these name the container, and ask more (a user by number).
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any, Final

import pytest
from tests.deploy.charts import PRESETS, Manifest, containers, named, of_kind, pods, rendered

NAMESPACES_TIER: Final = ("worker.workers.sandbox.jails.tier=namespaces",)
VOLUMES: Final = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"),
    *("projected", "secret"),
}


def faults(pod: Manifest) -> Iterator[str]:
    """Each control of "restricted" (and so of "baseline") that this pod breaks."""
    spec = pod["spec"]
    security = spec.get("securityContext", {})
    yield from (f"{name}: true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    for volume in spec.get("volumes", []):
        if not (volume.keys() - {"name"}) <= VOLUMES:
            yield f"volume {volume['name']} is of a kind that is not allowed"
    if security.get("sysctls"):
        yield "sysctls"
    for container in containers(pod):
        yield from (f"{container['name']}: {it}" for it in _of_container(container, security))


Settings = Mapping[str, Any]

CONFINED: Final = {"RuntimeDefault", "Localhost"}

#: What is wrong -> whether it is, by the container's own settings and those with the pod's below.
CONTROLS: Final[Mapping[str, Callable[[Settings, Settings], bool]]] = {
    "is privileged": lambda own, _: bool(own.get("privileged")),
    "may gain privileges": lambda own, _: own.get("allowPrivilegeEscalation") is not False,
    "keeps capabilities": lambda own, _: "ALL" not in own.get("capabilities", {}).get("drop", []),
    "adds capabilities": lambda own, _: bool(
        set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}
    ),
    "unmasks /proc": lambda own, _: own.get("procMount", "Default") != "Default",
    "may run as root": lambda _, both: both.get("runAsNonRoot") is not True,
    "names no user by number, or root": lambda _, both: not both.get("runAsUser"),
    "has no seccomp profile": lambda _, both: (
        _profile(both, "seccompProfile", None) not in CONFINED
    ),
    "has no AppArmor profile": lambda _, both: (
        _profile(both, "appArmorProfile", "RuntimeDefault") not in CONFINED
    ),
}


def _profile(settings: Settings, kind: str, default: str | None) -> str | None:
    found: str | None = settings.get(kind, {}).get("type", default)
    return found


def _of_container(container: Manifest, of_pod: Settings) -> Iterator[str]:
    own = container.get("securityContext", {})
    yield from (fault for fault, has in CONTROLS.items() if has(own, {**of_pod, **own}))
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "takes a port of its node"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if container.get(probe, {}).get("httpGet", {}).get("host"):
            yield f"names a host in its {probe}"


def judged(pod: Manifest) -> str:
    """Why Kubernetes' evaluator forbids this pod at the level "restricted"; empty when allowed."""
    one = {"metadata": {"name": "x", **pod.get("metadata", {})}, "spec": pod["spec"]}
    done = subprocess.run(
        ["pss"], input=json.dumps([one]), capture_output=True, text=True, check=True
    )
    (said,) = json.loads(done.stdout)
    return str(said)


@pytest.mark.parametrize("values", [(), NAMESPACES_TIER], ids=["landlock", "namespaces"])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_pod_is_restricted(preset: str, values: tuple[str, ...]) -> None:
    found = list(pods(rendered(preset=preset, values=values)))
    assert len(found) >= 6
    assert {name: list(faults(pod)) for name, pod in found if list(faults(pod))} == {}
    assert {name: judged(pod) for name, pod in found if judged(pod)} == {}


def _broken(path: str, value: Any) -> Callable[[Manifest], None]:
    def breaks(pod: Manifest) -> None:
        target = pod["spec"]
        *names, last = path.split(".")
        for name in names:
            target = target[int(name)] if name.isdigit() else target.setdefault(name, {})
        target[last] = value

    return breaks


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("hostNetwork", True),
        ("hostPID", True),
        ("containers.0.securityContext.privileged", True),
        ("containers.0.securityContext.capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
        ("containers.0.securityContext.capabilities", {}),
        ("containers.0.securityContext.allowPrivilegeEscalation", True),
        ("initContainers.0.securityContext.allowPrivilegeEscalation", True),
        ("containers.0.securityContext.procMount", "Unmasked"),
        ("securityContext.runAsNonRoot", False),
        ("securityContext.runAsUser", 0),
        ("securityContext.seccompProfile", {"type": "Unconfined"}),
        ("securityContext.appArmorProfile", {"type": "Unconfined"}),
        ("volumes", [{"name": "node", "hostPath": {"path": "/"}}]),
        ("containers.0.ports", [{"containerPort": 1, "hostPort": 1}]),
    ],
)
def test_a_pod_that_breaks_a_control_is_found(path: str, value: object) -> None:
    pod = deepcopy(dict(pods(rendered(preset="dev")))["Deployment/csecbridge-worker-sandbox"])
    assert not list(faults(pod))
    _broken(path, value)(pod)
    assert list(faults(pod))
    assert judged(pod)


@pytest.mark.parametrize("preset", PRESETS)
def test_no_pod_writes_its_root_shows_a_token_or_hears_of_services(preset: str) -> None:
    for name, pod in pods(rendered(preset=preset)):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, f"{name}: a Service would become variables"
        assert spec["serviceAccountName"].startswith("csecbridge-"), name
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
            assert container["resources"]["limits"]["memory"], name
            assert container["resources"]["requests"]["cpu"], name
        for volume in spec.get("volumes", []):
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], f"{name}: {volume['name']} has no bound"


TRUST: Final = ("console.enabled=true", "global.trust.existingSecret=authority")
#: The Secret of the authority -> what is set for it; CloudNativePG's counts when nothing is said.
AUTHORITIES: Final = {"authority": TRUST, "csecbridge-postgres-db-ca": TRUST[:1]}


def _told(container: Manifest) -> dict[str, Any]:
    return {variable["name"]: variable.get("value") for variable in container.get("env", [])}


@pytest.mark.parametrize("secret", AUTHORITIES)
def test_who_reaches_postgresql_verifies_it_by_the_authority(secret: str) -> None:
    reaching = 0
    for name, pod in pods(rendered(preset="ha", values=AUTHORITIES[secret])):
        volumes = {v["name"]: v for v in pod["spec"].get("volumes", [])}
        for container in containers(pod):
            told = _told(container)
            if not any(variable.endswith("DATABASE_URL") for variable in told) | ("PGHOST" in told):
                assert "PGSSLMODE" not in told, f"{name}: {container['name']}"
                continue
            reaching += 1
            assert told["PGSSLMODE"] == "verify-full", f"{name}: {container['name']}"
            folder, _, file = told["PGSSLROOTCERT"].rpartition("/")
            (mount,) = [m for m in container["volumeMounts"] if m["mountPath"] == folder]
            authority = volumes[mount["name"]]["secret"]
            assert authority == {"secretName": secret, "items": [{"key": file, "path": file}]}
    assert reaching == 13


def test_the_small_postgresql_speaks_no_tls_but_redis_may() -> None:
    for _, pod in pods(rendered(preset="dev", values=TRUST)):
        for container in containers(pod):
            assert "PGSSLMODE" not in _told(container)
            if "CSB_REDIS_URL" in _told(container):
                assert "trust" in {mount["name"] for mount in container["volumeMounts"]}


def test_what_operates_is_put_where_its_values_say() -> None:
    values = ("console.enabled=true", "operation.nodeSelector.for=operation")
    placed = {
        name
        for name, pod in pods(rendered(preset="ha", values=values))
        if pod["spec"].get("nodeSelector") == {"for": "operation"}
    }
    jobs = ("CronJob/csecbridge-backup", "CronJob/csecbridge-maintenance")
    assert placed == {
        *(*jobs, "CronJob/csecbridge-restore", "Deployment/csecbridge-csbctl"),
        *("Job/csecbridge-migrations-1", "Job/csecbridge-smoke"),
    }


@pytest.mark.parametrize("way", ["dev", "ha"])
def test_a_new_chart_alone_restarts_nobody(way: str) -> None:
    """A pod is replaced when its template changes, so what stays up names no version of a chart."""
    manifests = rendered(preset=way, values=("console.enabled=true",))
    templates = [
        (named(m), m["spec"]["template"])
        for m in of_kind(manifests, "Deployment", "StatefulSet", "Pooler")
    ]
    assert len(templates) >= 5
    for name, template in templates:
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(
            template["metadata"]["labels"]
        ), name


@pytest.mark.parametrize("preset", PRESETS)
def test_the_word_privileged_stands_nowhere(preset: str) -> None:
    for values in ((), NAMESPACES_TIER):
        said = str(rendered(preset=preset, values=values))
        assert "'privileged'" not in said
        assert "SYS_ADMIN" not in said
        assert "Unconfined" not in said


def test_secrets_are_named_and_never_made() -> None:
    for preset in PRESETS:
        assert not of_kind(rendered(preset=preset), "Secret")


def test_the_tier_namespaces_asks_for_three_settings_and_no_more() -> None:
    of = "Deployment/csecbridge-worker-sandbox"
    plain = dict(pods(rendered(preset="dev")))[of]["spec"]
    values = (*NAMESPACES_TIER, "worker.workers.sandbox.jails.appArmorProfile=csb-sandbox")
    jailed = deepcopy(dict(pods(rendered(preset="dev", values=values)))[of]["spec"])
    assert jailed.pop("hostUsers") is False
    assert jailed["securityContext"].pop("seccompProfile") == {
        "type": "Localhost",
        "localhostProfile": "profiles/csb-sandbox.json",
    }
    assert jailed["securityContext"].pop("appArmorProfile")["type"] == "Localhost"
    jailed["securityContext"]["seccompProfile"] = {"type": "RuntimeDefault"}
    # Its jails mount their own scratch directories.
    plain = deepcopy(plain)
    assert plain["volumes"].pop()["name"] == "jails"
    assert plain["containers"][0]["volumeMounts"].pop()["name"] == "jails"
    assert jailed == plain
