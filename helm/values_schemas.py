"""Writes values.schema.json of every chart, from the shapes that their values have.

python helm/values_schemas.py            write them
python helm/values_schemas.py --check    say which are stale; 1 when one is
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from log_shapes import OBSERVABILITY
from service_shapes import API, OF_EACH_WORKER, WORKER
from shapes import (
    ACCOUNT,
    ANYTHING,
    BOOLEAN,
    FOREIGN_IMAGE,
    GLOBAL,
    IMAGE,
    MEMORY,
    MOMENT,
    NO_SECRET,
    NO_STORAGE,
    OBJECTS,
    PLACEMENT,
    PORT,
    RESOURCES,
    SCHEDULE,
    SECRET,
    SETTINGS,
    TEXT,
    VARIABLES_OF_AWS,
    VOLUME,
    Schema,
    one_of,
    strict,
    whole,
)

HERE: Final = Path(__file__).resolve().parent

CHARTS: Final[Mapping[str, Schema]] = {
    "api-service": API,
    "worker": {
        "defaults": strict(WORKER),
        "workers": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z][a-z0-9]{0,11}$"},
            "additionalProperties": strict(WORKER, required=OF_EACH_WORKER),
        },
    },
    "postgres-db": {
        "database": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,30}$"},
        "existingSecret": SECRET,
        "embedded": strict(
            {
                "image": FOREIGN_IMAGE,
                "user": whole(1, 65_535),
                "storage": VOLUME,
                "settings": SETTINGS,
                "gracePeriodSeconds": whole(30, 3600),
                "resources": RESOURCES,
            }
        ),
        "cnpg": strict(
            {
                "instances": whole(1, 10),
                "synchronous": whole(0, 9),
                "failoverQuorum": BOOLEAN,
                "imageName": TEXT,
                "storage": VOLUME,
                "walStorage": strict({"size": NO_STORAGE, "className": TEXT}),
                "antiAffinity": one_of("preferred", "required"),
                "settings": SETTINGS,
                "resources": RESOURCES,
                "pooler": strict(
                    {
                        "enabled": BOOLEAN,
                        "instances": whole(1, 20),
                        "serverConnections": whole(2, 10_000),
                        "clientConnections": whole(10, 100_000),
                        "resources": RESOURCES,
                    }
                ),
                "backup": strict(
                    {
                        "enabled": BOOLEAN,
                        "destinationPath": {"type": "string", "pattern": "^(s3://.+)?$"},
                        "endpointURL": {"type": "string", "pattern": "^(https?://.+)?$"},
                        "existingSecret": NO_SECRET,
                        "serviceAccount": ACCOUNT,
                        "serverName": NO_SECRET,
                        "schedule": {"type": "string", "pattern": "^(\\S+ ){5}\\S+$"},
                        "retention": {"type": "string", "pattern": "^[1-9][0-9]*[dwm]$"},
                    }
                ),
                "recovery": strict(
                    {"enabled": BOOLEAN, "serverName": NO_SECRET, "targetTime": MOMENT}
                ),
                "operatorNamespace": TEXT,
                "egress": strict(
                    {
                        "clusterApiTo": OBJECTS,
                        "clusterApiPorts": {"type": "array", "items": PORT, "minItems": 1},
                        "storeTo": OBJECTS,
                        "storePort": PORT,
                        "extra": OBJECTS,
                    }
                ),
            }
        ),
        "priorityClassName": TEXT,
        **PLACEMENT,
    },
    "redis": {
        "existingSecret": SECRET,
        "embedded": strict(
            {
                "image": FOREIGN_IMAGE,
                "user": whole(1, 65_535),
                "server": TEXT,
                "client": TEXT,
                "storage": VOLUME,
                "maxMemory": MEMORY,
                "gracePeriodSeconds": whole(10, 3600),
                "resources": RESOURCES,
            }
        ),
        "priorityClassName": TEXT,
        **PLACEMENT,
    },
    "observability": OBSERVABILITY,
    "csecbridge": {
        **dict.fromkeys(
            ("api-service", "worker", "postgres-db", "redis", "observability"), ANYTHING
        ),
        "externalSecrets": strict(
            {
                "enabled": BOOLEAN,
                "store": strict(
                    {
                        "name": NO_SECRET,
                        "kind": one_of("SecretStore", "ClusterSecretStore"),
                        "prefix": TEXT,
                    }
                ),
                "refreshInterval": {"type": "string", "pattern": "^[1-9][0-9]*(s|m|h)$"},
            }
        ),
        "monitoring": strict({"runbooks": TEXT}),
        "csbctl": strict({"image": IMAGE}),
        "operation": strict({"priorityClassName": TEXT, **PLACEMENT}),
        "migrations": strict(
            {
                "mode": one_of("job", "hook"),
                "existingSecret": SECRET,
                "deadlineSeconds": whole(30, 86_400),
                "bootstrap": strict(
                    {
                        "enabled": BOOLEAN,
                        "existingSecret": SECRET,
                        "superuserSecret": SECRET,
                        "superuser": TEXT,
                        "host": TEXT,
                        "database": TEXT,
                    }
                ),
                "resources": RESOURCES,
            }
        ),
        "maintenance": strict(
            {
                "enabled": BOOLEAN,
                "schedule": SCHEDULE,
                "existingSecret": SECRET,
                "resources": RESOURCES,
            }
        ),
        "backup": strict(
            {
                "enabled": BOOLEAN,
                "existingSecret": SECRET,
                "schedule": SCHEDULE,
                "keep": whole(1, 1000),
                "image": FOREIGN_IMAGE,
                "user": whole(1, 65_535),
                "volume": VOLUME,
                "bucket": strict(
                    {
                        "url": {"type": "string", "pattern": "^(s3://[a-z0-9.-]+(/[^?#]*)?)?$"},
                        "egressTo": OBJECTS,
                        "port": PORT,
                        "env": VARIABLES_OF_AWS,
                        "existingSecret": NO_SECRET,
                    }
                ),
                "serviceAccount": ACCOUNT,
                "work": VOLUME,
                "jobs": whole(1, 64),
                "deadlineSeconds": whole(60, 86_400),
                "restoreName": {"type": "string", "pattern": "^([0-9]{8}T[0-9]{6}Z)?$"},
                "resources": RESOURCES,
            }
        ),
        "console": strict({"enabled": BOOLEAN, "actor": TEXT}),
        "smoke": strict(
            {
                "existingSecret": NO_SECRET,
                "accountId": {"type": "string", "pattern": "^([0-9]{12})?$"},
                "principalType": one_of("user", "role", "group"),
                "principalName": TEXT,
                "timeoutSeconds": whole(10, 600),
            }
        ),
    },
}


def document(chart: str) -> str:
    """The text of one chart's values.schema.json."""
    fields = {"global": GLOBAL, "enabled": BOOLEAN, "library": ANYTHING, **CHARTS[chart]}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Values of the chart {chart}",
        "$comment": "Written by helm/values_schemas.py.",
        **strict(fields),
    }
    return json.dumps(schema, indent=2) + "\n"


def main(argv: Sequence[str]) -> int:
    """Write all, or say which are stale."""
    stale = [
        (path, text)
        for chart in CHARTS
        if (path := HERE / chart / "values.schema.json")
        and (text := document(chart)) != (path.read_text() if path.exists() else "")
    ]
    if "--check" in argv:
        for path, _ in stale:
            print(f"{path.relative_to(HERE)} is stale: python helm/values_schemas.py")
        return 1 if stale else 0
    for path, text in stale:
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
