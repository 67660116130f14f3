"""PostgreSQL by CloudNativePG: the sums that must hold, and a PgBouncer as the chart sets it."""

from __future__ import annotations

import re
from typing import Final

import pytest
from tests.deploy.charts import Manifest, NotRendered, of_kind, rendered
from tests.house import ROOT, text

ARCHIVED: Final = (
    "postgres-db.cnpg.backup.enabled=true",
    "postgres-db.cnpg.backup.destinationPath=s3://archive/csb",
)
RECOVERED: Final = (
    *ARCHIVED,
    "postgres-db.cnpg.recovery.enabled=true",
    "postgres-db.cnpg.recovery.serverName=csecbridge-postgres-db",
    "postgres-db.cnpg.backup.serverName=csecbridge-postgres-db-2",
    "postgres-db.cnpg.recovery.targetTime=2026-11-27T01:00:00Z",
)


def cluster(*values: str) -> Manifest:
    (found,) = of_kind(rendered(preset="ha", values=values), "Cluster")
    return dict(found)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("global.postgres.maxConnections=400",), "with the 20 that go past it that is 470"),
        (("postgres-db.cnpg.pooler.instances=4",), "with the 20 that go past it that is 620"),
        (("postgres-db.cnpg.pooler.clientConnections=100",), "one instance alone must do"),
        (
            ("postgres-db.cnpg.pooler.enabled=false", "worker.workers.aws.poolMax=100"),
            "global.postgres.maxConnections is 600, but all pods",
        ),
        (("postgres-db.cnpg.synchronous=3",), "no commit ever ends"),
        (("postgres-db.cnpg.backup.enabled=true",), "cnpg.backup.destinationPath"),
        (("postgres-db.cnpg.recovery.enabled=true",), "cnpg.recovery needs cnpg.backup"),
        (RECOVERED[:-3], "whose backups"),
        (RECOVERED[:-2], "the new log is written over the old"),
        ((*RECOVERED[:-1], "postgres-db.cnpg.recovery.targetTime=yesterday"), "schema"),
    ],
)
def test_what_would_not_hold_is_refused(values: tuple[str, ...], said: str) -> None:
    with pytest.raises(NotRendered, match=said):
        rendered(preset="ha", values=values)


def test_the_pages_name_the_pooler_as_its_certificate_and_the_autoscaler_can() -> None:
    """KEDA asks from a namespace of its own, so a name without the release's leads it nowhere."""
    shown = re.findall(r"--postgres (csecbridge-\S+):5432", text(ROOT / "docs/install.md"))
    assert shown == ["csecbridge-postgres-db-pooler.csb-app"]
    assert set(shown) <= set(cluster()["spec"]["certificates"]["serverAltDNSNames"])


def test_a_log_that_grows_leaves_the_rows_their_volume() -> None:
    spec = cluster()["spec"]
    most = int(spec["postgresql"]["parameters"]["max_wal_size"].removesuffix("GB"))
    assert int(spec["walStorage"]["size"].removesuffix("Gi")) >= 2 * most


def test_a_commit_is_on_two_nodes() -> None:
    spec = cluster()["spec"]
    assert spec["instances"] == 3
    assert spec["postgresql"]["synchronous"] == {
        "method": "any",
        "number": 1,
        "dataDurability": "required",
        "failoverQuorum": True,
    }
    assert spec["affinity"]["podAntiAffinityType"] == "required"
    assert spec["bootstrap"]["initdb"]["dataChecksums"] is True


def test_the_log_goes_to_the_archive_and_comes_back_from_it() -> None:
    manifests = rendered(preset="ha", values=ARCHIVED)
    (store,), (schedule,) = of_kind(manifests, "ObjectStore"), of_kind(manifests, "ScheduledBackup")
    (plugin,) = cluster(*ARCHIVED)["spec"]["plugins"]
    assert plugin["isWALArchiver"] is True
    assert plugin["parameters"]["barmanObjectName"] == store["metadata"]["name"]
    assert schedule["spec"]["cluster"]["name"] == cluster(*ARCHIVED)["metadata"]["name"]
    assert schedule["spec"]["pluginConfiguration"]["name"] == plugin["name"]
    assert cluster(*ARCHIVED)["spec"]["postgresql"]["parameters"]["archive_timeout"] == "60s"

    spec = cluster(*RECOVERED)["spec"]
    (origin,) = spec["externalClusters"]
    assert spec["bootstrap"] == {
        "recovery": {
            "source": origin["name"],
            "recoveryTarget": {"targetTime": "2026-11-27T01:00:00Z"},
        }
    }
    assert origin["plugin"]["parameters"] == {
        "barmanObjectName": store["metadata"]["name"],
        "serverName": "csecbridge-postgres-db",
    }
    (plugin,) = spec["plugins"]
    assert plugin["parameters"]["serverName"] == "csecbridge-postgres-db-2"


def test_no_uninstallation_takes_the_data_along() -> None:
    kept = {
        m["kind"]
        for m in rendered(preset="ha")
        if m["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }
    assert kept == {"Cluster", "PersistentVolumeClaim"}
