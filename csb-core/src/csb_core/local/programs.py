"""The programs of a platform: what each runs, with which environment, and when it is well."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from csb_core.local import private_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One supervised program; `env` is all it gets of the names CSB_* and AWS_*."""

    name: str
    argv: tuple[str, ...]
    port: int
    env: Mapping[str, str] = field(default_factory=dict)
    #: How it tells that it is ready: it listens, it lets PostgreSQL's clients in, or a path of its
    #: HTTP answers 200.
    ready: str = "listens"


def write(path: Path, programs: Sequence[Program]) -> None:
    """Keep the programs for their launcher, and for whoever asks how they stand."""
    document = {program.name: asdict(program) for program in programs}
    private_file.write(path, json.dumps(document, indent=2) + "\n")


def read(path: Path) -> dict[str, Program]:
    """The programs as they were last written, none before the first time."""
    if not path.exists():
        return {}
    document = json.loads(path.read_text())
    return {
        name: Program(**{**entry, "argv": tuple(entry["argv"])}) for name, entry in document.items()
    }


def launch(path: Path, name: str) -> None:
    """Become the named program; does not return."""
    program = read(path)[name]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("CSB_", "AWS_"))}
    os.execve(program.argv[0], program.argv, inherited | dict(program.env))  # noqa: S606


if __name__ == "__main__":
    launch(Path(sys.argv[1]), sys.argv[2])
