"""Where backups are kept: a folder, or a bucket of S3 or of what speaks its language.

    shelf.py through WORK      put the backup that lies in WORK there, and bring back what arrived
    shelf.py keep WORK         note that it was verified; the newest BACKUP_KEEP of those remain
    shelf.py get WORK [NAME]   bring the newest that was verified, or this one
    shelf.py list              tell what there is

BACKUP_SHELF is the folder, or s3://BUCKET/PREFIX; boto3 reads the rest as it always does
(AWS_ENDPOINT_URL, AWS_REGION, credentials). A backup is a folder that is named by its moment.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import boto3
from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

NAME: Final = re.compile(r"\d{8}T\d{6}Z")
SUMS: Final = "SHA256SUMS"
VERIFIED: Final = "VERIFIED"


class ShelfError(Exception):
    """It is not there, or cannot be had; the text says what."""


class Shelf(Protocol):
    """What a place can do: files of backups by `NAME/FILE`, and nothing more."""

    def files(self) -> list[str]:
        """Every file of every backup."""

    def put(self, path: Path, file: str) -> None:
        """Keep a file; whoever finds it finds all of it."""

    def get(self, file: str, path: Path) -> None:
        """Bring a file."""

    def remove(self, file: str) -> None:
        """Keep a file no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Folder:
    """A shelf on a volume."""

    root: Path

    def files(self) -> list[str]:
        """Every file of every backup; not those that are being written."""
        found = (path.relative_to(self.root) for path in self.root.glob("*/*"))
        return sorted(str(file) for file in found if not file.name.endswith(".partial"))

    def put(self, path: Path, file: str) -> None:
        """Copy under another name, to the disk, and rename."""
        target = self.root / file
        target.parent.mkdir(exist_ok=True)
        partial = target.with_name(f"{target.name}.partial")
        with path.open("rb") as source, partial.open("wb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        partial.rename(target)

    def get(self, file: str, path: Path) -> None:
        """Copy."""
        shutil.copyfile(self.root / file, path)

    def remove(self, file: str) -> None:
        """Unlink, and remove the backup's folder with its last file."""
        target = self.root / file
        target.unlink(missing_ok=True)
        if not any(target.parent.iterdir()):
            target.parent.rmdir()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A shelf in a bucket; an object is there whole, or not at all."""

    client: Any
    name: str
    prefix: str

    def files(self) -> list[str]:
        """Every object below the prefix."""
        pages = self.client.get_paginator("list_objects_v2")
        listed = pages.paginate(Bucket=self.name, Prefix=self.prefix)
        keys = (one["Key"] for page in listed for one in page.get("Contents", []))
        return sorted(str(key).removeprefix(self.prefix) for key in keys)

    def put(self, path: Path, file: str) -> None:
        """Upload, in parts where it is large."""
        self.client.upload_file(str(path), self.name, self.prefix + file)

    def get(self, file: str, path: Path) -> None:
        """Download."""
        self.client.download_file(self.name, self.prefix + file, str(path))

    def remove(self, file: str) -> None:
        """Delete the object."""
        self.client.delete_object(Bucket=self.name, Key=self.prefix + file)


def shelf_at(place: str) -> Shelf:
    """The shelf of this name."""
    if not place.startswith("s3://"):
        return Folder(root=Path(place))
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    prefix = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
    return Bucket(client=boto3.client("s3"), name=bucket, prefix=prefix)


def begun(shelf: Shelf) -> dict[str, set[str]]:
    """The files of each backup, oldest first."""
    found: dict[str, set[str]] = {}
    for file in shelf.files():
        name, _, of_it = file.partition("/")
        if NAME.fullmatch(name) and of_it:
            found.setdefault(name, set()).add(of_it)
    return found


def backups(shelf: Shelf) -> dict[str, set[str]]:
    """Those of them that are whole: what is put last, and removed first, says so."""
    return {name: files for name, files in begun(shelf).items() if SUMS in files}


def lying_in(work: Path) -> Path:
    """The one backup of a working folder."""
    found = [path for path in work.iterdir() if NAME.fullmatch(path.name)]
    if len(found) != 1:
        raise ShelfError(f"{work} holds {len(found)} backups, not one")
    return found[0]


def through(shelf: Shelf, work: Path) -> str:
    """Put the backup in `work` on the shelf; leave in its place what comes back from there."""
    backup = lying_in(work)
    for path in sorted(backup.iterdir(), key=lambda path: path.name == SUMS):
        shelf.put(path, f"{backup.name}/{path.name}")
    shutil.rmtree(backup)
    return get(shelf, work, backup.name)


def get(shelf: Shelf, work: Path, name: str | None) -> str:
    """Bring a backup into `work`: the newest that was verified, if none is named."""
    there = backups(shelf)
    if name is None:
        verified = [one for one, files in there.items() if VERIFIED in files]
        name = max(verified, default=None)
    if name is None or name not in there:
        raise ShelfError(f"no such backup: {name}" if name else "no backup was ever verified")
    (work / name).mkdir()
    for file in there[name]:
        shelf.get(f"{name}/{file}", work / name / file)
    return name


def keep(shelf: Shelf, work: Path, most: int) -> list[str]:
    """Note that the backup in `work` was verified; return what had to go for it.

    No verified one goes while there are no more than `most`. What was never verified, or is not
    whole, goes once a later one has been verified.
    """
    backup = lying_in(work)
    note = backup / VERIFIED
    note.touch()
    shelf.put(note, f"{backup.name}/{VERIFIED}")

    there = begun(shelf)
    verified = [name for name, files in there.items() if {SUMS, VERIFIED} <= files]
    kept = {*verified[-most:], *(name for name in there if name > backup.name)}
    gone = [name for name in there if name not in kept]
    for name in gone:
        for file in sorted(there[name], key=lambda file: file != SUMS):
            shelf.remove(f"{name}/{file}")
    return gone


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do one of these; 1 with the reason when it cannot be done."""
    parser = argparse.ArgumentParser(description="Keep backups.")
    parser.add_argument("command", choices=["through", "keep", "get", "list"])
    parser.add_argument("work", nargs="?", type=Path)
    parser.add_argument("name", nargs="?")
    args = parser.parse_args(argv)
    if args.command != "list" and args.work is None:
        parser.error("which working folder?")
    try:
        shelf = shelf_at(environ["BACKUP_SHELF"])
        match args.command:
            case "through":
                print("shelf: kept and brought back", through(shelf, args.work))
            case "keep":
                gone = keep(shelf, args.work, int(environ["BACKUP_KEEP"]))
                print("shelf: verified;", f"removed {', '.join(gone)}" if gone else "all stay")
            case "get":
                print("shelf: brought", get(shelf, args.work, args.name or None))
            case _:
                for name, files in backups(shelf).items():
                    print(name, "verified" if VERIFIED in files else "not verified")
    except (ShelfError, OSError, BotoCoreError, Boto3Error, ClientError) as exc:
        print(f"shelf: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
