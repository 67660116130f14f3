"""Builds the images for real, from a bare Debian, with buildah: no engine, no registry."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from images.build import ROOT, Build

BASE = "localhost/python-base:test"
TAG = "test"

#: What of pip's configuration a build needs as well; cache and find-links are the host's alone.
PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "cert")
AUTHORITY = "/run/secrets/ca.pem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """A storage of its own, which is kept for the next time."""

    storage: Path

    def buildah(self, *arguments: str, seconds: float = 600) -> str:
        """Run buildah on our storage; its output, or an AssertionError with all it said."""
        done = subprocess.run(
            ["buildah", *self.where, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, (
            f"buildah {arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
        return done.stdout.strip()

    @property
    def where(self) -> tuple[str, ...]:
        return "--root", str(self.storage / "root"), "--runroot", str(self.storage / "run")

    def base(self) -> str:
        """A bare Debian with Python, made once; returns its name."""
        if BASE not in self.buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
            folder = self.storage / "debian"
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run(
                [
                    *("debootstrap", "--variant=minbase"),
                    "--include=python3,python3-venv,ca-certificates,tzdata",
                    *("bookworm", str(folder)),
                ],
                check=True,
                capture_output=True,
                timeout=900,
            )
            shutil.rmtree(folder / "var/cache/apt")
            container = self.buildah("from", "scratch")
            self.buildah("add", "--quiet", container, str(folder), "/")
            self.buildah("commit", "--quiet", "--rm", container, BASE)
            shutil.rmtree(folder)
        return BASE

    def build(self, image: str) -> str:
        """Build one image as `make images` does; returns its name."""
        plan = Build(
            engine="buildah",
            tag=TAG,
            python_image=self.base(),
            secrets=tuple(self._secrets()),
            options=("--isolation=chroot", "--network=host", "--pull-never"),
        )
        # buildah's options for its storage stand before the command.
        _, *command = plan.command(image)
        self.buildah(*command, seconds=900)
        return plan.name(image)

    def config(self, name: str) -> dict[str, Any]:
        """What an image says of itself."""
        document = json.loads(self.buildah("inspect", "--type", "image", name))
        config: dict[str, Any] = document["Docker"]["config"]
        return config

    def mounted(self, name: str) -> Path:
        """The root of a container of this image."""
        container = self.buildah("from", "--pull-never", name)
        return Path(self.buildah("mount", container))

    def remove_containers(self) -> None:
        """Unmount and forget what was mounted, and what was built before; the new images stay."""
        with suppress(AssertionError):
            self.buildah("umount", "--all")
        self.buildah("rm", "--all")
        self.buildah("rmi", "--prune")

    def _secrets(self) -> list[str]:
        """How pip is configured here, as the builds' secrets."""
        options = pip_options()
        secrets = []
        if cert := options.get("cert"):
            secrets.append(f"id=ca.pem,src={cert}")
            options["cert"] = AUTHORITY
        path = self.storage / "pip.conf"
        path.touch(mode=0o600)
        path.write_text("[global]\n" + "".join(f"{n} = {v}\n" for n, v in options.items()))
        return [*secrets, f"id=pip.conf,src={path}"]


def pip_options() -> dict[str, str]:
    """What pip is told here, by files and by the environment, which goes before."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    lines = re.findall(r"^[\w:]+\.([\w-]+)='(.*)'$", listed.stdout, re.MULTILINE)
    found = {name: value for name, value in lines if name in PIP_OPTIONS}
    given = {name: os.environ.get(f"PIP_{name.upper().replace('-', '_')}") for name in PIP_OPTIONS}
    return found | {name: value for name, value in given.items() if value}
