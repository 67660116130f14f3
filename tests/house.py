"""What the guard tests read: the files of the repository, and what stands in them."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

#: Made by tools or at run time, never committed.
_MADE = {".git", ".venv", ".run", "build", "dist", "htmlcov", ".hypothesis"}


@cache
def files(*suffixes: str) -> tuple[Path, ...]:
    """Return the repository's own files with these endings, all of them without any."""
    return tuple(sorted(path for path in _walk(ROOT) if not suffixes or path.suffix in suffixes))


def _walk(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name in _MADE or path.name.endswith(("_cache", ".egg-info", "__pycache__")):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        elif path.is_file():
            yield path


def sources() -> list[Path]:
    """Return the modules that are shipped or run: all Python but tests."""
    return [path for path in files(".py") if "tests" not in path.relative_to(ROOT).parts]


def text(path: Path) -> str:
    """Return a file's text, empty for what is none."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def named(path: Path) -> str:
    """Return a file's name as people say it."""
    return path.relative_to(ROOT).as_posix()


def toml(name: str) -> dict[str, Any]:
    """Return a TOML file of the root or of a package."""
    return tomllib.loads(text(ROOT / name))


def providers() -> set[str]:
    """Return the providers that schema.json has actions for."""
    definitions = json.loads(text(ROOT / "schema.json"))["$defs"]
    return {name.split(".")[0] for name in definitions if "." in name}


def make_targets() -> set[str]:
    """Return the names that `make` knows."""
    return set(re.findall(r"^([a-z][a-z0-9-]*):(?!=)", text(ROOT / "Makefile"), re.MULTILINE))
