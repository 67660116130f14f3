"""`python -m csb_core.lint FILE --kind transformer` prints findings as a compiler does."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from csb_core.errors import BridgeError
from csb_core.lint.validator import validate
from csb_core.lint.values import KINDS, Declared, Validation


def main(arguments: list[str] | None = None) -> int:
    """Return 1 when the util is not valid, 2 when it could not be validated."""
    asked = _parser().parse_args(arguments)
    held = dict(map(_held, asked.dependency))
    try:
        source = asked.file.read_bytes().decode("utf-8", "surrogateescape")
        verdict = validate(
            source,
            kind=asked.kind,
            declared=Declared(description=asked.description, dependencies=tuple(held)),
            allowed_packages=held,
        )
    except (OSError, BridgeError) as exc:
        sys.stderr.write(f"{asked.file}: {exc}\n")
        return 2
    if asked.json:
        sys.stdout.write(json.dumps(verdict.document(), indent=2) + "\n")
    else:
        _print(asked.file, verdict)
    return 0 if verdict.is_valid else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m csb_core.lint", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0])
    parser.add_argument("--description", default="", help="what the util does")
    parser.add_argument(
        "--dependency",
        metavar="PACKAGE[=MODULE]",
        action="append",
        default=[],
        help="a package that it declares, with the module that it brings if that is called "
        "otherwise: pyyaml=yaml; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print the API's document")
    return parser


def _held(dependency: str) -> tuple[str, tuple[str, ...]]:
    name, _, module = dependency.partition("=")
    return name, (module or name.replace("-", "_").lower(),)


def _print(file: Path, verdict: Validation) -> None:
    for found in verdict.validation_errors:
        place = f"{file}:{found.line}:{found.col}"
        sys.stdout.write(f"{place}: {found.severity} {found.rule} {found.message}\n")
    valid = "valid" if verdict.is_valid else "not valid"
    sys.stdout.write(f"{file}: {valid}, security score {verdict.security_score}\n")


if __name__ == "__main__":
    sys.exit(main())
