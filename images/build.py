"""Build the images with docker or buildah, whichever is there: `make images`.

    python images/build.py [IMAGE ...] [--engine docker|buildah] [--tag TAG] [--python-image NAME]
                           [--secret id=pip.conf,src=FILE ...]

Behind a registry of your own give a pip.conf, and beside it the authority that it trusts, as
secrets (ids pip.conf and ca.pem): they are mounted for the one step that needs them, and stay in no
layer.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

ROOT: Final = Path(__file__).resolve().parents[1]

#: Every image, and the Dockerfile that makes it.
IMAGES: Final[Mapping[str, str]] = {
    "api-service": "api-service/Dockerfile",
    "worker-service-aws": "worker-service-aws/Dockerfile",
    "worker-sandbox": "worker-sandbox/Dockerfile",
    "csbctl": "db/Dockerfile",
}

Engine = Literal["docker", "buildah"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How images are built; `options` go to the engine as they are."""

    engine: Engine
    tag: str
    prefix: str = "csecbridge"
    python_image: str | None = None
    secrets: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def name(self, image: str) -> str:
        """What the built image is called."""
        host = "localhost/" if self.engine == "buildah" else ""
        return f"{host}{self.prefix}/{image}:{self.tag}"

    def command(self, image: str) -> list[str]:
        """The engine's command line for one image."""
        arguments = {"VERSION": version(), "REVISION": revision()}
        if self.python_image:
            arguments["PYTHON_IMAGE"] = self.python_image
        begin = ["buildah", "build", "--format", "docker"]
        return [
            *(begin if self.engine == "buildah" else ["docker", "build"]),
            *("--file", IMAGES[image], "--tag", self.name(image)),
            *(part for name, value in arguments.items() for part in _argument(name, value)),
            *(part for secret in self.secrets for part in ("--secret", secret)),
            *self.options,
            ".",
        ]

    def make(self, image: str) -> None:
        """Build one image; raises CalledProcessError, after the engine has told why."""
        # BuildKit, also where an old Docker would not take it by itself: secrets need it.
        environ = {**os.environ, "DOCKER_BUILDKIT": "1"}
        subprocess.run(self.command(image), cwd=ROOT, env=environ, check=True)


def version() -> str:
    """The version that all packages share."""
    document = tomllib.loads((ROOT / "csb-core/pyproject.toml").read_text(encoding="utf-8"))
    return str(document["project"]["version"])


def revision() -> str:
    """The commit that is checked out; `unknown` outside of a clone."""
    git = shutil.which("git")
    asked = git and subprocess.run(
        [git, "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() if asked and asked.returncode == 0 else "unknown"


def find_engine() -> Engine | None:
    """Docker where its engine answers, else buildah, else nothing."""
    docker = shutil.which("docker")
    if (
        docker
        and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0
    ):
        return "docker"
    return "buildah" if shutil.which("buildah") else None


def main(argv: Sequence[str] | None = None) -> int:
    """Build what is named, or all; 0 when all were built."""
    parser = argparse.ArgumentParser(description="Build the images of CSecBridge.")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help=", ".join(IMAGES))
    parser.add_argument("--engine", choices=["docker", "buildah"], default=None)
    parser.add_argument("--tag", default=version())
    parser.add_argument("--python-image", help="the base, best with its digest")
    parser.add_argument("--secret", action="append", default=[], metavar="id=ID,src=FILE")
    options = parser.parse_args(argv)
    if unknown := set(options.images) - set(IMAGES):
        parser.error(f"no such image: {', '.join(sorted(unknown))}; there are {', '.join(IMAGES)}")

    engine = options.engine or find_engine()
    if engine is None:
        print("images: there is no docker whose engine answers, and no buildah", file=sys.stderr)
        return 1
    build = Build(
        engine=engine,
        tag=options.tag,
        python_image=options.python_image,
        secrets=tuple(options.secret),
    )
    for image in options.images or IMAGES:
        print(f"images: {build.name(image)}", flush=True)
        try:
            build.make(image)
        except subprocess.CalledProcessError as exc:
            print(f"images: {image} was not built: {engine} ended with {exc.returncode}")
            return 1
    return 0


def _argument(name: str, value: str) -> tuple[str, str]:
    return "--build-arg", f"{name}={value}"


if __name__ == "__main__":
    sys.exit(main())
