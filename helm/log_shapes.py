"""What the values of the chart observability have."""

from __future__ import annotations

from typing import Final

from shapes import (
    BOOLEAN,
    FOREIGN_IMAGE,
    MEMORY,
    NO_SECRET,
    OBJECTS,
    PLACEMENT,
    RESOURCES,
    SECRET,
    TEXT,
    TEXTS,
    Schema,
    strict,
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
    "dashboard": strict({"enabled": BOOLEAN, "labels": TEXTS, "annotations": TEXTS}),
    "monitoring": strict({"runbooks": TEXT}),
}
