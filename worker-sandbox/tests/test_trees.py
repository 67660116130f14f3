"""Hostile trees are weighed and removed within bounds, and nothing outside them is touched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from worker_sandbox import trees

MANY = 20_000
DEEP = 1500


def soon() -> float:
    return time.monotonic() + 60


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def many_files(tree: Path) -> None:
    for number in range(MANY):
        (tree / str(number)).touch()


def many_folders(tree: Path) -> None:
    for number in range(3000):
        (tree / str(number % 7) / str(number) / "x").mkdir(parents=True)


def deep_nest(tree: Path) -> None:
    place = os.open(tree, os.O_RDONLY)
    for _ in range(DEEP):
        os.mkdir("d" * 200, dir_fd=place)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)


def hard_links(tree: Path) -> None:
    (tree / "one").write_text("x")
    for number in range(500):
        (tree / str(number)).hardlink_to(tree / "one")


def closed_modes(tree: Path) -> None:
    inner = tree / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").touch(0o000)
    for mode, folder in ((0o000, inner), (0o300, tree / "a"), (0o000, tree)):
        folder.chmod(mode)


def things_that_block(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    (tree / "inner").mkdir()
    os.mkfifo(tree / "inner" / "pipe")


def names_that_we_might_take(tree: Path) -> None:
    for number in range(40):
        (tree / str(number)).mkdir()
        (tree / "0" / f"{number}-x").mkdir()
        (tree / f"\n{number} \udcff").touch()


@pytest.mark.parametrize(
    "plant",
    [
        many_files,
        many_folders,
        deep_nest,
        hard_links,
        closed_modes,
        things_that_block,
        names_that_we_might_take,
    ],
)
def test_it_is_removed_whatever_it_is(plant: Callable[[Path], None], tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    plant(tree)
    descriptors = open_descriptors()

    assert trees.remove(tmp_path, "tree", until=soon())
    assert not list(tmp_path.iterdir())
    assert open_descriptors() == descriptors


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept" / "inner").mkdir(parents=True)
    (tmp_path / "kept" / "file").write_text("kept")
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    for place in (tree, tree / "inner"):
        (place / "folder").symlink_to(tmp_path / "kept")
        (place / "file").symlink_to(tmp_path / "kept" / "file")
        (place / "nowhere").symlink_to("nowhere")

    assert trees.remove(tmp_path, "tree", until=soon())
    assert (tmp_path / "kept" / "file").read_text() == "kept"
    assert (tmp_path / "kept" / "inner").is_dir()


def test_a_link_in_its_place_is_no_tree(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    kept.chmod(0o550)
    (tmp_path / "tree").symlink_to("kept")

    with pytest.raises(NotADirectoryError):
        trees.remove(tmp_path, "tree", until=soon())
    assert kept.stat().st_mode & 0o777 == 0o550
    assert (kept / "file").exists()


def test_it_stops_when_time_is_up_and_goes_on_when_asked_again(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    many_files(tree / "inner")

    began = time.monotonic()
    assert not trees.remove(tmp_path, "tree", until=began + 0.01)
    assert time.monotonic() - began < 1.0
    assert 0 < len(list((tree / "inner").iterdir())) < MANY
    assert trees.remove(tmp_path, "tree", until=soon())
    assert trees.remove(tmp_path, "tree", until=soon())  # what is gone is removed


def weigh(tree: Path, *, most_bytes: int = 1 << 20, most_files: int = 100) -> bool:
    descriptor = os.open(tree, os.O_RDONLY)
    try:
        return trees.exceeds(descriptor, most_bytes=most_bytes, most_files=most_files)
    finally:
        os.close(descriptor)


def test_bytes_files_and_depth_weigh(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(bytes(100_000))
    assert not weigh(tmp_path)
    assert weigh(tmp_path, most_bytes=50_000)
    assert not weigh(tmp_path, most_files=3)
    assert weigh(tmp_path, most_files=2)

    (tmp_path / "/".join("d" * 40)).mkdir(parents=True)
    assert weigh(tmp_path)


def test_what_links_point_at_does_not_weigh(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(bytes(1 << 21))
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "folder").symlink_to(tmp_path / "outside")
    (tree / "file").symlink_to(tmp_path / "outside" / "file")
    assert not weigh(tree)


def test_weighing_a_large_tree_takes_no_longer_than_a_full_one(tmp_path: Path) -> None:
    many_files(tmp_path)
    descriptors = open_descriptors()
    began = time.monotonic()
    assert weigh(tmp_path)
    assert time.monotonic() - began < 0.5
    assert open_descriptors() == descriptors


def test_a_tree_that_is_over_at_a_folder_leaves_no_descriptor_open(tmp_path: Path) -> None:
    many_folders(tmp_path)
    descriptors = open_descriptors()
    for most in range(20):
        assert weigh(tmp_path, most_files=most)
    assert open_descriptors() == descriptors
