"""What the local AWS is filled with, and the identity by which the worker enters it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from csb_core.local import private_file
from csb_core.local.processes import NotStarted

REGION: Final = "eu-central-1"
MODULE: Final = "worker_service_aws.local_aws"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAws:
    """The seed, and the platform's own access key in it."""

    seed: Path
    access_key_id: str
    secret_access_key: str

    def client_identity(self) -> dict[str, str]:
        """What csbctl needs beside the endpoint to examine an account as the worker would."""
        return {
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
        }

    def identity(self, endpoint: str) -> dict[str, str]:
        """All that a worker is told of AWS, so that nothing of the caller's shell gets in."""
        return {
            **self.client_identity(),
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }


def describe(run: Path, external_ids: Mapping[str, str]) -> LocalAws:
    """Write the seed in which these accounts ask for these ExternalIds.

    Its name changes with its content, so that another seed is another program to start.
    Raises NotStarted.
    """
    options = [part for pair in external_ids.items() for part in ("--external-id", "=".join(pair))]
    done = subprocess.run(
        [sys.executable, "-m", f"{MODULE}.demo_seed", *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise NotStarted(f"the seed of the local AWS could not be made: {done.stderr}")
    digest = hashlib.sha256(done.stdout.encode()).hexdigest()[:12]
    seed = run / f"local-aws-{digest}.json"
    private_file.write(seed, done.stdout)
    key = _platform_key(json.loads(done.stdout))
    return LocalAws(seed=seed, access_key_id=key["id"], secret_access_key=key["secret"])


def _platform_key(seed: Mapping[str, Any]) -> dict[str, str]:
    users = (user for account in seed["accounts"].values() for user in account.get("users", []))
    return next(user["access_key"] for user in users if "access_key" in user)
