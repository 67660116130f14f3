"""What the values of the chart observability have."""

from __future__ import annotations

from typing import Final

from shapes import (
    BOOLEAN,
    FOREIGN_IMAGE,
    IMAGE,
    MEMORY,
    NO_SECRET,
    OBJECTS,
    PLACEMENT,
    RESOURCES,
    SECRET,
    TEXT,
    TEXTS,
    Schema,
    one_of,
    strict,
    whole,
)

OBSERVABILITY: Final[Schema] = {
    #: A data stream's name is made of parts with dashes between them.
    "environment": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_.]{0,30}$"},
    "elasticsearch": strict(
        {
            "url": {"type": "string", "pattern": "^(https://[^/]+(/.*)?)?$"},
            "existingSecret": SECRET,
            "to": OBJECTS,
        }
    ),
    "collector": strict(
        {
            "enabled": BOOLEAN,
            "namespace": SECRET,
            "reads": NO_SECRET,
            "image": FOREIGN_IMAGE,
            "bufferSize": MEMORY,
            "clusterApiTo": OBJECTS,
            "resources": RESOURCES,
            "priorityClassName": TEXT,
            **PLACEMENT,
        }
    ),
    "search": strict(
        {
            "enabled": BOOLEAN,
            "image": IMAGE,
            "existingSecret": SECRET,
            "lifecycle": one_of("ilm", "none"),
            "retentionDays": whole(3, 3650),
            "deadlineSeconds": whole(60, 3600),
            "resources": RESOURCES,
        }
    ),
    "kibana": strict(
        {
            "url": {"type": "string", "pattern": "^(https://[^/]+(/.*)?)?$"},
            "space": NO_SECRET,
            "to": OBJECTS,
        }
    ),
    "dashboard": strict({"enabled": BOOLEAN, "labels": TEXTS, "annotations": TEXTS}),
    "monitoring": strict({"runbooks": TEXT}),
}
