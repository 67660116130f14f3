"""Writes README.md of every chart with helm-docs; with `--check` it only says which are stale.

helm-docs reads comments that begin with two dashes. Ours in values.yaml are plain, as people write
them, so it is given a copy in which the comment right above a value begins so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
TEMPLATE: Final = HERE / "README.md.gotmpl"
#: The first line of comments, and the value right below the last of them.
TOLD: Final = re.compile(r"^( *)# (?=.*\n(?:\1#.*\n)*\1[A-Za-z])")


def marked(values: str) -> str:
    """The text of values.yaml with its comments as helm-docs reads them."""
    made, inside = [], False
    for start in (0, *(found.end() for found in re.finditer("\n", values))):
        line = values[start:].partition("\n")[0]
        told = None if inside else TOLD.match(values[start:])
        made.append(line.replace("# ", "# -- ", 1) if told else line)
        inside = line.lstrip().startswith("#")
    return "\n".join(made)


def documents(folder: Path) -> dict[Path, str]:
    """README.md of each chart, by where it belongs."""
    charts = [path.parent for path in sorted(HERE.glob("*/values.yaml"))]
    for chart in charts:
        copy = folder / chart.name
        copy.mkdir()
        shutil.copy(chart / "Chart.yaml", copy)
        (copy / "values.yaml").write_text(marked((chart / "values.yaml").read_text()))
    shutil.copy(TEMPLATE, folder)
    subprocess.run(  # noqa: S603 # nothing of it comes from outside
        [
            *("helm-docs", "--chart-search-root", str(folder), "--log-level", "warning"),
            *("--sort-values-order", "file", "--template-files", str(folder / TEMPLATE.name)),
        ],
        check=True,
    )
    return {
        chart / "README.md": (folder / chart.name / "README.md").read_text().strip() + "\n"
        for chart in charts
    }


def main(argv: Sequence[str]) -> int:
    """Write all, or say which are stale."""
    with tempfile.TemporaryDirectory() as folder:
        found = documents(Path(folder))
    stale = [path for path, text in found.items() if not path.exists() or path.read_text() != text]
    if "--check" in argv:
        for path in stale:
            print(f"{path.relative_to(HERE)} is stale: make chart-docs")
        return 1 if stale else 0
    for path in stale:
        path.write_text(found[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
