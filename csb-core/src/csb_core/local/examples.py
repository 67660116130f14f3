"""The example utils of this clone, as bodies of a POST."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

#: A folder for each: util.json says what it is, code.py is it, test_cases.json shows it.
FOLDER: Final = Path("worker-sandbox", "examples")


def read(root: Path) -> list[dict[str, Any]]:
    """Every example by name, none where the clone has none."""
    return [body(folder.parent) for folder in sorted((root / FOLDER).glob("*/util.json"))]


def body(folder: Path) -> dict[str, Any]:
    """What creates the example in this folder."""
    described: dict[str, Any] = json.loads((folder / "util.json").read_text(encoding="utf-8"))
    return {
        **described,
        "code": (folder / "code.py").read_text(encoding="utf-8"),
        "test_cases": json.loads((folder / "test_cases.json").read_text(encoding="utf-8")),
    }
