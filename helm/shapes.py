"""Shapes that the values of several charts have, as JSON Schema."""

from __future__ import annotations

from typing import Any, Final

Schema = dict[str, Any]

BOOLEAN: Final[Schema] = {"type": "boolean"}
TEXT: Final[Schema] = {"type": "string"}
ANYTHING: Final[Schema] = {"type": "object"}
TEXTS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
OBJECTS: Final[Schema] = {"type": "array", "items": {"type": "object"}}
SETTINGS: Final[Schema] = {
    "type": "object",
    "additionalProperties": {"type": ["string", "integer", "number"]},
}
#: Variables of docs/configuration.md, and AWS's own. Secrets do not go here.
VARIABLES: Final[Schema] = {
    "type": "object",
    "propertyNames": {"pattern": "^(CSB|AWS)_[A-Z0-9_]+$", "not": {"pattern": "(_URL|SECRET|KEY)"}},
    "additionalProperties": {"type": ["string", "integer", "number", "boolean"]},
}
#: What boto3 reads, but for secrets.
VARIABLES_OF_AWS: Final[Schema] = {
    "type": "object",
    "propertyNames": {"pattern": "^AWS_[A-Z0-9_]+$", "not": {"pattern": "(SECRET|KEY|TOKEN)"}},
    "additionalProperties": {"type": ["string", "integer", "boolean"]},
}
SCHEDULE: Final[Schema] = {"type": "string", "pattern": "^(\\S+ ){4}\\S+$"}
MEMORY: Final[Schema] = {"type": "string", "pattern": "^[1-9][0-9]*(Mi|Gi)$"}
STORAGE: Final[Schema] = {"type": "string", "pattern": "^[1-9][0-9]*(Mi|Gi|Ti)$"}
NO_STORAGE: Final[Schema] = {"type": "string", "pattern": "^([1-9][0-9]*(Mi|Gi|Ti))?$"}
MOMENT: Final[Schema] = {
    "type": "string",
    "pattern": "^([0-9]{4}(-[0-9]{2}){2}T[0-9]{2}(:[0-9]{2}){2}(Z|[+-][0-9]{2}:[0-9]{2}))?$",
}
CPU: Final[Schema] = {"type": ["string", "integer"], "pattern": "^([1-9][0-9]*m|[0-9]*\\.?[0-9]+)$"}
DIGEST: Final[Schema] = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
TAG: Final[Schema] = {"type": ["string"], "pattern": "^([A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$"}
SECRET: Final[Schema] = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"}
NO_SECRET: Final[Schema] = {"type": "string", "pattern": "^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$"}


def whole(least: int, most: int) -> Schema:
    """An integer between two others, which may be it."""
    return {"type": "integer", "minimum": least, "maximum": most}


def one_of(*values: str) -> Schema:
    """One of these words."""
    return {"enum": list(values)}


def strict(fields: Schema, *, required: tuple[str, ...] = ()) -> Schema:
    """An object that has these fields and no others."""
    found: Schema = {"type": "object", "additionalProperties": False, "properties": fields}
    return {**found, "required": list(required)} if required else found


PORT: Final = whole(1, 65_535)
REPLICAS: Final = whole(0, 1_000)
RESOURCES: Final = strict(
    {
        "requests": strict({"cpu": CPU, "memory": MEMORY}, required=("cpu", "memory")),
        "limits": strict({"cpu": CPU, "memory": MEMORY}, required=("memory",)),
    },
    required=("requests", "limits"),
)
IMAGE: Final = strict({"name": TEXT, "tag": TAG, "digest": DIGEST})
FOREIGN_IMAGE: Final = strict({"repository": TEXT, "tag": TAG, "digest": DIGEST})
VOLUME: Final = strict({"size": STORAGE, "className": TEXT})
ACCOUNT: Final = strict({"annotations": TEXTS})
PLACEMENT: Final[Schema] = {"nodeSelector": TEXTS, "tolerations": OBJECTS, "affinity": ANYTHING}

#: Open at its top, since charts above ours may have globals of their own; strict below.
GLOBAL: Final[Schema] = {
    "type": "object",
    "properties": {
        "images": strict(
            {
                "registry": TEXT,
                "tag": TAG,
                "pullPolicy": one_of("Always", "IfNotPresent", "Never"),
                "pullSecrets": {"type": "array", "items": strict({"name": SECRET})},
            }
        ),
        "digests": {"type": "object", "additionalProperties": DIGEST},
        "postgres": strict(
            {
                "mode": one_of("embedded", "external", "cnpg"),
                "port": PORT,
                "maxConnections": whole(0, 100_000),
                "egressTo": OBJECTS,
            }
        ),
        "redis": strict(
            {"mode": one_of("embedded", "external"), "port": PORT, "egressTo": OBJECTS}
        ),
        "trust": strict({"existingSecret": NO_SECRET}),
        "networkPolicy": strict(
            {
                "enabled": BOOLEAN,
                "dnsTo": OBJECTS,
                "metricsFrom": OBJECTS,
                "autoscalerFrom": OBJECTS,
            }
        ),
        "monitoring": strict({"enabled": BOOLEAN, "interval": TEXT, "labels": TEXTS}),
    },
}
