"""External Secrets bring every key that something reads, before it is read, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import pytest
from tests.deploy.charts import (
    PRESETS,
    Manifest,
    NotRendered,
    containers,
    named,
    of_kind,
    pods,
    rendered,
)
from tests.house import ROOT, text

OUTSIDE: Final = ("externalSecrets.enabled=true", "externalSecrets.store.name=vault")
EXTERNAL: Final = (
    *("global.postgres.mode=external", "global.redis.mode=external"),
    "global.postgres.egressTo[0].ipBlock.cidr=10.20.0.0/24",
    "global.redis.egressTo[0].ipBlock.cidr=10.20.0.0/24",
    "migrations.bootstrap.host=postgres.example.org",
)
HOOK: Final = (*EXTERNAL, "migrations.mode=hook")
#: CloudNativePG makes the password of the superuser itself, and who signs its certificates.
OF_THE_OPERATOR: Final = {"csecbridge-postgres-db-superuser", "csecbridge-postgres-db-ca"}
WAYS: Final = {preset: (preset, ()) for preset in PRESETS} | {
    "external": ("small", EXTERNAL),
    "hook": ("small", HOOK),
    "backups": (
        "small",
        (
            *("backup.enabled=true", "backup.bucket.url=s3://backups/csb"),
            *(
                "backup.bucket.existingSecret=csb-bucket",
                "backup.bucket.egressTo[0].ipBlock.cidr=10.1.0.0/16",
            ),
        ),
    ),
    "authority": ("ha", ("global.trust.existingSecret=authority",)),
    "operators-authority": ("ha", ("global.trust.existingSecret=csecbridge-postgres-db-ca",)),
    "searches": (
        "dev",
        (
            *("observability.enabled=true", "observability.collector.enabled=false"),
            "observability.elasticsearch.url=https://logs.example.org",
            "observability.elasticsearch.to[0].ipBlock.cidr=10.30.0.0/24",
        ),
    ),
    "more": (
        "dev",
        (
            *("smoke.existingSecret=csb-smoke", "smoke.principalName=x"),
            "worker.workers.aws.envFromSecrets[0]=aws-keys",
        ),
    ),
}


def _read_by(pod: Manifest) -> Iterator[tuple[str, str | None]]:
    """Yield each Secret that a pod reads, with the key, or None for all that it has."""
    for container in containers(pod):
        for variable in container.get("env", []):
            of = variable.get("valueFrom", {}).get("secretKeyRef")
            if of:
                yield of["name"], of["key"]
        for source in container.get("envFrom", []):
            if "secretRef" in source:
                yield source["secretRef"]["name"], None
    for volume in pod["spec"].get("volumes", []):
        if "secret" in volume:
            keys = volume["secret"].get("items") or [{"key": None}]
            yield from ((volume["secret"]["secretName"], item["key"]) for item in keys)


def read(manifests: tuple[Manifest, ...]) -> set[tuple[str, str | None]]:
    """All that pods and autoscalers read."""
    found = {it for _, pod in pods(manifests) for it in _read_by(pod)}
    for trigger in of_kind(manifests, "TriggerAuthentication"):
        found |= {(of["name"], of["key"]) for of in trigger["spec"]["secretTargetRef"]}
    return {it for it in found if it[0] not in OF_THE_OPERATOR}


def brought(manifests: tuple[Manifest, ...]) -> dict[str, set[str | None]]:
    """Return each Secret that the operator makes, with its keys; None for all there are."""
    return {
        secret["spec"]["target"]["name"]: {it["secretKey"] for it in secret["spec"].get("data", [])}
        or {None}
        for secret in of_kind(manifests, "ExternalSecret")
    }


@pytest.mark.parametrize("way", WAYS)
def test_every_key_that_is_read_is_brought(way: str) -> None:
    preset, values = WAYS[way]
    account = ('smoke.accountId="111122223333"',)
    manifests = rendered(preset=preset, values=(*OUTSIDE, *values), json_values=account)
    made = brought(manifests)
    wanted = read(manifests)
    assert set(made) == {name for name, _ in wanted}, "no Secret is brought that nobody reads"
    for name, key in wanted:
        assert key is None or key in made[name], f"{name} lacks {key}"
    assert not of_kind(manifests, "Secret")


@pytest.mark.parametrize("preset", PRESETS)
def test_none_is_brought_unless_asked_for(preset: str) -> None:
    assert not of_kind(rendered(preset=preset), "ExternalSecret")


def test_they_are_the_secrets_of_the_page_with_its_keys() -> None:
    table = text(ROOT / "docs/install.md").partition("## Secrets")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(csb-[a-z-]+)` \| (.*?) \|", table, re.MULTILINE)
    shown = {name: set(re.findall(r"`([A-Za-z_.]+)`", keys)) for name, keys in rows}
    roles = set(re.findall(r"`(csb_\w+)`", table))
    made = brought(rendered(preset="dev", values=OUTSIDE))
    without_backups = {"CSB_BACKUP_USER_PASSWORD"}
    assert made == {name: shown[name] - roles - without_backups for name in made}
    assert len(made) >= 8


def test_the_store_is_asked_by_names_that_every_store_takes() -> None:
    values = (*OUTSIDE, "externalSecrets.store.kind=ClusterSecretStore")
    for secret in of_kind(rendered(preset="dev", values=values), "ExternalSecret"):
        spec = secret["spec"]
        assert spec["secretStoreRef"] == {"name": "vault", "kind": "ClusterSecretStore"}
        assert spec["target"]["deletionPolicy"] == "Retain"
        for entry in spec["data"]:
            assert entry["remoteRef"]["key"] == f"csecbridge/{spec['target']['name']}"
            assert re.fullmatch(r"\w+", entry["remoteRef"]["property"])


def test_a_migration_before_the_release_has_its_secrets_before_it() -> None:
    authority = "global.trust.existingSecret=authority"
    manifests = rendered(preset="small", values=(*OUTSIDE, *HOOK, authority))
    weight = "helm.sh/hook-weight"
    hooks = {
        named(m): m["metadata"]["annotations"]
        for m in manifests
        if "pre-install" in m["metadata"].get("annotations", {}).get("helm.sh/hook", "")
    }
    job = dict(pods(manifests))["Job/csecbridge-migrations"]
    needed = {name for name, _ in _read_by(job)}
    assert needed == {"csb-migrator", "csb-roles", "csb-postgres", "authority"}
    first = int(hooks["Job/csecbridge-migrations"][weight])
    for secret in of_kind(manifests, "ExternalSecret"):
        early = secret["metadata"]["name"] in needed
        assert (named(secret) in hooks) is early
        assert not early or int(hooks[named(secret)][weight]) < first
        # A hook is deleted and made anew at each upgrade; what old pods read must not go with it.
        assert secret["spec"]["target"]["creationPolicy"] == ("Orphan" if early else "Owner")


def test_what_makes_logs_searchable_has_its_secret_before_it() -> None:
    preset, values = WAYS["searches"]
    found = {named(m): m["metadata"] for m in rendered(preset=preset, values=(*OUTSIDE, *values))}
    weight = "helm.sh/hook-weight"
    secret = found["ExternalSecret/csb-elasticsearch-setup"]["annotations"]
    assert int(secret[weight]) < int(found["Job/csecbridge-search"]["annotations"][weight])


def test_a_store_without_a_name_is_refused() -> None:
    with pytest.raises(NotRendered, match="which store are the secrets kept in"):
        rendered(preset="dev", values=(OUTSIDE[0],))
