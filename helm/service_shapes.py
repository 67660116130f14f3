"""Shapes of what the charts of the API and of the workers can be told."""

from __future__ import annotations

from typing import Final

from shapes import (
    ACCOUNT,
    BOOLEAN,
    DIGEST,
    IMAGE,
    NO_SECRET,
    OBJECTS,
    PLACEMENT,
    PORT,
    REPLICAS,
    RESOURCES,
    SECRET,
    TAG,
    TEXT,
    TEXTS,
    VARIABLES,
    Schema,
    one_of,
    strict,
    whole,
)

API: Final[Schema] = {
    "image": IMAGE,
    "existingSecret": SECRET,
    "replicas": REPLICAS,
    "processes": whole(1, 64),
    "poolMax": whole(1, 200),
    "rollout": strict(
        {
            "strategy": one_of("rolling", "blue-green", "canary"),
            "next": strict({"tag": TAG, "digest": DIGEST, "replicas": REPLICAS, "env": VARIABLES}),
            "serving": one_of("stable", "next"),
            "weight": whole(0, 100),
        }
    ),
    "env": VARIABLES,
    "shutdown": strict({"preStopSeconds": whole(0, 300), "gracePeriodSeconds": whole(1, 3600)}),
    "service": strict({"port": PORT, "annotations": TEXTS}),
    "ingress": strict(
        {
            "enabled": BOOLEAN,
            "className": TEXT,
            "host": TEXT,
            "tlsSecret": NO_SECRET,
            "annotations": TEXTS,
        }
    ),
    "httpRoute": strict(
        {
            "enabled": BOOLEAN,
            "parentRefs": OBJECTS,
            "hostnames": {"type": "array", "items": TEXT},
            "requestTimeout": {"type": "string", "pattern": "^([1-9][0-9]{0,4}(s|m|h))?$"},
        }
    ),
    "ingressFrom": OBJECTS,
    "autoscaling": strict(
        {
            "enabled": BOOLEAN,
            "minReplicas": whole(1, 1000),
            "maxReplicas": whole(1, 1000),
            "cpuPercent": whole(1, 100),
        }
    ),
    "disruptionBudget": BOOLEAN,
    "resources": RESOURCES,
    "serviceAccount": ACCOUNT,
    "annotations": TEXTS,
    "priorityClassName": TEXT,
    **PLACEMENT,
}

WORKER: Final[Schema] = {
    "enabled": BOOLEAN,
    "service": TEXT,
    "image": IMAGE,
    "existingSecret": SECRET,
    "replicas": REPLICAS,
    "processes": whole(1, 64),
    "slots": whole(1, 512),
    "poolMax": whole(1, 200),
    "longestSeconds": whole(1, 3600),
    "graceSeconds": whole(1, 3600),
    "gracePeriodSeconds": whole(1, 7200),
    "env": VARIABLES,
    "envFromSecrets": {"type": "array", "items": SECRET},
    "egress": strict({"internet": BOOLEAN, "podIdentity": BOOLEAN, "extra": OBJECTS}),
    "autoscaling": strict(
        {
            "enabled": BOOLEAN,
            "minReplicas": whole(1, 1000),  # the rescuer runs in workers: never none
            "maxReplicas": whole(1, 1000),
            "busyPercent": whole(1, 100),
        }
    ),
    "next": strict({"tag": TAG, "digest": DIGEST, "replicas": whole(1, 1000)}),
    "disruptionBudget": BOOLEAN,
    "jails": strict(
        {
            "tier": one_of("landlock", "namespaces"),
            "pool": whole(1, 256),
            "megabytesOfOne": whole(16, 65_536),
            "seccompProfile": TEXT,
            "appArmorProfile": TEXT,
        }
    ),
    "resources": RESOURCES,
    "serviceAccount": ACCOUNT,
    "annotations": TEXTS,
    "podLabels": TEXTS,
    "runtimeClassName": NO_SECRET,
    "priorityClassName": TEXT,
    **PLACEMENT,
}

#: What a worker has that no default can know. Presets tell a part of it: Helm has filled in
#: the rest before it looks.
OF_EACH_WORKER: Final = (
    *("service", "image", "existingSecret", "slots", "resources"),
    *("longestSeconds", "graceSeconds", "gracePeriodSeconds"),
)
