"""The pods that the chart makes for backups and restores, run here: their programs, in order.

And a world to be backed up, with two tenants in it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from psycopg.conninfo import conninfo_to_dict
from tests.deploy.charts import Manifest, of_kind, pods, rendered
from tests.deploy.installed import Installed
from tests.house import ROOT

from csb_core.local.postgres import binary
from csb_core.local.privileges import unprivileged

ENABLED: Final = ("backup.enabled=true", "backup.keep=2")
IN_BUCKET: Final = (
    *ENABLED,
    "backup.bucket.url=s3://backups/csb",
    "backup.bucket.existingSecret=csb-bucket",
    "backup.bucket.egressTo[0].ipBlock.cidr=10.30.0.0/24",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where the pods run: folders in place of their volumes, and what their Secrets hold."""

    folder: Path
    places: Mapping[str, str]
    secrets: Mapping[str, Mapping[str, str]]
    values: tuple[str, ...] = ENABLED
    prefix: tuple[str, ...] = field(default=())

    def run(self, pod: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a pod's containers in order, until one fails; its volume of work is new each time."""
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        said = ""
        spec = self._pod(pod)
        for container in [*spec["initContainers"], *spec["containers"]]:
            done = self.step(container, **environ)
            said += done.stdout
            if done.returncode:
                break
        return subprocess.CompletedProcess(pod, done.returncode, said, done.stderr)

    def step(self, container: Manifest, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run one container's program as it is written down, in the places of this site."""
        path = f"{ROOT / '.venv/bin'}:{binary('psql').parent}:{os.environ['PATH']}"
        told = {one["name"]: self._value(one) for one in container["env"]}
        return subprocess.run(
            [*self.prefix, *(self._placed(part) for part in container["command"])],
            env={"PATH": path, "LANG": "C.UTF-8", "HOME": "/nonexistent", **told, **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def container(self, pod: str, name: str) -> Manifest:
        """One container of a pod."""
        spec = self._pod(pod)
        (found,) = (c for c in [*spec["initContainers"], *spec["containers"]] if c["name"] == name)
        return dict(found)

    @property
    def backups(self) -> list[str]:
        """What lies on the shelf, when that is a folder."""
        return sorted(path.name for path in (self.folder / "shelf").iterdir())

    def _pod(self, name: str) -> dict[str, Any]:
        made = dict(pods(rendered(preset="small", values=self.values)))
        found: dict[str, Any] = made[f"CronJob/csecbridge-{name}"]["spec"]
        return found

    def _value(self, variable: Manifest) -> str:
        if variable["name"] in self.places:
            return self.places[variable["name"]]
        if "valueFrom" not in variable:
            return self._placed(variable["value"])
        at = variable["valueFrom"]["secretKeyRef"]
        return self.secrets[at["name"]][at["key"]]

    def _placed(self, text: str) -> str:
        for place in ("/etc/backup", "/work", "/shelf"):
            if text == place or text.startswith(f"{place}/"):
                return f"{self.folder}{text}"
        return text


def site(
    folder: Path,
    stores: Installed,
    *,
    values: tuple[str, ...] = ENABLED,
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> Site:
    """Lay out a site: the chart's ConfigMap in its place, an empty shelf, the Secrets."""
    programs = folder / "etc/backup"
    programs.mkdir(parents=True)
    (folder / "shelf").mkdir()
    maps = of_kind(rendered(preset="small", values=values), "ConfigMap")
    (files,) = (m["data"] for m in maps if m["metadata"]["name"] == "csecbridge-backup")
    for name, text in files.items():
        (programs / name).write_text(text)
    at = conninfo_to_dict(stores.superuser)
    return Site(
        folder=folder,
        places={"PGHOST": str(at["host"]), "PGPORT": str(at["port"])},
        # The server of a test has a superuser's password of its own.
        secrets={
            **stores.secrets,
            **(more or {}),
            "csb-postgres": {"password": str(at["password"])},
        },
        values=values,
        prefix=unprivileged(folder, binary("initdb")),
    )


def on_shelf(here: Site) -> Path:
    """The only backup, as the shelf has it."""
    (name,) = here.backups
    return here.folder / "shelf" / name


def rewritten(backup: Path) -> None:
    """Make the sums fit again, so that only what comes after them can find the fault."""
    names = ("database.dump", "roles.psql", "manifest")
    sums = subprocess.run(
        ["sha256sum", *names], cwd=backup, capture_output=True, text=True, check=True
    )
    (backup / "SHA256SUMS").write_text(sums.stdout)


def with_one_more_row(backup: Path) -> None:
    """Let a backup say of itself what no restore can give."""
    manifest = backup / "manifest"
    text, changed = re.subn(
        r"^(rows\|csb_requests\|)(\d+)",
        lambda m: f"{m[1]}{int(m[2]) + 1}",
        manifest.read_text(),
        flags=re.MULTILINE,
    )
    assert changed == 1
    manifest.write_text(text)
    rewritten(backup)
