"""The images, built once for all tests that look at them or start them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from images.build import ROOT
from tests.images.builder import Builder
from tests.images.container import Container

from csb_core.testing import postgres, redis_server, redis_url

__all__ = ["postgres", "redis_server", "redis_url"]


@pytest.fixture(scope="session")
def builder() -> Iterator[Builder]:
    """The builder; fails, and never skips, where it cannot work."""
    assert os.geteuid() == 0, "images are built and entered as root: sudo make test-images"
    for program in ("buildah", "debootstrap"):
        assert shutil.which(program), f"{program} is missing: make test-images installs it"
    storage = ROOT / os.environ.get("CSB_RUN_DIR", ".run") / "images"
    storage.mkdir(mode=0o700, parents=True, exist_ok=True)
    builder = Builder(storage=storage)
    yield builder
    builder.remove_containers()


@pytest.fixture(scope="session")
def built(builder: Builder) -> Callable[[str], Container]:
    """Build an image, the first time that somebody asks for it, and mount it."""

    @cache
    def build(image: str) -> Container:
        name = builder.build(image)
        return Container(root=builder.mounted(name), config=builder.config(name))

    return build
