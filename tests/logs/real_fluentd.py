"""Holds the model of the pipeline against Fluentd itself, with the files that the chart ships.

python -m tests.logs.real_fluentd           in the chart's image; needs Docker
python -m tests.logs.real_fluentd COMMAND   in another way: it gets the settings in its environment,
                                            and the files of the container below $CSB_ROOT
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml
from tests.house import ROOT, text
from tests.logs import pipeline
from tests.logs.engine import write_certificate
from tests.logs.standins import StandIns, standing_in

#: A golden line waits five seconds for its end, a busy Elasticsearch is asked again after one.
PATIENCE: Final = 120.0
QUIET: Final = 8.0

_ACCOUNT: Final = "var/run/secrets/kubernetes.io/serviceaccount"
_WRITABLE: Final = ("var/lib/csb-fluentd",)


def main() -> int:
    """Run it until everything has come, and compare."""
    expected = text(pipeline.GOLDEN / "documents.ndjson").splitlines()
    with tempfile.TemporaryDirectory(prefix="csb-fluentd-", ignore_cleanup_errors=True) as name:
        root = Path(name)
        key = _lay(root)
        certificate = root / "etc/csb-elasticsearch/ca.crt"
        with standing_in(_pods(), certificate, key) as servers:
            command = sys.argv[1:] or _in_docker(root, _settings(servers))
            environment = {**os.environ, **_settings(servers), "CSB_ROOT": str(root)}
            running = subprocess.Popen(command, env=environment)
            try:
                _await(servers, len(expected), running)
            finally:
                running.terminate()
                running.wait(timeout=60)
            found = pipeline.as_lines(
                pipeline.Stored(index=index, id=one, document=document)
                for one, (index, document) in servers.taken.items()
            )
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    for title, lines in (("not made", missing), ("not expected", extra), ("", servers.faults)):
        for line in lines:
            print(title, line)
    print(f"{len(found)} documents, {len(missing)} missing, {len(extra)} not expected")
    return 1 if missing or extra or servers.faults else 0


def _lay(root: Path) -> Path:
    """Lay the files that a pod of the DaemonSet has; returns the key of the stand-ins."""
    for folder in ("fluentd/etc/csb", "var/log/containers", "etc/csb-elasticsearch", _ACCOUNT):
        (root / folder).mkdir(parents=True)
    for folder in _WRITABLE:
        (root / folder).mkdir(parents=True)
        (root / folder).chmod(0o777)  # root's right to write everywhere is not among those it has
    shutil.copytree(pipeline.FILES, root / "fluentd/etc/csb", dirs_exist_ok=True)
    shutil.copytree(pipeline.GOLDEN / "lines", root / "var/log/containers", dirs_exist_ok=True)
    certificate, key = root / "etc/csb-elasticsearch/ca.crt", root / "key.pem"
    write_certificate(certificate, key)
    shutil.copy(certificate, root / _ACCOUNT / "ca.crt")
    (root / _ACCOUNT / "token").write_text("only-for-tests")
    return key


def _pods() -> pipeline.Pods:
    """The golden pods, each with the container that its file names."""
    names = [path.name for path in (pipeline.GOLDEN / "lines").iterdir()]
    found = {}
    for pod, known in pipeline.pods().items():
        (own,) = (name for name in names if name.startswith(f"{pod}_"))
        container = own.split("_")[2].rpartition("-")[0]
        found[pod] = {**known, "container_name": container}
    return found


def _settings(servers: StandIns) -> Mapping[str, str]:
    return {
        **pipeline.ENVIRONMENT,
        "CSB_LOGS_ELASTICSEARCH": f"https://localhost:{servers.elasticsearch}",
        "KUBERNETES_SERVICE_HOST": "localhost",
        "KUBERNETES_SERVICE_PORT": str(servers.cluster),
        "FLUENTD_CONF": "csb/fluent.conf",
        "FLUENTD_OPT": "-p /fluentd/etc/csb",
    }


def _in_docker(root: Path, settings: Mapping[str, str]) -> list[str]:
    """The chart's image, held as its pod is."""
    values = yaml.safe_load(text(ROOT / "helm/observability/values.yaml"))
    image = values["collector"]["image"]
    command = "docker run --rm --network host --user 0:0 --read-only --tmpfs /tmp"
    command += " --cap-drop ALL --cap-add DAC_READ_SEARCH --security-opt no-new-privileges"
    mounted = ("fluentd/etc/csb", "var/log", "etc/csb-elasticsearch", _ACCOUNT, *_WRITABLE)
    for folder in mounted:
        mode = "rw" if folder in _WRITABLE else "ro"
        command += f" --volume {shlex.quote(str(root / folder))}:/{folder}:{mode}"
    given = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
    return [*shlex.split(command), *given, f"{image['repository']}:{image['tag']}"]


def _await(servers: StandIns, wanted: int, running: subprocess.Popen[bytes]) -> None:
    """Return some time after everything has come, so that what comes too much has come as well."""
    ends = time.monotonic() + PATIENCE
    while len(servers.taken) < wanted and time.monotonic() < ends and running.poll() is None:
        time.sleep(0.5)
    time.sleep(QUIET)


if __name__ == "__main__":
    sys.exit(main())
